"""InternLM 2 and 2.5: Llama with names of its own, a key head's queries, key and value together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, llama_fields, llama_values
from luhuo.model.families.links import Link, grouped_order
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("InternLM2ForCausalLM",)
ONLY = {"hidden_act": "silu"}
NAMES = Names(
    embedding="model.tok_embeddings",
    layer="model.layers.{}.",
    attention_norm="attention_norm",
    qkv="attention.wqkv",
    out="attention.wo",
    mlp_norm="ffn_norm",
    up=("feed_forward.w1", "feed_forward.w3"),
    down="feed_forward.w2",
    norm="model.norm",
    head="output",
)
HEAD = "output.weight"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "InternLM2")
    bias = bool(values.get("bias"))
    return {**llama_fields(values), "qkv_bias": bias, "out_bias": bias}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "internlm2", **llama_values(config), **ONLY, "bias": config.qkv_bias}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES, order=grouped_order(config.heads, config.kv_heads, config.head_dim))
