"""Generalised advantage estimation over packed sequences (Schulman et al. 2016, equations 11 to 16).

    δ_t = r_t + γ·V_{t+1} - V_t,    A_t = δ_t + γλ·A_{t+1},    R_t = A_t + V_t

V_{t+1} and A_{t+1} are those of the next token *that the policy chose*: what a tool or a user wrote in between is
stepped over, however long it is. Behind a sequence's last token both are zero, so that a text which ends is worth what
it was paid. All tensors are (rows, length) and aligned with `ids[:, 1:]`, as `log_probs.token_log_probs` gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def estimate(
    rewards: Tensor, values: Tensor, valid: Tensor, segments: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), both (rows, length) fp32, zero where `valid` is False.

    `rewards`, `values` (rows, length); `valid` (rows, length) bool: the policy chose this token; `segments` (rows,
    length): the sequence a token belongs to, 0 for padding. A reward that stands on a token the policy did not choose
    would be lost: none may.
    """
    rewards, values = rewards.float(), values.float()
    advantages = torch.zeros_like(values)
    later_value, later_advantage = values.new_zeros(len(values)), values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        if t + 1 < values.shape[1]:
            same = segments[:, t] == segments[:, t + 1]
            later_value, later_advantage = later_value * same, later_advantage * same
        delta = rewards[:, t] + gamma * later_value - values[:, t]
        here, chosen = delta + gamma * lam * later_advantage, valid[:, t]
        advantages[:, t] = torch.where(chosen, here, 0.0)
        later_value = torch.where(chosen, values[:, t], later_value)
        later_advantage = torch.where(chosen, here, later_advantage)
    return advantages, torch.where(valid, advantages + values, 0.0)


def last_tokens(valid: Tensor, segments: Tensor, sequences: int) -> Tensor:
    """Place of the last token the policy chose in each sequence: (rows, sequences) int64, -1 where it chose none.

    Sequence s of a row is what carries segment number s + 1.
    """
    places = torch.arange(valid.shape[1], device=valid.device).expand(valid.shape)
    found = torch.full((len(valid), sequences + 1), -1, dtype=torch.int64, device=valid.device)
    found.scatter_reduce_(1, segments.long(), torch.where(valid, places, -1), "amax")
    return found[:, 1:]


def at_last_token(scores: Tensor, valid: Tensor, segments: Tensor) -> Tensor:
    """Scores (rows, sequences) put where their sequences end: (rows, length), zero elsewhere.

    That is the token that ended the turn, or the last one there was room for. A sequence without a chosen token gets
    nothing.
    """
    last = last_tokens(valid, segments, scores.shape[1])
    placed = torch.zeros(valid.shape, dtype=torch.float32, device=valid.device)
    return placed.scatter_add_(1, last.clamp(min=0), torch.where(last >= 0, scores.float(), 0.0))


def explained_variance(values: Tensor, returns: Tensor, valid: Tensor) -> Tensor:
    """Sums from which `share_explained` tells how much of the returns' variance the critic foresaw: (5,) float64.

    Number, sum and square sum of the returns, sum and square sum of what was left over. Sums add up over processes.
    """
    chosen = returns[valid].double()
    left = chosen - values[valid].double()
    count = torch.tensor(float(chosen.numel()), dtype=torch.float64, device=values.device)
    return torch.stack([count, chosen.sum(), chosen.square().sum(), left.sum(), left.square().sum()])


def share_explained(sums: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 is a perfect critic, 0 one that knows the mean, below 0 one that misleads."""
    count, total, square, left, left_square = sums.tolist()
    if not count:
        return 0.0
    variance = square / count - (total / count) ** 2
    unexplained = left_square / count - (left / count) ** 2
    return 1.0 - unexplained / variance if variance > 1e-12 else 0.0
