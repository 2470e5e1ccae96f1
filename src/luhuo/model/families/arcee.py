"""Arcee AFM (2025): Llama with a plain MLP of squared ReLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    llama_fields,
    llama_links,
    llama_values,
    plain_mlp_links,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("ArceeForCausalLM",)
DEFAULTS = {"bos_token_id": 128000, "eos_token_id": 128001, "max_position_embeddings": 4096, "rms_norm_eps": 1e-05}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A projection bias, where there is one, is on all four projections."""
    bias = bool(values.get("attention_bias"))
    return {
        **llama_fields(values),
        "activation": activation(values.get("hidden_act", "relu2")),
        "gated": False,
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bool(values.get("mlp_bias")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "arcee",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, mlp=plain_mlp_links)
