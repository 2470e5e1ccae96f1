"""EXAONE 4 (LG AI Research 2025): norms behind the branches, QK-norm, positions in the windowed layers only."""

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

ARCHITECTURES = ("Exaone4ForCausalLM",)
DEFAULTS = {"bos_token_id": 0, "eos_token_id": 2, "rms_norm_eps": 1e-05}
NORMS = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config; the small models have no window, and positions everywhere."""
    layers = values["num_hidden_layers"]
    window = values.get("sliding_window", 4096)
    period = _period(values.get("sliding_window_pattern", 4))
    windows = read_windows({**values, "sliding_window": window}, period)
    return {
        **llama_fields(values),
        "activation": activation(values.get("hidden_act", "silu")),
        "block": "output",
        "qk_norm": "head",
        "windows": windows,
        "unrotated": tuple(layer for layer in range(layers) if window and not (windows and windows[layer])),
    }


def _period(pattern: str | int | None) -> int:
    """A pattern is a number of layers or, in the published configs, letters such as "LLLG"."""
    return len(pattern) if isinstance(pattern, str) else pattern or 0


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "exaone4",
        **llama_values(config),
        **write_windows(config),
        "sliding_window_pattern": None,
        "hidden_act": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, qk_norm=True, norms=NORMS)
