"""Command-R (Cohere 2024): attention and MLP side by side behind one LayerNorm, neighbours rotated, scaled logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    LLAMA_KEYS,
    Values,
    activation,
    activation_name,
    llama_fields,
    llama_links,
    llama_values,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("CohereForCausalLM",)
DEFAULTS = {"bos_token_id": 5, "eos_token_id": 255001, "max_position_embeddings": 8192, "pad_token_id": 0}
KEYS = {**LLAMA_KEYS, "layer_norm_eps": "norm_eps"}
NORMS = {"attention_norm": "input_layernorm"}
del KEYS["rms_norm_eps"], KEYS["head_dim"]


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Command-R+ has a norm with weights of its own for each query and key head."""
    return {**fields(values), "qk_norm": "heads" if values.get("use_qk_norm") else "none"}


def fields(values: Values) -> dict[str, Any]:
    """What Command-R and Command-R7B share."""
    bias = bool(values.get("attention_bias"))
    plain = {key: value for key, value in values.items() if key != "head_dim"}
    plain = {"tie_word_embeddings": True, "layer_norm_eps": 1e-5, **plain}
    return {
        **llama_fields(plain, theta=500_000.0, interleaved=True, keys=KEYS),
        "norm": "layer",
        "block": "parallel",
        "logit_scale": values.get("logit_scale", 0.0625),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bias,
        "out_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "cohere", **write_fields(config), "use_qk_norm": config.qk_norm == "heads"}


def write_fields(config: ModelConfig) -> dict[str, Any]:
    """The keys that `fields` reads."""
    return {
        **llama_values(config, KEYS),
        "logit_scale": config.logit_scale,
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, qk_norm=config.qk_norm == "heads", norms=NORMS)
