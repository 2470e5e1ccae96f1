"""Choosing tokens from logits: pure functions on (batch, vocab), each row with its own settings and its own chance.

A row uses one uniform number a token, turned into a token by the inverse of its cumulative distribution. What other
rows do has no influence, so a seeded request gives the same tokens in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luhuo.inference.sampling import Sampling


def choose(logits: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> Tensor:
    """Next tokens (batch,) int64 from logits (batch, vocab) and one number in [0, 1) a row (greedy rows ignore it)."""
    if all(s.greedy for s in settings):
        return logits.argmax(-1)
    best = logits.argmax(-1)
    rows = [i for i, s in enumerate(settings) if not s.greedy]
    chances = probabilities(logits[rows], [settings[i] for i in rows])
    best[rows] = inverse_cdf(chances, [uniforms[i] for i in rows])
    return best


def probabilities(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """The distribution (batch, vocab) in fp32 after temperature, top-k, top-p and min-p, in this order.

    Top-p: nucleus sampling (Holtzman et al. 2020); min-p: Nguyen et al. 2024.
    """
    logits = logits.float() / _column(logits, [s.temperature for s in settings])
    if any(s.top_k or s.top_p < 1 for s in settings):
        logits = _keep_best(logits, settings)
    chances = logits.softmax(-1)
    if any(s.min_p for s in settings):
        floor = _column(logits, [s.min_p for s in settings]) * chances.amax(-1, keepdim=True)
        chances = chances.masked_fill(chances < floor, 0)
        chances = chances / chances.sum(-1, keepdim=True)
    return chances


def inverse_cdf(chances: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Tokens (batch,) at which the running sum of `chances` (batch, vocab) first exceeds the row's number."""
    sums = chances.double().cumsum(-1)
    points = torch.tensor(uniforms, dtype=torch.float64, device=chances.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, points, right=True).squeeze(-1).clamp_max_(chances.shape[-1] - 1)


def penalise(logits: Tensor, seen: Tensor, penalties: Sequence[float]) -> Tensor:
    """Repetition penalty (Keskar et al. 2019): logits of `seen` tokens divided, or multiplied where negative."""
    penalty = _column(logits, penalties)
    changed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, changed, logits)


def _keep_best(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Minus infinity for everything outside top-k and top-p. Of equal logits the smaller id counts as better."""
    vocab = logits.shape[-1]
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(vocab, device=logits.device)
    drop = ranks >= _column(logits, [s.top_k or vocab for s in settings], torch.long)
    ordered = ordered.masked_fill(drop, -torch.inf)
    before = ordered.softmax(-1).cumsum(-1).roll(1, -1)
    before[:, 0] = 0  # the best token always stays
    drop |= before >= _column(logits, [s.top_p if s.top_p < 1 else 2.0 for s in settings])
    return logits.masked_fill(drop.gather(-1, order.argsort(-1)), -torch.inf)


def _column(like: Tensor, values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]
