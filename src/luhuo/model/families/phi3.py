"""Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): Llama with fused projections, longrope, rotation of a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    check,
    fused_mlp_links,
    llama_fields,
    llama_values,
)
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("Phi3ForCausalLM",)
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 32000,
    "max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "rms_norm_eps": 1e-05,
}
ONLY = {"attention_bias": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Longrope is called "su" or "yarn" in early files."""
    check(values, ONLY, "Phi-3")
    scaling = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if "yarn" in (scaling.get("type"), scaling.get("rope_type")):
        scaling = {**scaling, "rope_type": "longrope"}
    window = values.get("sliding_window")
    fields = llama_fields({**values, "rope_parameters": scaling})
    return {
        **fields,
        "activation": activation(values.get("hidden_act", "silu")),
        "windows": (window,) * fields["layers"] if window else (),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "phi3",
        **llama_values(config),
        **ONLY,
        "hidden_act": activation_name(config.activation),
        "original_max_position_embeddings": config.rope.original_positions or config.max_positions,
        "sliding_window": max(config.windows, default=0) or None,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors: query, key and value in one, gate and up in one, as here."""
    yield same("embedding", "model.embed_tokens.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        yield same(ours + "attention_norm.weight", theirs + "input_layernorm.weight")
        yield same(ours + "attention.qkv.weight", theirs + "self_attn.qkv_proj.weight")
        yield same(ours + "attention.out.weight", theirs + "self_attn.o_proj.weight")
        yield same(ours + "mlp_norm.weight", theirs + "post_attention_layernorm.weight")
        yield from fused_mlp_links(config, ours + "mlp.", theirs + "mlp.")
    yield same("norm.weight", "model.norm.weight")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")
