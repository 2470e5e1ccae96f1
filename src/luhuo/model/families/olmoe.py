"""OLMoE-1B-7B: many small experts, queries and keys normalised over all heads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

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
from luhuo.model.families.experts import EXPERT_KEYS, expert_links, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link

ARCHITECTURES = ("OlmoeForCausalLM",)
DEFAULTS = {
    "eos_token_id": 50279,
    "max_position_embeddings": 4096,
    "pad_token_id": 1,
    "rms_norm_eps": 1e-05,
    "router_aux_loss_coef": 0.01,
}
ONLY = {"clip_qkv": None}
"""The published models clip nothing, and a clip would stand behind the norm here."""
KEYS = {theirs.removeprefix("moe_"): ours for theirs, ours in EXPERT_KEYS.items()}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    if values.get("clip_qkv") is not None:
        check(values, ONLY, "OLMoE")
    bias = bool(values.get("attention_bias"))
    return {
        **llama_fields(values),
        "qk_norm": "full",
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("hidden_act", "silu")),
        "moe": read_experts(values, KEYS, normalise=False),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "olmoe",
        **llama_values(config),
        **write_experts(config, KEYS),
        **ONLY,
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, expert_links, attention=partial(attention_links, qk_norm=True))
