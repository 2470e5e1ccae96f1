"""Hidden states and attention like the teacher's.

States (Jiao et al. 2020, "TinyBERT", equation 8): the squared difference of the teacher's states and a learned linear
image of the student's, where their widths differ; a mean over the features. The images are thrown away at the end.
Scores (equation 7): the squared difference of queries · keys before the softmax, a mean over heads and visible keys.
Relations (Wang et al. 2021, "MiniLMv2", section 3.1): KL divergence of the softmaxes of queries with queries, keys
with keys and values with values, all heads laid together and split anew into as many as both models divide into, so
that neither widths nor numbers of heads have to agree.

Everything is a sum over the tokens that were read, with the same weight for each, so that neither packing nor the
split into micro-batches changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from luhuo.align.distill.config import AttentionConfig, StatesConfig
from luhuo.align.distill.recording import Reader, Record, attention_of, depth
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.model.layers import Attention, Linear
from luhuo.model.stack_attention import SelfAttention

BRIDGE = "bridge"
"""Where a student keeps the images of its states while it learns: among its modules, so that they are trained, clipped
and kept in checkpoints like all else."""


def layer_map(
    layers: Literal["uniform", "last"] | Mapping[int, int], student: int, teacher: int, first: int
) -> dict[int, int]:
    """The teacher's layer for each of the student's, where these models have so many. `first`: 0 where embeddings are
    a layer, too. uniform: layer m of M looks at layer m·N / M of N. Raises `LuhuoError` for a layer there is none of.
    """
    if layers == "last":
        return {student: teacher}
    if layers == "uniform":
        return {m: round(m * teacher / student) for m in range(first, student + 1)}
    assert not isinstance(layers, str)
    wrong = {m: n for m, n in layers.items() if not (first <= m <= student and first <= n <= teacher)}
    if wrong or not layers:
        raise LuhuoError(
            tr("A layer that is to be matched is not there.", "要匹配的层不存在。"),
            expected=tr(
                f"student's {first} to {student}, teacher's {first} to {teacher}",
                f"学生层 {first} 到 {student}，教师层 {first} 到 {teacher}",
            ),
            found=wrong or layers,
            where="layers",
        )
    return dict(layers)


class StateMatch:
    """Losses of hidden states. `student` gets what it needs to be compared with a wider or narrower teacher."""

    def __init__(self, config: StatesConfig, student: Reader, teacher: Reader, seed: int = 0) -> None:
        self.config = config
        self.layers = layer_map(config.layers, depth(student), depth(teacher), 0)
        widths = [model.config.hidden_size for model in (student, teacher)]
        if widths[0] != widths[1]:
            student.add_module(BRIDGE, _bridge(self.layers, widths[0], widths[1], seed, student.device))

    def loss(self, model: Reader, student: Record, teacher: Record, real: Tensor) -> Tensor:
        """Sum over the real tokens (rows, length) bool of the layers' mean."""
        total = torch.zeros((), device=real.device)
        for mine, theirs in self.layers.items():
            ours, wanted = student.states[mine][real], teacher.states[theirs][real].detach().float()
            bridge = getattr(model, BRIDGE, None)
            image = (ours if bridge is None else bridge[str(mine)](ours)).float()
            if self.config.loss == "mse":
                total = total + F.mse_loss(image, wanted, reduction="sum") / wanted.shape[-1]
            else:
                total = total + (1 - F.cosine_similarity(image, wanted, dim=-1)).sum()
        return total / len(self.layers)


class AttentionMatch:
    """Losses of attention. `causal`: nobody looks at later tokens."""

    def __init__(self, config: AttentionConfig, student: Reader, teacher: Reader, *, causal: bool) -> None:
        self.config, self.causal = config, causal
        self.layers = layer_map(config.layers, depth(student), depth(teacher), 1)
        scores = config.kind == "scores"
        heads = [_heads(model) for model in (student, teacher)]
        self.heads = config.relation_heads or heads[0][1]
        for mine, theirs in self.layers.items():
            attention_of(student, mine, whole_score=scores)
            attention_of(teacher, theirs, whole_score=scores)
        if scores and heads[0][0] != heads[1][0]:
            raise LuhuoError(
                tr("Attention scores are matched head by head.", "注意力分数是逐头匹配的。"),
                expected=tr(f"{heads[1][0]} heads, as the teacher", f"{heads[1][0]} 个头，与教师相同"),
                found=heads[0][0],
                where="attention.kind",
                fix="attention: {kind: relations}",
            )
        sizes = [count * size for query, key, size in heads for count in (query, key)]
        if not scores and any(size % self.heads for size in sizes):
            raise LuhuoError(
                tr("Both models must divide into the heads of the relations.", "两个模型都须能整除关系的头数。"),
                expected=tr(f"a divisor of {sorted(set(sizes))}", f"{sorted(set(sizes))} 的公约数"),
                found=self.heads,
                where="attention.relation_heads",
            )

    def loss(self, student: Record, teacher: Record, segments: Tensor) -> Tensor:
        """Sum over the tokens of `segments` (rows, length) that are no padding of the layers' mean."""
        total = torch.zeros((), device=segments.device)
        compared = self._scores if self.config.kind == "scores" else self._relations
        for mine, theirs in self.layers.items():
            with torch.no_grad():
                wanted = teacher.queries_keys_values(theirs)
            ours = student.queries_keys_values(mine)
            windows = [record.inputs[at][0].window for record, at in ((student, mine), (teacher, theirs))]
            scales = [_scale(record.inputs[at][0]) for record, at in ((student, mine), (teacher, theirs))]
            window = min((w for w in windows if w), default=0)
            for row in range(len(segments)):  # one row of pairs of tokens at a time, and made again for the gradient
                parts = [one[row] for one in (*ours, *wanted)]
                visible = self._visible(segments[row], window if self.config.kind == "scores" else 0)
                total = total + checkpoint(compared, visible, scales, *parts, use_reentrant=False)
        return total / len(self.layers)

    def _visible(self, segments: Tensor, window: int) -> Tensor:
        """(T, T) bool: which tokens a token may look at."""
        visible = (segments[:, None] == segments) & (segments != 0)
        places = torch.arange(len(segments), device=segments.device)
        distance = places[:, None] - places
        if self.causal:
            visible = visible & (distance >= 0)
        return visible & (distance.abs() < window) if window else visible

    def _scores(self, visible: Tensor, scales: list[float], *parts: Tensor) -> Tensor:
        """Of queries (H, T, D) and keys (K, T, D) of both: mean over heads and keys, sum over tokens."""
        ours, theirs = (
            (query.float() @ key.float().repeat_interleave(len(query) // len(key), 0).mT) * scale
            for query, key, scale in ((parts[0], parts[1], scales[0]), (parts[3], parts[4], scales[1]))
        )
        difference = torch.where(visible, (ours - theirs).square().mean(0), 0.0)
        return (difference.sum(-1) / visible.sum(-1).clamp(min=1)).sum()

    def _relations(self, visible: Tensor, scales: list[float], *parts: Tensor) -> Tensor:
        """Of queries, keys and values of both: mean over the three and their heads, sum over tokens."""
        real = visible.any(-1)
        total = torch.zeros((), device=visible.device)
        for ours, theirs in zip(parts[:3], parts[3:], strict=True):
            mine, wanted = (self._relation(part, visible, real) for part in (ours, theirs))
            total = total + (wanted.exp() * (wanted - mine)).sum() / (3 * self.heads)
        return total

    def _relation(self, part: Tensor, visible: Tensor, real: Tensor) -> Tensor:
        """Log-probabilities (heads, real tokens, T) of who is like whom; 0 where nobody may look."""
        heads, time, size = part.shape
        laid = part.float().transpose(0, 1).reshape(time, self.heads, -1).transpose(0, 1)
        scores = laid @ laid.mT / (heads * size / self.heads) ** 0.5
        found = scores.masked_fill(~visible, -torch.inf)[:, real].log_softmax(-1)
        return found.masked_fill(~visible[real], 0.0)


def _bridge(layers: Mapping[int, int], student: int, teacher: int, seed: int, device: torch.device) -> nn.ModuleDict:
    """One matrix for each layer; a vector keeps its length on average."""
    found = nn.ModuleDict()
    for layer in layers:
        generator = torch.Generator().manual_seed(derive_seed(seed, BRIDGE, layer))
        image = Linear(student, teacher)
        with torch.no_grad():
            image.weight.copy_(torch.randn(teacher, student, generator=generator) * student**-0.5)
        found[str(layer)] = image
    return found.to(device)


def _heads(model: Reader) -> tuple[int, int, int]:
    """Heads of queries, of keys, and their size."""
    config = model.config
    return config.heads, getattr(config, "kv_heads", config.heads), config.head_dim


def _scale(attention: Attention | SelfAttention) -> float:
    config = attention.config
    return float(config.attention_scale or config.head_dim**-0.5)
