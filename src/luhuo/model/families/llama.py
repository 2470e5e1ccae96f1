"""Llama 1 to 3.3 and what shares its layout: Alpaca, Vicuna, OpenLLaMA, Yi, DeepSeek-LLM, SmolLM 1 and 2, Aquila."""

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

ARCHITECTURES = ("LlamaForCausalLM", "LLaMAForCausalLM", "YiForCausalLM", "AquilaForCausalLM", "AquilaModel")
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2}
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A projection bias, where there is one, is on all four projections."""
    check(values, ONLY, "Llama")
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    bias = bool(values.get("attention_bias"))
    return {
        "kv_heads": values["num_attention_heads"],
        "tie_embeddings": False,
        **read_keys(values, LLAMA_KEYS),
        "head_dim": head_dim,
        "rope": read_rope(values, head_dim),
        "qk_norm": "none",
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bool(values.get("mlp_bias")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "llama",
        **write_keys(config, LLAMA_KEYS),
        **write_rope(config),
        **ONLY,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
