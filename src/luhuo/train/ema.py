"""An exponential moving average of the weights: a smoother model for free (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from luhuo.train.parallel import reshard
from luhuo.train.pieces import local


class Average:
    """average ← decay · average + (1 - decay) · weights after every step, with the decay growing at the start.

    The decay of step t is min(decay, (1 + t) / (10 + t)), so that the random start is forgotten quickly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        named = dict(model.named_parameters())
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        now = [local(named[name].detach()) for name in self.weights]
        kept = [local(weight) for weight in self.weights.values()]
        torch._foreach_lerp_(kept, now, share)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, for a while."""
        before = self._put(model, self.weights)
        try:
            yield
        finally:
            self._put(model, before)

    def keep(self, model: nn.Module) -> None:
        """Give the model the averaged weights for good."""
        self._put(model, self.weights)

    @staticmethod
    @torch.no_grad()
    def _put(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        reshard(model)
        named = dict(model.named_parameters())
        before = {name: named[name].detach().clone() for name in weights}
        for name, weight in weights.items():
            local(named[name]).copy_(local(weight))
        return before
