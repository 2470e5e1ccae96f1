"""Command-R7B and Command A (Cohere 2025): Command-R with windows, and positions in the windowed layers only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.cohere import NORMS, fields, write_fields
from luhuo.model.families.common import Values, llama_links, read_windows, write_windows
from luhuo.model.families.links import Link

ARCHITECTURES = ("Cohere2ForCausalLM",)
DEFAULTS = {
    "bos_token_id": 5,
    "eos_token_id": 255001,
    "max_position_embeddings": 8192,
    "pad_token_id": 0,
    "rope_theta": 10000.0,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    windows = read_windows({"sliding_window": 4096, **values}, values.get("sliding_window_pattern") or 4)
    whole = tuple(layer for layer in range(values["num_hidden_layers"]) if not windows or not windows[layer])
    return {**fields(values), "windows": windows, "unrotated": whole}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "cohere2", **write_fields(config), **write_windows(config)}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, norms=NORMS)
