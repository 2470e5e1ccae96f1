"""The loss of a student against soft and hard targets, without ever holding all logits of either model.

    loss = Σ weight · (share · T²·D(teacher, student) + (1 - share) · -log q(target))

Only places with a target go through the output layers, a chunk at a time; softmaxes are in fp32, of a few rows at a
time. As in `train.cross_entropy`, the gradient is known in the forward pass but for one factor, so nothing is computed
twice and no logits are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.recording import Reader
from luhuo.align.distill.soft_targets import Block, SoftTargets
from luhuo.align.log_probs import takes_matrix
from luhuo.model.decoder import Decoder
from luhuo.train.cross_entropy import BLOCK, WeightGradient, chunk_rows, filled


@dataclass(frozen=True)
class Lesson:
    """What is to be learned at some places (n,)."""

    targets: Tensor
    """int64: the token that stands in the data."""
    weights: Tensor
    """fp32: what each place counts."""
    soft: SoftTargets
    divergence: Divergence
    share: float
    """Of the teacher in the loss; the rest is the data's."""


TOLD = ("divergence", "next_token", "agreement")
"""What is summed beside the loss, weighted: T²·D, -log q(target), and whether both models hold the same token for the
likeliest."""


def taught_loss(model: Reader, hidden: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor]:
    """(loss, sums of `TOLD` (3,) without gradient), of a student's states (n, C)."""
    if isinstance(model, Decoder) and takes_matrix(model):
        return _ByMatrix.apply(hidden, model.head_weight, lesson)  # type: ignore[return-value]
    size = chunk_rows(model.config.vocab_size, hidden.device.type)
    loss, told = hidden.sum() * 0.0, torch.zeros(len(TOLD), device=hidden.device)
    for start in range(0, len(hidden), size):
        place = slice(start, start + size)
        some, more = checkpoint(_by_head, model, hidden[place], lesson, place, use_reentrant=False)
        loss, told = loss + some, told + more
    return loss.float(), told


def _by_head(model: Reader, hidden: Tensor, lesson: Lesson, place: slice) -> tuple[Tensor, Tensor]:
    return _OfLogits.apply(model.head(hidden), lesson, place)  # type: ignore[return-value]


class _OfLogits(torch.autograd.Function):
    """The loss of one chunk of logits, whatever made them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, lesson: Lesson, place: slice) -> tuple[Tensor, Tensor]:
        slopes = logits.detach().clone()
        loss, told = _chunk_loss(slopes, lesson, place, slopes=True)
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(told)
        return loss, told

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the wrapper makes `ctx` positional
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0].to(slopes.dtype), None, None


class _ByMatrix(torch.autograd.Function):
    """The same where logits are states times one matrix: the gradients of both are made chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor]:
        for_hidden, for_weight = ctx.needs_input_grad[:2]
        matrix = weight.to(hidden.dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        told = torch.zeros(len(TOLD), device=hidden.device)
        of_hidden = torch.empty_like(hidden) if for_hidden else None
        of_weight = WeightGradient(weight, hidden) if for_weight else None
        size = min(filled(len(hidden)), chunk_rows(matrix.shape[0], hidden.device.type))
        scores = torch.empty(size, matrix.shape[0], dtype=hidden.dtype, device=hidden.device)
        for start in range(0, len(hidden), max(1, size)):
            states = hidden[start : start + size]
            count = len(states)
            place = slice(start, start + count)
            if filled(count) > count:
                states = torch.cat([states, states.new_zeros(filled(count) - count, states.shape[1])])
            logits = torch.mm(states, matrix.t(), out=scores[: len(states)])
            logits[count:] = 0
            some, more = _chunk_loss(logits[:count], lesson, place, slopes=for_hidden or for_weight)
            loss, told = loss + some, told + more
            if of_hidden is not None:
                of_hidden[place] = torch.mm(logits, matrix)[:count]
            if of_weight is not None:
                of_weight.add_product(logits, states)
        ctx.gradients = (of_hidden, None if of_weight is None else of_weight.total)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(told)
        return loss, told

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the wrapper makes `ctx` positional
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (of_hidden, of_weight), ctx.gradients = ctx.gradients, None
        scale = gradients[0]
        return (
            None if of_hidden is None else of_hidden.mul_(scale.to(of_hidden.dtype)),
            None if of_weight is None else of_weight.mul_(scale).to(ctx.weight_dtype),
            None,
        )


def _chunk_loss(logits: Tensor, lesson: Lesson, place: slice, *, slopes: bool) -> tuple[Tensor, Tensor]:
    """Weighted loss and sums of `TOLD` of one chunk; with `slopes` the logits (n, V) become their own gradients."""
    soft = lesson.soft.chunk(place)
    loss = torch.zeros((), dtype=torch.float32, device=logits.device)
    told = torch.zeros(len(TOLD), device=logits.device)
    size = BLOCK if logits.device.type == "cpu" else max(1, len(logits))
    for start in range(0, len(logits), size):
        rows = slice(start, min(start + size, len(logits)))
        some, more = _block_loss(logits[rows], lesson, soft, rows, place.start, slopes)
        loss, told = loss + some, told + more
    return loss, told


def _block_loss(
    logits: Tensor, lesson: Lesson, soft: Block, rows: slice, start: int, slopes: bool
) -> tuple[Tensor, Tensor]:
    """The same of a few rows, in fp32."""
    here = slice(start + rows.start, start + rows.stop)
    targets, weights = lesson.targets[here, None], lesson.weights[here]
    common = min(logits.shape[1], lesson.soft.vocabulary)
    student = lesson.divergence.log_softmax(logits[:, :common])
    teacher = soft(rows, student)
    divergences, soft_slopes = lesson.divergence.compare(student, teacher)
    alike = student.argmax(-1) == teacher.argmax(-1)
    plain = lesson.divergence.temperature == 1 and common == logits.shape[1]
    shares = student if plain else logits.float().log_softmax(-1)
    surprise = -shares.gather(1, targets)[:, 0]
    told = torch.stack([divergences @ weights, surprise @ weights, alike.float() @ weights])
    loss = lesson.share * told[0] + (1 - lesson.share) * told[1]
    if slopes:
        hard = shares.exp()
        hard.scatter_add_(1, targets, hard.new_full(targets.shape, -1.0))
        hard *= 1 - lesson.share
        hard[:, :common] += lesson.share * soft_slopes
        logits.copy_(hard * weights[:, None])
    return loss, told
