"""Qwen3 with experts: Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, attention_links, check, llama_fields, llama_values
from luhuo.model.families.experts import EXPERT_KEYS, expert_links, moe_of, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link

ARCHITECTURES = ("Qwen3MoeForCausalLM",)
DEFAULTS = {"max_position_embeddings": 32768, "num_key_value_heads": 4, "router_aux_loss_coef": 0.001}
KEYS = {**EXPERT_KEYS, "num_local_experts": "experts"}
"""The number of experts has changed its name."""
ONLY = {"hidden_act": "silu", "use_sliding_window": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Qwen3-MoE")
    bias = bool(values.get("attention_bias"))
    moe = read_experts(values, KEYS, normalise=False, dense_layers=dense_layers(values))
    return {**llama_fields(values), "qk_norm": "head", "qkv_bias": bias, "out_bias": bias, "moe": moe}


def dense_layers(values: Values) -> tuple[int, ...]:
    """Layers with a plain MLP: those named, and all but every `decoder_sparse_step`-th."""
    named, step = values.get("mlp_only_layers") or [], values.get("decoder_sparse_step") or 1
    return tuple(layer for layer in range(values["num_hidden_layers"]) if layer in named or (layer + 1) % step)


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "qwen3_moe",
        **llama_values(config),
        **write_experts(config, KEYS),
        **ONLY,
        "attention_bias": config.qkv_bias,
        "mlp_only_layers": list(moe_of(config).dense_layers),
        "decoder_sparse_step": 1,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, expert_links, attention=partial(attention_links, qk_norm=True))
