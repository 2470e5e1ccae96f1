"""Mixture of experts without dropped tokens: routing, the experts' products, and what keeps their load even.

Shapes: N tokens, C hidden size, E experts, k experts a token, I inner width of an expert, M = N · k rows at work.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.model.layers import ACTIVATIONS, MLP, Linear, swiglu
from luhuo.model.recompute import repeating

if TYPE_CHECKING:
    from luhuo.model.config import Activation, ModelConfig, MoEConfig


class Router(nn.Module):
    """Chooses k experts for each token, and the weights their answers get. Computed in fp32."""

    def __init__(self, config: ModelConfig, moe: MoEConfig) -> None:
        super().__init__()
        self.moe = moe
        self.weight = nn.Parameter(torch.empty(moe.experts, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(moe.experts)) if moe.router_bias else None
        # Moved by `MoE.update_balance`, never by a gradient.
        self.correction = nn.Parameter(torch.zeros(moe.experts), requires_grad=False) if moe.correction else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move like any module, but keep the correction in fp32: bf16 would swallow its small steps."""
        before = None if self.correction is None else self.correction.detach()
        super()._apply(fn, recurse)
        if before is not None and self.correction is not None and self.correction.dtype != before.dtype:
            device = self.correction.device
            self.correction.data = torch.empty_like(before, device=device) if before.is_meta else before.to(device)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (N, k), chosen experts (N, k) and scores (N, E) of tokens (N, C)."""
        logits = F.linear(x.float(), self.weight.float(), None if self.bias is None else self.bias.float())
        if self.moe.router_softcap:
            logits = self.moe.router_softcap * torch.tanh(logits / self.moe.router_softcap)
        return choose(logits, self.moe, self.correction)


def choose(logits: Tensor, moe: MoEConfig, correction: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (N, k), chosen experts (N, k) and scores (N, E) for router logits (N, E).

    Softmax over all experts (Shazeer et al. 2017) or a sigmoid for each (DeepSeek-V3, section 2.1.2); the correction
    counts in the choice only. With groups, the experts of the best `active_groups` compete (DeepSeek-V2, section
    2.1.3: a group is as good as its best expert; V3: as the sum of its best two).
    """
    if moe.score == "sparsemixer":
        return _sparsemixer(logits, moe)
    scores = torch.softmax(logits, -1) if moe.score == "softmax" else torch.sigmoid(logits)
    with torch.no_grad():
        wanted = scores if correction is None else scores + correction.float()
        if moe.groups > moe.active_groups:
            groups = wanted.unflatten(-1, (moe.groups, -1))
            best = groups.amax(-1) if moe.group_score == "max" else groups.topk(2, -1).values.sum(-1)
            kept = torch.zeros_like(best, dtype=torch.bool)
            kept.scatter_(1, best.topk(moe.active_groups, -1).indices, True)
            wanted = groups.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(-2)
        chosen = wanted.topk(moe.active, -1).indices
    weights = scores.gather(1, chosen)
    if moe.normalise:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return weights * moe.scale, chosen, scores


def _sparsemixer(logits: Tensor, moe: MoEConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The choice of Phi-3.5-MoE (Liu et al. 2023, "Sparse Backpropagation for MoE Training"), without its sampling.

    One expert after the other is chosen; its weight is its share among those left that come near it in relation to
    their size. The weights of different experts do not add up to one.
    """
    left, weights, chosen = logits, [], []
    for _ in range(moe.active):
        best, index = left.max(-1, keepdim=True)
        far = (best - logits) / torch.maximum(logits.abs(), best) > 2 * moe.jitter
        weights.append(left.masked_fill(far, -torch.inf).softmax(-1).gather(1, index))
        chosen.append(index)
        left = left.scatter(1, index, -torch.inf)
    return torch.cat(weights, 1) * moe.scale, torch.cat(chosen, 1), torch.softmax(logits, -1)


class ExpertMatrices(nn.Module):
    """Matrices (rows, columns) of equal shape, one for each expert, that stand in the place of a parameter."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many."""

    @abc.abstractmethod
    def grouped(self, x: Tensor, counts: Tensor) -> Tensor:
        """x (M, columns) times one of them: the first counts[0] rows the first, and so on: (M, rows)."""


class Experts(nn.Module):
    """The routed experts: gated MLPs, one behind the other in three-dimensional parameters or `ExpertMatrices`s."""

    gate_up: nn.Parameter | ExpertMatrices
    down: nn.Parameter | ExpertMatrices

    def __init__(self, config: ModelConfig, moe: MoEConfig) -> None:
        super().__init__()
        hidden, inner, count = config.hidden_size, moe.intermediate_size, moe.experts
        self.gate_up = nn.Parameter(torch.empty(count, 2 * inner, hidden))
        self.down = nn.Parameter(torch.empty(count, hidden, inner))
        self.gate_up_bias = nn.Parameter(torch.zeros(count, 2 * inner)) if moe.expert_bias else None
        self.down_bias = nn.Parameter(torch.zeros(count, hidden)) if moe.expert_bias else None
        self.activation: Activation = config.activation
        self.limit = moe.limit

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the chosen experts' answers: x (N, C), chosen and weights (N, k) give (N, C).

        The rows are sorted by expert, so that each expert multiplies all its rows at once.
        """
        flat = chosen.flatten()
        order = flat.argsort(stable=True)  # work rows in the experts' order
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        experts = flat[order]
        # Not `bincount`, which waits for the GPU to tell the largest number.
        ends = torch.searchsorted(experts, torch.arange(len(self.gate_up), device=flat.device), right=True)
        counts = ends.diff(prepend=ends.new_zeros(1))
        rows = _Spread.apply(x, order, back, chosen.shape[1])
        inner = self._activated(_add_bias(_grouped(rows, self.gate_up, counts), self.gate_up_bias, experts))
        answers = _add_bias(_grouped(inner, self.down, counts), self.down_bias, experts)
        answers = _Spread.apply(answers, back, order, 1).view(*chosen.shape, -1)  # type: ignore[union-attr]
        return torch.einsum("nk,nkc->nc", weights.to(answers.dtype), answers)

    def _activated(self, both: Tensor) -> Tensor:
        if self.activation == "silu" and not self.limit:
            return swiglu(both)
        gate, up = both.chunk(2, -1)
        if self.limit:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit) + 1
        return ACTIVATIONS[self.activation](gate) * up


def _add_bias(x: Tensor, bias: Tensor | None, experts: Tensor) -> Tensor:
    return x if bias is None else x + bias.to(x.dtype)[experts]


class _Spread(torch.autograd.Function):
    """Rows of x (N, C), each `copies` times, in the order given: row m is x[order[m] // copies].

    The plain index has a gradient that adds rows with atomic operations, in any order; here the copies of a row are
    gathered side by side and summed, which is the same on every run.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.copies = copies
        return x[order // copies]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = ctx.saved_tensors
        slope = gradients[0][back]
        if ctx.copies > 1:
            slope = slope.unflatten(0, (-1, ctx.copies)).sum(1)
        return slope, None, None, None


def _grouped(x: Tensor, matrices: Tensor | ExpertMatrices, counts: Tensor) -> Tensor:
    return matrices.grouped(x, counts) if isinstance(matrices, ExpertMatrices) else grouped_linear(x, matrices, counts)


def grouped_linear(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """x (M, columns) times one of weight (E, rows, columns): the first counts[0] rows the first, and so on."""
    weight = weight.to(x.dtype)
    if _has_grouped_product(x, weight):
        return F.grouped_mm(x, weight.mT, offs=counts.cumsum(0).to(torch.int32))
    return _GroupedLinear.apply(x, weight, counts.tolist())  # type: ignore[return-value]


def _has_grouped_product(x: Tensor, weight: Tensor) -> bool:
    """PyTorch's kernel is fast in bf16 on CUDA from Ampere on; rows and columns are multiples of 16 bytes."""
    if not x.is_cuda or x.dtype != torch.bfloat16 or weight.shape[1] % 8 or weight.shape[2] % 8:
        return False
    return torch.cuda.get_device_capability(x.device) >= (8, 0)


class _GroupedLinear(torch.autograd.Function):
    """One product for each expert that has rows. Each gradient is written where it belongs, once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.counts = counts
        result = x.new_empty(x.shape[0], weight.shape[1])
        for expert, a, b in ranges(counts):
            torch.mm(x[a:b], weight[expert].mT, out=result[a:b])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        slope, weight_slope = torch.empty_like(x), torch.zeros_like(weight)
        for expert, a, b in ranges(ctx.counts):
            torch.mm(gradient[a:b], weight[expert], out=slope[a:b])
            torch.mm(gradient[a:b].mT, x[a:b], out=weight_slope[expert])
        return slope, weight_slope, None


def ranges(counts: list[int]) -> list[tuple[int, int, int]]:
    """(expert, first row, end) of every expert that has rows."""
    found, start = [], 0
    for expert, count in enumerate(counts):
        if count:
            found.append((expert, start, start + count))
        start += count
    return found


class MoE(nn.Module):
    """Routed experts, and one that all tokens use where the model has it.

    In training mode it keeps the auxiliary loss of the last forward pass, and counts the tokens each expert got.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        moe = config.moe
        assert moe is not None
        self.moe = moe
        self.router = Router(config, moe)
        self.experts = Experts(config, moe)
        self.shared = MLP(config, moe.shared_size) if moe.shared_size else None
        self.shared_gate = Linear(config.hidden_size, 1) if moe.shared_gate else None
        self.counts = True  # a pass that is repeated must know that it is
        self.auxiliary: Tensor | None = None
        """Balancing loss of the last forward pass in training mode, unweighted: (B,), or (1,) over the whole batch."""
        self.load: Tensor | None = None
        """Tokens each expert got in training mode since the last `update_balance` (E,) int64."""

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """x (B, T, C) gives (B, T, C). Tokens that are not `real` (B, T) bool count in no statistic."""
        flat = x.flatten(0, 1)
        weights, chosen, scores = self.router(flat)
        if self.training:
            self._watch(chosen, scores, x.shape[0], real)
        mixed = self.experts(flat, chosen, weights).view(x.shape)
        if self.shared is None:
            return mixed
        common = self.shared(x)
        if self.shared_gate is not None:
            common = torch.sigmoid(self.shared_gate(x)) * common
        return mixed + common

    def _watch(self, chosen: Tensor, scores: Tensor, batch: int, real: Tensor | None) -> None:
        """Count loads, and take the balancing loss if the model has one."""
        picked = torch.zeros_like(scores).scatter_(1, chosen, 1.0)
        present = None if real is None else real.reshape(-1, 1).to(scores.dtype)
        if present is not None:
            picked = picked * present
        loss = None
        if self.moe.balance:
            whole = self.moe.balance_over == "batch"
            loss = balance_loss(picked, scores, present, 1 if whole else batch)
            loss = loss if whole else loss / self.moe.active
        if repeating():  # the first time was counted, and its loss is the one that has a gradient
            return
        load = picked.detach().sum(0).long()
        self.load = load if self.load is None else self.load + load
        self.auxiliary = loss

    @torch.no_grad()
    def update_balance(self, speed: float) -> None:
        """Move the correction against the load since the last call (DeepSeek-V3, section 2.1.2), and forget the load.

        correction += speed · sign(mean load - load). To be called after each optimiser step, with loads of all ranks.
        """
        correction = self.router.correction
        if self.load is not None and correction is not None:
            load = self.load.float()
            correction.add_(torch.sign(load.mean() - load).to(correction.dtype), alpha=speed)
        self.load = None


def balance_loss(picked: Tensor, scores: Tensor, present: Tensor | None, sequences: int) -> Tensor:
    """E · Σ f·p over the experts within each of `sequences` (1: over all tokens): (sequences,).

    f: share of tokens an expert got (picked: (N, E), 1 where chosen); p: mean of its scores (N, E), made to add up to
    one a token. It is k for an even load (Fedus et al. 2021, equation 4, with k experts a token, as Mixtral has it).
    """
    probability = scores / (scores.sum(-1, keepdim=True) + 1e-20)
    if present is not None:
        probability = probability * present
    picked, probability = picked.unflatten(0, (sequences, -1)), probability.unflatten(0, (sequences, -1))
    if present is None:
        return picked.shape[2] * (picked.mean(1) * probability.mean(1)).sum(1)
    tokens = present.view(sequences, -1, 1).sum(1).clamp(min=1)
    return picked.shape[2] * (picked.sum(1) / tokens * probability.sum(1) / tokens).sum(1)
