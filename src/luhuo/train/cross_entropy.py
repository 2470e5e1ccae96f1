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
        training = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if training else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if training else None
        grad_bias = None if bias is None or not training else torch.zeros_like(bias, dtype=torch.float32)
        size = min(_filled(len(targets)), chunk_rows(weight.shape[0], hidden.device.type))
        scores = torch.empty(size, weight.shape[0], dtype=hidden.dtype, device=hidden.device)
        for start in range(0, len(targets), max(1, size)):
            h, target = hidden[start : start + size], targets[start : start + size, None]
            count = len(h)
            rows = _filled(count)
            if rows > count:
                h = torch.cat([h, h.new_zeros(rows - count, h.shape[1])])
            logits = torch.mm(h, matrix.t(), out=scores[:rows])
            if bias is not None:
                logits += bias.to(logits.dtype)
            logits[count:] = 0
            total += _losses(logits[:count], target, training, grad_bias).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            grad_hidden[start : start + size] = torch.mm(logits, matrix)[:count]
            _add_product(grad_weight, logits, h)
        ctx.gradients = (grad_hidden, grad_weight, grad_bias) if training else None
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, Tensor | None]:
        (grad_hidden, grad_weight, grad_bias), ctx.gradients = ctx.gradients, None
        scale = gradients[0]
        of_bias = None if grad_bias is None else grad_bias.mul_(scale).to(ctx.weight_dtype)
        return (
            grad_hidden.mul_(scale.to(grad_hidden.dtype)),
            grad_weight.mul_(scale).to(ctx.weight_dtype),
            None,
            of_bias,
        )


def _losses(logits: Tensor, target: Tensor, training: bool, grad_bias: Tensor | None) -> Tensor:
    """Losses (n, 1) fp32 of logits (n, V) and targets (n, 1); in training the logits become their own gradients.

    Their sums are added to `grad_bias` (V,). A few rows are held in fp32 at a time.
    """
    losses = torch.empty(len(logits), 1, dtype=torch.float32, device=logits.device)
    size = BLOCK if logits.device.type == "cpu" else len(logits)
    for start in range(0, len(logits), size):
        rows, wanted = logits[start : start + size], target[start : start + size]
        share = torch.softmax(rows.float(), -1)
        top, place = rows.max(-1, keepdim=True)
        # log-sum-exp from the largest share, which is never too small for a logarithm
        losses[start : start + size] = top.float() - share.gather(1, place).log() - rows.gather(1, wanted).float()
        if training:
            rows.copy_(share.scatter_add_(1, wanted, share.new_full(wanted.shape, -1.0)))
            if grad_bias is not None:
                grad_bias += share.sum(0)
    return losses


def _add_product(total: Tensor, slope: Tensor, hidden: Tensor) -> None:
    """total (V, C) fp32 += slopeᵀ (V, n) · hidden (n, C), without holding all of the product."""
    size = VOCABULARY if total.device.type == "cpu" else len(total)
    for start in range(0, len(total), size):
        total[start : start + size] += torch.mm(slope[:, start : start + size].t(), hidden)


def _filled(rows: int) -> int:
    return -(-rows // MULTIPLE) * MULTIPLE


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sum of -log softmax(hidden · weightᵀ + bias)[target]: hidden (n, C), weight (V, C), targets (n,) int64, bias
    (V,) → fp32 scalar.

    Weight and bias may be fp32 while `hidden` is bf16. Differentiable once, with respect to all but the targets: the
    gradients are given away, and a second backward pass raises `TypeError`.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, bias)  # type: ignore[return-value]
