"""InternLM 3: Llama; one key for the biases of queries, keys and values, another for all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("InternLM3ForCausalLM",)
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "InternLM3")
    bias = bool(values.get("bias"))
    return {**llama_fields(values), "qkv_bias": bool(values.get("qkv_bias")), "out_bias": bias, "mlp_bias": bias}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    own = {"qkv_bias": config.qkv_bias, "bias": config.out_bias}
    return {"model_type": "internlm3", **llama_values(config), **ONLY, **own}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
