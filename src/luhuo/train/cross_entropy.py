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

from luhuo.kernels import fused

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


BLOCK = 64
"""Rows whose softmax is taken at a time on a CPU: 512 rows of 49,152 would be 100 MB in fp32, twice."""
VOCABULARY = 8192
"""Rows of the weight's gradient that are computed at a time on a CPU."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
        matrix = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for_hidden, for_weight, _, for_bias = ctx.needs_input_grad
        training = for_hidden or for_weight or for_bias
        of_hidden = torch.empty_like(hidden) if for_hidden else None
        of_weight = WeightGradient(weight, hidden) if for_weight else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and for_bias else None
        size = min(filled(len(targets)), chunk_rows(weight.shape[0], hidden.device.type))
        scores = torch.empty(size, weight.shape[0], dtype=hidden.dtype, device=hidden.device)
        losses_of = _compiled_losses if fused.usable(hidden) else _losses
        for start in range(0, len(targets), max(1, size)):
            h, target = hidden[start : start + size], targets[start : start + size]
            count = len(h)
            rows = filled(count)
            if rows > count:
                h = torch.cat([h, h.new_zeros(rows - count, h.shape[1])])
            logits = torch.mm(h, matrix.t(), out=scores[:rows])
            if bias is not None:
                logits += bias.to(logits.dtype)
            logits[count:] = 0
            total += losses_of(logits[:count], target, training).sum()
            if of_hidden is not None:
                of_hidden[start : start + size] = torch.mm(logits, matrix)[:count]
            if of_weight is not None:
                of_weight.add_product(logits, h)
            if of_bias is not None:
                of_bias += logits.sum(0, dtype=torch.float32)
        ctx.gradients = (of_hidden, None if of_weight is None else of_weight.total, of_bias) if training else None
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (of_hidden, of_weight, of_bias), ctx.gradients = ctx.gradients, None
        scale = gradients[0]
        return (
            None if of_hidden is None else of_hidden.mul_(scale.to(of_hidden.dtype)),
            None if of_weight is None else of_weight.mul_(scale).to(ctx.weight_dtype),
            None,
            None if of_bias is None else of_bias.mul_(scale).to(ctx.weight_dtype),
        )


def _losses(logits: Tensor, targets: Tensor, training: bool) -> Tensor:
    """Losses (n, 1) fp32 of logits (n, V) and targets (n,); in training the logits become their own gradients.

    A few rows are held in fp32 at a time.
    """
    losses = torch.empty(len(logits), 1, dtype=torch.float32, device=logits.device)
    size = BLOCK if logits.device.type == "cpu" else len(logits)
    for start in range(0, len(logits), size):
        rows, wanted = logits[start : start + size], targets[start : start + size, None]
        share = torch.softmax(rows.float(), -1)
        top, place = rows.max(-1, keepdim=True)
        # log-sum-exp from the largest share, which is never too small for a logarithm
        losses[start : start + size] = top.float() - share.gather(1, place).log() - rows.gather(1, wanted).float()
        if training:
            rows.copy_(share.scatter_add_(1, wanted, share.new_full(wanted.shape, -1.0)))
    return losses


def _compiled_losses(logits: Tensor, targets: Tensor, training: bool) -> Tensor:
    """The same (n,), without any copy of the logits."""
    if int(targets.max()) >= logits.shape[1] or int(targets.min()) < 0:
        raise IndexError(f"a target lies outside the vocabulary of {logits.shape[1]}")
    return fused.cross_entropy(logits, targets, slopes=training)


class WeightGradient:
    """The weight's gradient (V, C) in fp32, to which each chunk adds. It is not cleared first where that is saved."""

    def __init__(self, weight: Tensor, hidden: Tensor) -> None:
        self.compiled = fused.usable(hidden) and len(hidden) > 0
        make = torch.empty if self.compiled else torch.zeros
        self.total = make(weight.shape, dtype=torch.float32, device=weight.device)
        self.empty = True

    def add_product(self, slope: Tensor, hidden: Tensor) -> None:
        """Add slopeᵀ (V, n) · hidden (n, C), without holding all of the product."""
        size = VOCABULARY if self.total.device.type == "cpu" else len(self.total)
        for start in range(0, len(self.total), size):
            product = torch.mm(slope[:, start : start + size].t(), hidden)
            if self.compiled:
                fused.accumulate(self.total[start : start + size], product, more=not self.empty)
            else:
                self.total[start : start + size] += product
        self.empty = False


def filled(rows: int) -> int:
    """So many rows, and those of zeros behind them."""
    return -(-rows // MULTIPLE) * MULTIPLE


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sum of -log softmax(hidden · weightᵀ + bias)[target]: hidden (n, C), weight (V, C), targets (n,) int64, bias
    (V,) → fp32 scalar.

    Weight and bias may be fp32 while `hidden` is bf16. Differentiable once, with respect to all but the targets: the
    gradients are given away, and a second backward pass raises `TypeError`.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, bias)  # type: ignore[return-value]
