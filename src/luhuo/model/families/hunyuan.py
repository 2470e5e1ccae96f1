"""Hunyuan: the dense models (0.5B to 7B) and those with experts (A13B), keys and queries normalised after rotation."""

from __future__ import annotations

from collections.abc import Iterator
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
from luhuo.model.families.experts import expert_links, read_experts, sparse_links
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("HunYuanDenseV1ForCausalLM", "HunYuanMoEV1ForCausalLM")
ONLY = {"mlp_bias": False, "use_cla": False, "use_qk_norm": True, "norm_topk_prob": True}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Hunyuan")
    bias = bool(values.get("attention_bias"))
    return {
        **llama_fields(_stretched(values)),
        "qk_norm": "head",
        "qk_norm_after_rope": True,
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("hidden_act", "silu")),
        "moe": _read_experts(values) if "HunYuanMoEV1ForCausalLM" in values["architectures"] else None,
    }


def _stretched(values: Values) -> Values:
    """Settings in which a fixed `alpha` of “dynamic” scaling is taken into the base: its frequencies never change."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    alpha = rope.get("alpha")
    if not alpha:
        return values
    dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    theta = rope.get("rope_theta") or values.get("rope_theta") or 10_000.0
    return {**values, "rope_parameters": {"rope_theta": theta * alpha ** (dim / (dim - 2))}}


def _read_experts(values: Values) -> Any:
    inner = _same_everywhere(values, "moe_intermediate_size", values["intermediate_size"])
    shared = _same_everywhere(values, "num_shared_expert", 1) if values.get("use_mixed_mlp_moe", True) else 0
    keys = {"router_aux_loss_coef": "balance"}
    return read_experts(
        values,
        keys,
        experts=_same_everywhere(values, "num_experts", 1),
        active=_same_everywhere(values, "moe_topk", 1),
        intermediate_size=inner,
        shared_size=shared * values["intermediate_size"],
    )


def _same_everywhere(values: Values, key: str, default: int) -> int:
    """A number that may be given for each layer, but has to be the same in all."""
    found = values.get(key)
    if found is None:
        return default
    numbers = set(found[: values["num_hidden_layers"]]) if isinstance(found, list) else {found}
    if len(numbers) != 1:
        raise LuhuoError(
            tr(f"{key} differs between layers, which is not supported.", f"不支持各层不同的 {key}。"), found=found
        )
    return numbers.pop()


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    values = {
        "model_type": "hunyuan_v1_dense",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "use_qk_norm": True,
    }
    if config.moe is None:
        return values
    moe = config.moe
    return {
        **values,
        "architectures": [ARCHITECTURES[1]],
        "model_type": "hunyuan_v1_moe",
        "num_experts": moe.experts,
        "moe_topk": moe.active,
        "moe_intermediate_size": moe.intermediate_size,
        "use_mixed_mlp_moe": moe.shared_size > 0,
        "num_shared_expert": moe.shared_size // config.intermediate_size,
        "norm_topk_prob": True,
        "router_aux_loss_coef": moe.balance,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, _experts, attention=_attention)


def _attention(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    yield from attention_links(config, ours, theirs)
    yield same(ours + "q_norm.weight", theirs + "query_layernorm.weight")
    yield same(ours + "k_norm.weight", theirs + "key_layernorm.weight")


def _experts(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    return expert_links(config, ours, theirs, router="gate.wg", shared="shared_mlp.")
