"""Ministral 8B: Mistral with windows in some of the layers."""

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

ARCHITECTURES = ("MinistralForCausalLM",)
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config; without `layer_types` all layers have the window."""
    check(values, ONLY, "Ministral")
    return {**llama_fields(values), "windows": read_windows(values, 0)}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "ministral", **llama_values(config), **ONLY, **write_windows(config)}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
