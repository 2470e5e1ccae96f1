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


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        matrix = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        training = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if training else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if training else None
        size = min(_filled(len(targets)), chunk_rows(weight.shape[0], hidden.device.type))
        scores = torch.empty(size, weight.shape[0], dtype=hidden.dtype, device=hidden.device)
        shares = torch.empty(scores.shape, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(targets), max(1, size)):
            h, target = hidden[start : start + size], targets[start : start + size, None]
            count = len(h)
            rows = _filled(count)
            if rows > count:
                h = torch.cat([h, h.new_zeros(rows - count, h.shape[1])])
            logits = torch.mm(h, matrix.t(), out=scores[:rows])
            share = torch.softmax(shares[:rows].copy_(logits), -1)
            top, place = logits[:count].max(-1, keepdim=True)
            # log-sum-exp from the largest share, which is never too small for a logarithm
            wanted = logits[:count].gather(1, target).float()
            total += (top.float() - share[:count].gather(1, place).log() - wanted).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            share[:count].scatter_add_(1, target, share.new_full(target.shape, -1.0))
            share[count:] = 0
            slope = logits.copy_(share)
            grad_hidden[start : start + size] = torch.mm(slope, matrix)[:count]
            grad_weight += torch.mm(slope.t(), h)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = gradients[0]
        return grad_hidden * scale.to(grad_hidden.dtype), (grad_weight * scale).to(ctx.weight_dtype), None


def _filled(rows: int) -> int:
    return -(-rows // MULTIPLE) * MULTIPLE


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log softmax(hidden · weightᵀ)[target]: hidden (n, C), weight (V, C), targets (n,) int64 → fp32 scalar.

    The weight may be fp32 while `hidden` is bf16. Differentiable once, with respect to `hidden` and `weight`.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets)  # type: ignore[return-value]
