"""Gemma 2 (Gemma Team 2024): norms on both sides of each branch, soft caps, a window in every other layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    SANDWICH_NORMS,
    Values,
    activation,
    activation_name,
    check,
    llama_fields,
    llama_links,
    llama_values,
    read_windows,
    write_windows,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("Gemma2ForCausalLM",)
DEFAULTS = {
    "bos_token_id": 2,
    "eos_token_id": 1,
    "max_position_embeddings": 8192,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
}
ONLY = {"attention_bias": False, "use_bidirectional_attention": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Gemma 2")
    return {
        **llama_fields({"tie_word_embeddings": True, "head_dim": 256, **values}),
        **scores(values, attention=50.0, final=30.0),
        "block": "sandwich",
        "norm_plus_one": True,
        "embedding_scale": values["hidden_size"] ** 0.5,
        "activation": activation(values.get("hidden_activation") or "gelu_pytorch_tanh"),
        "windows": read_windows({"sliding_window": 4096, **values}, 2),
    }


def scores(values: Values, *, attention: float, final: float) -> dict[str, Any]:
    """Scale and soft caps of attention scores and logits; the last two are what a config without them means."""
    return {
        "attention_scale": values.get("query_pre_attn_scalar", 256) ** -0.5,
        "attention_softcap": values.get("attn_logit_softcapping", attention) or 0.0,
        "logit_softcap": values.get("final_logit_softcapping", final) or 0.0,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "gemma2",
        **llama_values(config),
        **ONLY,
        **write_scores(config),
        **write_windows(config),
        "hidden_activation": activation_name(config.activation),
    }


def write_scores(config: ModelConfig) -> dict[str, Any]:
    """The keys that `scores` reads."""
    assert config.attention_scale is not None
    scalar = config.attention_scale**-2
    return {
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.logit_softcap or None,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, norms=SANDWICH_NORMS)
