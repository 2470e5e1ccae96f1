"""Granite 3 dense (Granite Team 2024): Llama with factors on embeddings, branches, scores and logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("GraniteForCausalLM",)
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A projection bias, where there is one, is on all four projections."""
    bias = bool(values.get("attention_bias"))
    return {
        **llama_fields(values),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bool(values.get("mlp_bias")),
        "embedding_scale": values.get("embedding_multiplier", 1.0),
        "branch_scale": values.get("residual_multiplier", 1.0),
        "attention_scale": values.get("attention_multiplier", 1.0),
        "logit_scale": 1 / values.get("logits_scaling", 1.0),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "granite",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "embedding_multiplier": config.embedding_scale,
        "residual_multiplier": config.branch_scale,
        "attention_multiplier": config.attention_scale,
        "logits_scaling": 1 / config.logit_scale,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
