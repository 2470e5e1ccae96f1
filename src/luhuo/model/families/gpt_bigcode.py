"""GPT-BigCode (StarCoder, SantaCoder): GPT-2 with one key head for all queries, or grouped by heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families import gpt2
from luhuo.model.families.common import Values, check
from luhuo.model.families.links import Link, grouped_order
from luhuo.model.families.tables import table_links

ARCHITECTURES = ("GPTBigCodeForCausalLM",)
DEFAULTS = {"bos_token_id": 50256, "eos_token_id": 50256}
PREFIX = gpt2.PREFIX
IGNORED = r"attn\.(masked_)?bias$|^(transformer\.)?bias$"
ONLY = {"add_cross_attention": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config: GPT-2's."""
    check(values, ONLY, "GPT-BigCode")
    fields = gpt2.read({"activation_function": "gelu_pytorch_tanh", **values})
    return {**fields, "kv_heads": 1 if values.get("multi_query", True) else fields["heads"]}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    values = {key: value for key, value in gpt2.write(config).items() if key not in gpt2.ONLY}
    return {**values, **ONLY, "model_type": "gpt_bigcode", "multi_query": config.kv_heads == 1}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors. With one key head the projection is in our order, otherwise query, key and value of each head."""
    order = None if config.kv_heads == 1 else grouped_order(config.heads, config.kv_heads, config.head_dim)
    return table_links(config, gpt2.NAMES, order=order)
