"""Mistral 7B, Nemo, Small and their kin: Llama with a window over all layers (Jiang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("MistralForCausalLM",)
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config; later models have no window."""
    check(values, ONLY, "Mistral")
    window = values.get("sliding_window")
    return {**llama_fields(values), "windows": (window,) * values["num_hidden_layers"] if window else ()}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "mistral",
        **llama_values(config),
        **ONLY,
        "sliding_window": max(config.windows, default=0) or None,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
