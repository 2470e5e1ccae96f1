"""Mixtral 8x7B and 8x22B."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, llama_fields, llama_values
from luhuo.model.families.experts import expert_links, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link

ARCHITECTURES = ("MixtralForCausalLM",)
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "router_aux_loss_coef": 0.001,
}
KEYS = {
    "num_local_experts": "experts",
    "num_experts_per_tok": "active",
    "intermediate_size": "intermediate_size",
    "router_aux_loss_coef": "balance",
}
NAMES = ("w1", "w3", "w2")


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A window, where there is one, is in all layers."""
    window = values.get("sliding_window")
    return {
        **llama_fields(values, theta=1e6),
        "activation": activation(values.get("hidden_act", "silu")),
        "windows": (window,) * values["num_hidden_layers"] if window else (),
        "moe": read_experts(values, KEYS),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "mixtral",
        **llama_values(config),
        **write_experts(config, KEYS),
        "hidden_act": activation_name(config.activation),
        "sliding_window": config.window(0) or None,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, partial(expert_links, names=NAMES), feed="block_sparse_moe.")
