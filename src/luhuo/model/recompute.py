"""Activation checkpointing: what the backward pass needs is computed again instead of kept (Chen et al. 2016).

`full` keeps what enters each block. `selective` keeps attention and computes the feed-forward part again: of a gated
block it holds most of the memory (four inner widths a token) and is cheaper to repeat than attention over long rows
(Korthikanti et al. 2022, section 5, chose by the same measure where attention held most). What is repeated sees the
same inputs and the same state of the random generators, so gradients are bit for bit those of `none`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Recompute = Literal["none", "selective", "full"]

_thread = threading.local()


def repeating() -> bool:
    """Whether this thread is computing something for the second time: statistics must not count it again."""
    return getattr(_thread, "repeating", False)


def whole_block(mode: Recompute, block: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The result of a block; with `full`, its inner activations are not kept."""
    return _repeated(block, *arguments) if mode == "full" and torch.is_grad_enabled() else block(*arguments)


def feed_forward(mode: Recompute, part: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The result of a block's feed-forward part; with `selective`, its inner activations are not kept."""
    return _repeated(part, *arguments) if mode == "selective" and torch.is_grad_enabled() else part(*arguments)


def _repeated(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if torch.compiler.is_compiling() and not getattr(function, "counts", False):
        return checkpoint(function, *arguments, use_reentrant=False)  # one graph; nobody asks whether it is repeated
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _repetition()


@contextmanager
def _repetition() -> Iterator[None]:
    _thread.repeating = True
    try:
        yield
    finally:
        _thread.repeating = False
