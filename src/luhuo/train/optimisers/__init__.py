"""Optimisers: the groups parameters fall into (`groups`), one rule a file, and what puts them together."""

from luhuo.train.optimisers.optimiser import Optimiser

__all__ = ["Optimiser"]
