"""Helium 1 (Kyutai 2025): Llama with neighbouring pairs rotated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("HeliumForCausalLM",)
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 3,
    "rms_norm_eps": 1e-08,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config; the output projection has no bias."""
    plain = {"head_dim": 128, **values}
    return {
        **llama_fields(plain, theta=100_000.0, interleaved=True),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bool(values.get("attention_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "helium",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
