"""Which format each tensor of a GGUF file is written in, by the name of the export's dtype.

The mixes are llama.cpp's (`llama-quant.cpp`): values and the second matrix of the feed-forward part carry most, so in
the M kinds some layers of these get more bits: the first and last eighth, and every third between them. The output
matrix, or the embedding that serves as one, gets more in all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import TensorType
from luhuo.model.config import ModelConfig

Rule = Callable[[int, int], TensorType | None]
"""Layer and number of layers to the format it gets instead of the mix' own; None: that."""

PLAIN, KEPT = "q8_0_plain", "kept"
WIDE = ("f32", "f16", "bf16")
"""Dtypes in which nothing is rounded to few bits."""
SMALL = re.compile(r"norm|ffn_gate_inp|position_embd|\.bias$")
"""Tensors that stay in float32."""
LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
ROLES = {"attn_v": "value", "attn_qkv": "value", "attn_kv_b": "value", "attn_output": "output", "ffn_down": "down"}
ROLES |= {"ffn_down_exps": "down", "ffn_down_shexp": "down"}
MANY_QUERIES = 4
"""Query heads a key head from which on 2-bit mixes spare values more bits."""


@dataclass(frozen=True)
class Mix:
    """What a dtype stands for."""

    kind: TensorType
    file_type: int
    """`general.file_type`."""
    last: TensorType | None = None
    """The output matrix, or the embedding that serves as one; None: like the others."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """By role, see `ROLES`."""


def _all(kind: TensorType) -> Rule:
    return lambda layer, count: kind


def _spread(kind: TensorType) -> Rule:
    def rule(layer: int, count: int) -> TensorType | None:
        first = count // 8
        return kind if layer < first or layer >= 7 * count // 8 or (layer - first) % 3 == 2 else None

    return rule


def _first(kind: TensorType, layers: Callable[[int], int], then: TensorType | None = None) -> Rule:
    return lambda layer, count: kind if layer < layers(count) else then


T = TensorType
MIXES: dict[str, Mix] = {
    "f32": Mix(T.F32, 0),
    "f16": Mix(T.F16, 1),
    "bf16": Mix(T.BF16, 32),
    "q8_0": Mix(T.Q8_0, 7),
    PLAIN: Mix(T.Q8_0, 7),
    "q6_k": Mix(T.Q6_K, 18, T.Q6_K),
    "q5_k_m": Mix(T.Q5_K, 17, T.Q6_K, {"value": _spread(T.Q6_K), "down": _spread(T.Q6_K)}),
    "q5_k_s": Mix(T.Q5_K, 16, T.Q6_K),
    "q5_1": Mix(T.Q5_1, 9, T.Q8_0),
    "q5_0": Mix(T.Q5_0, 8, T.Q8_0),
    "q4_k_m": Mix(T.Q4_K, 15, T.Q6_K, {"value": _spread(T.Q6_K), "down": _spread(T.Q6_K)}),
    "q4_k_s": Mix(
        T.Q4_K, 14, T.Q6_K, {"value": _first(T.Q5_K, lambda n: 4), "down": _first(T.Q5_K, lambda n: n // 8)}
    ),
    "q4_1": Mix(T.Q4_1, 3, T.Q8_0),
    "q4_0": Mix(T.Q4_0, 2, T.Q8_0),
    "q3_k_m": Mix(
        T.Q3_K,
        12,
        T.Q6_K,
        {
            "value": _first(T.Q5_K, lambda n: 2, T.Q4_K),
            "down": _first(T.Q5_K, lambda n: n // 16, T.Q4_K),
            "output": _all(T.Q4_K),
        },
    ),
    "q3_k_s": Mix(T.Q3_K, 11, T.Q6_K),
    "q2_k": Mix(T.Q2_K, 10, T.Q6_K, {"value": _all(T.Q3_K), "down": _all(T.Q3_K), "output": _all(T.Q3_K)}),
    KEPT: Mix(T.F16, 1),
}
"""By the name of the export's dtype. In "kept" what was rounded keeps its integers, all else is F16."""

NARROWER = {
    T.Q2_K: T.Q4_0, T.Q3_K: T.Q4_0, T.Q4_K: T.Q5_0, T.Q5_K: T.Q5_1, T.Q6_K: T.Q8_0,
}  # fmt: skip
"""For rows that are no multiple of 256, as llama.cpp has it."""


def mix_of(name: str) -> Mix:
    """What a dtype stands for. Raises `LuhuoError` if it is not known."""
    if name not in MIXES:
        raise LuhuoError(tr("Unknown format of weights.", "未知的权重格式。"), expected=", ".join(MIXES), found=name)
    return MIXES[name]


def stored_as(name: str, shape: tuple[int, ...], mix: Mix, config: ModelConfig, *, tied: bool) -> TensorType:
    """The format of one tensor; `tied`: the embedding is the output matrix as well."""
    if len(shape) < 2 or SMALL.search(name):
        return T.F32
    kind = mix.kind
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        kind = mix.last or kind
    elif match := LAYER.fullmatch(name):
        kind = _in_layer(mix, ROLES.get(match[2], ""), int(match[1]), config) or kind
    if shape[-1] % kind.weights:
        kind = NARROWER.get(kind, T.F16)
    return T.F16 if shape[-1] % kind.weights else kind


def _in_layer(mix: Mix, role: str, layer: int, config: ModelConfig) -> TensorType | None:
    if role not in mix.rules:
        return None
    if mix.kind == T.Q2_K and role == "value" and config.heads // config.kv_heads >= MANY_QUERIES:
        return T.Q4_K
    return mix.rules[role](layer, config.layers)
