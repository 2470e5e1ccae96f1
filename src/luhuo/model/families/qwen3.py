"""Qwen3 (dense), and what is born here: `Qwen3ForCausalLM`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    LLAMA_KEYS,
    Values,
    check,
    llama_links,
    read_keys,
    read_rope,
    write_keys,
    write_rope,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("Qwen3ForCausalLM",)
DEFAULTS = {"max_position_embeddings": 32768}
ONLY = {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Qwen3")
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    return {
        "kv_heads": values["num_attention_heads"],
        "tie_embeddings": False,
        **read_keys(values, LLAMA_KEYS),
        "head_dim": head_dim,
        "rope": read_rope(values, head_dim),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "qwen3", **write_keys(config, LLAMA_KEYS), **write_rope(config), **ONLY}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, qk_norm=True)
