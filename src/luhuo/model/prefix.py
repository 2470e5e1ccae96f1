"""Prefix attention (GLM, Du et al. 2022): the tokens of a prompt see one another, what follows is causal.

The prompt of a document is what stands in front of the first token `config.prefix_end`; a document without that token
is causal throughout. With two rotary axes the first position counts the prompt and then stays at that of the gap the
answer fills; the second is 0 in the prompt and counts the answer from 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luhuo.model.masks import document_numbers, document_positions


def prefix_tokens(ids: Tensor, segments: Tensor | None, end: int) -> Tensor:
    """Which of `ids` (batch, time) stand in front of the first `end` of their document: (batch, time) bool."""
    segments = torch.ones_like(ids) if segments is None else segments
    position, number = document_positions(segments), document_numbers(segments)
    first = _first(ids == end, position, number)
    return (position < first) & (first < ids.shape[1])


def prefix_positions(ids: Tensor, segments: Tensor | None, prefix: Tensor, gaps: Sequence[int]) -> Tensor:
    """Positions (batch, time, 2) for a `prefix` of `prefix_tokens`.

    The gap is the first token of a document that is in `gaps`, by their order, or else the last one of its prompt.
    """
    segments = torch.ones_like(ids) if segments is None else segments
    position, number = document_positions(segments), document_numbers(segments)
    length = torch.zeros_like(position).scatter_add(1, number, prefix.long()).gather(1, number)
    gap = length - 1
    for token in reversed(gaps):
        first = _first((ids == token) & prefix, position, number)
        gap = torch.where(first < ids.shape[1], first, gap)
    answer = (length > 0) & ~prefix
    return torch.stack([torch.where(answer, gap, position), torch.where(answer, position - length + 1, 0)], -1)


def _first(found: Tensor, position: Tensor, number: Tensor) -> Tensor:
    """For each token the position of the first `found` one of its document; the row's width where there is none."""
    width = found.shape[1]
    candidates = torch.where(found, position, width)
    least = torch.full_like(position, width).scatter_reduce(1, number, candidates, "amin")
    return least.gather(1, number)
