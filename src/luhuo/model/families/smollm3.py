"""SmolLM3 (Bakouch et al. 2025): Llama in which every fourth layer has no positions."""

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
    read_windows,
    write_windows,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("SmolLM3ForCausalLM",)
DEFAULTS = {
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "max_position_embeddings": 32768,
    "num_key_value_heads": 4,
    "pad_token_id": 128004,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. `no_rope_layers` holds a 1 for each layer that does have positions."""
    layers, bias = values["num_hidden_layers"], bool(values.get("attention_bias"))
    every = values.get("no_rope_layer_interval", 4)
    turned = values.get("no_rope_layers") or [int((layer + 1) % every != 0) for layer in range(layers)]
    types = values.get("layer_types")
    if types is None:
        windowed = values.get("use_sliding_window") and values.get("sliding_window")
        types = ["sliding_attention" if windowed and not turn else "full_attention" for turn in turned]
    return {
        **llama_fields({"tie_word_embeddings": True, **values}, theta=2_000_000.0),
        "activation": activation(values.get("hidden_act", "silu")),
        "unrotated": tuple(layer for layer in range(layers) if not turned[layer]),
        "windows": read_windows({**values, "layer_types": types}, 0),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bool(values.get("mlp_bias")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "smollm3",
        **llama_values(config),
        **write_windows(config),
        "hidden_act": activation_name(config.activation),
        "no_rope_layers": [int(layer not in config.unrotated) for layer in range(config.layers)],
        "use_sliding_window": bool(config.windows),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
