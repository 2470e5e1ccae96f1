"""The grid of the methods of this room, which training with rounded weights shares (`luhuo.model.grid`)."""

from luhuo.model.grid import Grid, dense

__all__ = ["Grid", "dense"]
