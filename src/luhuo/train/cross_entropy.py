"""Cross-entropy of a large output layer, without ever holding all logits.

For rows in chunks: logits, their softmax, the loss, and at once the gradients with respect to hidden states and
weight. It is one chunk instead of tokens × vocabulary, its memory is used again, and the backward pass costs one
multiplication (the idea of Liger-Kernel, Hsu et al. 2024). Chunks must not be small: the weight's gradient is added to
for each, and with 21 rows at a vocabulary of 49,152 that took four times as long as with 512 (one core).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from luhuo.kernels import fused as compiled

LARGE = 16_384
"""A vocabulary beyond this takes larger chunks, since its gradient is large too."""
MULTIPLE = 64
"""The last chunk is filled up to a multiple of this. oneDNN keeps code and buffers for every shape it ever saw: with
another number of targets in each step, fine-tuning grew by some 4 MB a step, and compiled anew each time."""


def chunk_rows(vocabulary: int, kind: str) -> int:
    """Rows of a chunk on a device of this kind (bench/train_step.py)."""
    if kind != "cpu":
        return 4096
    return 512 if vocabulary > LARGE else 256


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        matrix, of_weight = weight.to(hidden.dtype), _WeightSlope(weight, hidden) if ctx.needs_input_grad[1] else None
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = min(_filled(len(targets)), chunk_rows(weight.shape[0], hidden.device.type))
        scores = torch.empty(size, weight.shape[0], dtype=hidden.dtype, device=hidden.device)
        training = of_hidden is not None or of_weight is not None
        losses_of = _compiled_losses if compiled.usable(hidden) else _losses
        for start in range(0, len(targets), max(1, size)):
            h, target = hidden[start : start + size], targets[start : start + size]
            count = len(h)
            rows = _filled(count)
            if rows > count:
                h = torch.cat([h, h.new_zeros(rows - count, h.shape[1])])
            logits = torch.mm(h, matrix.t(), out=scores[:rows])
            total += losses_of(logits, target, training)
            if of_hidden is not None:
                of_hidden[start : start + size] = torch.mm(logits, matrix)[:count]
            if of_weight is not None:
                of_weight.add(torch.mm(logits.t(), h))
        ctx.save_for_backward(of_hidden, None if of_weight is None else of_weight.total)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_hidden, of_weight = ctx.saved_tensors
        scale = gradients[0]
        return (
            None if of_hidden is None else of_hidden.mul_(scale.to(of_hidden.dtype)),
            None if of_weight is None else of_weight.mul_(scale).to(ctx.weight_dtype),
            None,
        )


class _WeightSlope:
    """The weight's gradient (V, C), fp32, to which each chunk adds; it is not cleared first where that can be saved."""

    def __init__(self, weight: Tensor, hidden: Tensor) -> None:
        self.compiled, self.filled = compiled.usable(hidden), not len(hidden)
        make = torch.empty if self.compiled and len(hidden) else torch.zeros
        self.total = make(weight.shape, dtype=torch.float32, device=weight.device)

    def add(self, piece: Tensor) -> None:
        """Add what one chunk gives."""
        if self.compiled:
            compiled.accumulate(self.total, piece, more=self.filled)
        else:
            self.total += piece
        self.filled = True


def _losses(logits: Tensor, targets: Tensor, slopes: bool) -> Tensor:
    """Sum of the losses of logits (≥ n, V) against targets (n,); with `slopes` the logits become their gradient."""
    count, place = len(targets), targets[:, None]
    share = torch.softmax(logits.float(), -1)
    top, best = logits[:count].max(-1, keepdim=True)
    # log-sum-exp from the largest share, which is never too small for a logarithm
    losses = top.float() - share[:count].gather(1, best).log() - logits[:count].gather(1, place).float()
    if slopes:
        share[:count].scatter_add_(1, place, share.new_full(place.shape, -1.0))
        share[count:] = 0
        logits.copy_(share)
    return losses.sum()


def _compiled_losses(logits: Tensor, targets: Tensor, slopes: bool) -> Tensor:
    """The same."""
    count = len(targets)
    if int(targets.max()) >= logits.shape[1] or int(targets.min()) < 0:
        raise IndexError(f"a target lies outside the vocabulary of {logits.shape[1]}")
    losses = compiled.cross_entropy(logits[:count], targets, slopes=slopes)
    logits[count:] = 0
    return losses.sum()


def _filled(rows: int) -> int:
    return -(-rows // MULTIPLE) * MULTIPLE


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log softmax(hidden · weightᵀ)[target]: hidden (n, C), weight (V, C), targets (n,) int64 → fp32 scalar.

    The weight may be fp32 while `hidden` is bf16. Differentiable once, with respect to `hidden` and `weight`.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets)  # type: ignore[return-value]
