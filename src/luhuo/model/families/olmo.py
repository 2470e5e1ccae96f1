"""OLMo (1B, 7B): Llama with LayerNorms that have no weight, queries, keys and values clipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import LLAMA_KEYS, Values, check, llama_fields, llama_links, write_keys, write_rope
from luhuo.model.families.links import Link

ARCHITECTURES = ("OlmoForCausalLM",)
DEFAULTS = {"eos_token_id": 50279, "pad_token_id": 1}
ONLY = {"hidden_act": "silu"}
KEYS = {theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs not in ("rms_norm_eps", "head_dim")}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "OLMo")
    bias = bool(values.get("attention_bias"))
    return {
        **llama_fields(values, keys=KEYS),
        "norm": "layer",
        "norm_eps": 1e-5,
        "norm_affine": False,
        "qkv_bias": bias,
        "out_bias": bias,
        "qkv_clip": values.get("clip_qkv") or 0.0,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "olmo",
        **write_keys(config, KEYS),
        **write_rope(config),
        **ONLY,
        "attention_bias": config.qkv_bias,
        "clip_qkv": config.qkv_clip or None,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors: Llama's, without those of norms."""
    return (link for link in llama_links(config) if "norm" not in link.ours)
