"""Seed-OSS (ByteDance 2025): Llama with biases on query, key and value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("SeedOssForCausalLM",)
DEFAULTS = {
    "bos_token_id": 0,
    "eos_token_id": 2,
    "max_position_embeddings": 524288,
    "num_key_value_heads": 8,
    "pad_token_id": 1,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    return {
        **llama_fields({"head_dim": 128, **values}),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bool(values.get("attention_bias", True)),
        "out_bias": bool(values.get("attention_out_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "seed_oss",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "attention_out_bias": config.out_bias,
        "mlp_bias": config.mlp_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
