"""MiniMax-Text-01 and M1: lightning attention in most layers, experts, the residual taken behind the norms."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    attention_links,
    check,
    llama_fields,
    llama_values,
)
from luhuo.model.families.experts import expert_links, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link, grouped_order, permuted, same
from luhuo.model.families.mixtral import KEYS, NAMES

ARCHITECTURES = ("MiniMaxForCausalLM", "MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM")
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "router_aux_loss_coef": 0.001,
}
IGNORED = r"\.(slope_rate|query_decay|key_decay|diagonal_decay)$"
"""Tables that follow from the shape."""
ONLY = {"postnorm": True, "shared_intermediate_size": 0, "sliding_window": None}
FACTORS = {"alpha": "carry_scale", "beta": "branch_scale"}
PARTS = {"full_attn": "full_attention", "linear_attn": "linear_attention", "mlp": "mlp"}
"""Parts of a block as transformers names their factors, and as the first release did."""


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "MiniMax")
    if values.get("sliding_window"):
        check(values, {"sliding_window": 0}, "MiniMax")
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    turned = values.get("rotary_dim")
    share = {"partial_rotary_factor": turned / head_dim} if turned else {}
    return {
        **llama_fields({**share, **values}, theta=1e6),
        "carry_normed": True,
        **{ours: _factor(values, kind) for kind, ours in FACTORS.items()},
        "linear_layers": _linear_layers(values),
        "activation": activation(values.get("hidden_act", "silu")),
        "moe": read_experts(values, KEYS),
    }


def _factor(values: Values, kind: str) -> float:
    """Factor on the residual or on a branch, which must be the same for all parts of a block."""
    names = [(f"{part}_{kind}_factor", f"layernorm_{older}_{kind}") for part, older in PARTS.items()]
    found = {values.get(name, values.get(older, 1.0)) for name, older in names}
    if len(found) != 1:
        raise LuhuoError(
            tr("Different factors for the parts of a block are not supported.", "不支持块内各部分使用不同的倍数。"),
            found={name: values.get(name, values.get(older, 1.0)) for name, older in names},
        )
    return found.pop()


def _linear_layers(values: Values) -> tuple[int, ...]:
    """From `layer_types`, or `attn_type_list` (0: linear); otherwise every second one."""
    layers = range(values["num_hidden_layers"])
    if values.get("layer_types") is not None:
        return tuple(layer for layer in layers if values["layer_types"][layer] == "linear_attention")
    if values.get("attn_type_list") is not None:
        return tuple(layer for layer in layers if values["attn_type_list"][layer] == 0)
    return tuple(layers)[1::2]


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    linear = [layer in config.linear_layers for layer in range(config.layers)]
    return {
        "model_type": "minimax",
        **llama_values(config),
        **write_experts(config, KEYS),
        **{f"{part}_{kind}_factor": getattr(config, ours) for part in PARTS for kind, ours in FACTORS.items()},
        "postnorm": True,
        "hidden_act": activation_name(config.activation),
        "layer_types": ["linear_attention" if kind else "full_attention" for kind in linear],
        "rotary_dim": config.rope_dim,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, partial(expert_links, names=NAMES), feed="block_sparse_moe.", attention=_attention)


def _attention(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    if int(ours.split(".")[1]) not in config.linear_layers:
        yield from attention_links(config, ours, theirs)
        return
    order = grouped_order(config.heads, config.heads, config.head_dim)
    yield permuted(ours + "linear_qkv.weight", theirs + "qkv_proj.weight", order)
    names = {"norm": "norm", "gate": "output_gate", "out": "out_proj"}
    yield from (same(f"{ours}{own}.weight", f"{theirs}{name}.weight") for own, name in names.items())
