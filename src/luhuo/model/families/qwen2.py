"""Qwen 1.5, 2, 2.5 and QwQ: Llama with biases on queries, keys and values, and windows in the upper layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    check,
    llama_fields,
    llama_links,
    llama_values,
    read_windows,
    write_windows,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("Qwen2ForCausalLM",)
DEFAULTS = {"max_position_embeddings": 32768}
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Qwen2")
    return {**llama_fields(values), "qkv_bias": True, "windows": upper_windows(values)}


def upper_windows(values: Values) -> tuple[int, ...]:
    """The windows of layers: those from `max_window_layers` on have one, if it is used, or `layer_types` says."""
    window = (values.get("sliding_window") or 4096) if values.get("use_sliding_window") else 0
    if values.get("layer_types") is not None:
        return read_windows({**values, "sliding_window": window}, 0)
    below, layers = values.get("max_window_layers", 28), values["num_hidden_layers"]
    return tuple(window if layer >= below else 0 for layer in range(layers)) if window else ()


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    lowest = next((layer for layer in range(config.layers) if config.window(layer)), config.layers)
    return {
        "model_type": "qwen2",
        **llama_values(config),
        **ONLY,
        **write_windows(config),
        "use_sliding_window": bool(config.windows),
        "max_window_layers": lowest,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
