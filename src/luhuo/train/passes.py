"""Gradients of the first batches of a run, before it begins: for methods that choose what to train by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch
from luhuo.train.prefetch import Prefetcher
from luhuo.train.ranks import Ranks


def gradient_passes(
    gradients: Gradients, loader: Prefetcher, tensors: Callable[[Any], Batch], ranks: Ranks, count: int
) -> Iterator[None]:
    """While this is gone through, the gradients of one global batch after the other lie in the parameters.

    Data and random numbers are then where they were before: the run sees every batch as if nothing had been.
    """
    place, random = loader.state(), torch.get_rng_state()
    model = gradients.model
    try:
        for _, arrays in zip(range(count), loader, strict=False):
            gradients.compute(tensors(arrays), 0)
            ranks.reduce(list(model.parameters()))
            yield
            model.zero_grad(set_to_none=True)
    finally:
        model.zero_grad(set_to_none=True)
        loader.close()
        loader.restore(place)
        torch.set_rng_state(random)
