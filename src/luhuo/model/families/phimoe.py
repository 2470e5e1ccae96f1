"""Phi-3.5-MoE: experts chosen one after the other, LayerNorms, biases, longrope."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, llama_fields, llama_values
from luhuo.model.families.experts import expert_links, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link
from luhuo.model.families.mixtral import KEYS, NAMES

ARCHITECTURES = ("PhimoeForCausalLM", "PhiMoEForCausalLM")
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "router_aux_loss_coef": 0.001,
}
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A window, where there is one, is in all layers."""
    check(values, ONLY, "Phi-MoE")
    window, bias = values.get("sliding_window"), bool(values.get("attention_bias"))
    jitter = values.get("router_jitter_noise", 0.01)
    return {
        **llama_fields(_scaled(values), theta=1e6),
        "norm": "layer",
        "norm_bias": True,
        "qkv_bias": bias,
        "out_bias": bias,
        "head_bias": bool(values.get("lm_head_bias")),
        "windows": (window,) * values["num_hidden_layers"] if window else (),
        "moe": read_experts(values, KEYS, score="sparsemixer", normalise=False, jitter=jitter),
    }


def _scaled(values: Values) -> Values:
    """Settings in which `short_mscale` and `long_mscale`, which must be equal, are the usual `attention_factor`."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    short, long = rope.get("short_mscale"), rope.get("long_mscale")
    if short != long:
        raise LuhuoError(
            tr(
                "Different short_mscale and long_mscale are not supported.",
                "不支持不同的 short_mscale 与 long_mscale。",
            ),
            found=f"{short} ≠ {long}",
        )
    return values if short is None else {**values, "rope_parameters": {**rope, "attention_factor": short}}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    values = {
        "model_type": "phimoe",
        **llama_values(config),
        **write_experts(config, KEYS),
        **ONLY,
        "attention_bias": config.qkv_bias,
        "lm_head_bias": config.head_bias,
        "sliding_window": config.window(0) or None,
        "router_jitter_noise": config.moe.jitter if config.moe else None,
    }
    for name in ("rope_parameters", "rope_scaling"):
        if values[name] and config.rope.attention_factor is not None:
            factors = dict.fromkeys(("short_mscale", "long_mscale"), config.rope.attention_factor)
            original = {"original_max_position_embeddings": config.rope.original_positions}
            values[name] = {**values[name], **factors, **original}
    values["original_max_position_embeddings"] = config.rope.original_positions
    return values


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, partial(expert_links, names=NAMES), feed="block_sparse_moe.")
