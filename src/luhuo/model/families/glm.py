"""GLM-4-9B (-hf), GLM-Edge (GLM Team 2024): half of each head rotated in neighbouring pairs, biases on q, k and v."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    fused_mlp_links,
    llama_fields,
    llama_links,
    llama_values,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("GlmForCausalLM",)
DEFAULTS = {
    "eos_token_id": [151329, 151336, 151338],
    "max_position_embeddings": 131072,
    "num_key_value_heads": 2,
    "pad_token_id": 151329,
    "rms_norm_eps": 1.5625e-07,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    plain = {"partial_rotary_factor": 0.5, "head_dim": 128, "attention_bias": True, **values}
    return {
        **llama_fields(plain, interleaved=True),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bool(plain["attention_bias"]),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "glm",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, mlp=fused_mlp_links)
