"""Falcon (7B, 40B, 180B, 11B, RW): parallel branches behind one norm or two, few key heads, rotary or ALiBi."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    check,
    read_keys,
    read_rope,
    write_keys,
    write_rope,
)
from luhuo.model.families.links import Link, grouped_order
from luhuo.model.families.tables import Names, table_links
from luhuo.model.masks import alibi_slopes

ARCHITECTURES = ("FalconForCausalLM", "RWForCausalLM")
DEFAULTS = {"bos_token_id": 11, "eos_token_id": 11}
PREFIX = "transformer."
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "max_position_embeddings": "max_positions",
    "ffn_hidden_size": "intermediate_size",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
OLD_NAMES = {
    "n_embed": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_kv_heads",
}
NAMES = Names(
    embedding="transformer.word_embeddings",
    layer="transformer.h.{}.",
    attention_norm="input_layernorm",
    qkv="self_attention.query_key_value",
    out="self_attention.dense",
    mlp_norm="post_attention_layernorm",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    norm="transformer.ln_f",
)
TWO_NORMS = dataclasses.replace(NAMES, attention_norm="ln_attn", mlp_norm="ln_mlp")


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. ALiBi's distances are scaled like the scores here, so the slopes hold that factor."""
    values = {OLD_NAMES.get(key, key): value for key, value in values.items()}
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    head_dim, bias, alibi = hidden // heads, bool(values.get("bias")), bool(values.get("alibi"))
    return {
        "norm_eps": 1e-5,
        "max_positions": 2048,
        "intermediate_size": 4 * hidden,
        **read_keys(values, KEYS),
        **_shape(values, heads),
        "head_dim": head_dim,
        "norm": "layer",
        "norm_bias": True,
        "positions": "none" if alibi else "rope",
        "rope": read_rope(values, head_dim),
        "alibi_slopes": [slope / head_dim**0.5 for slope in alibi_slopes(heads)] if alibi else [],
        "qk_norm": "none",
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("activation") or "gelu"),
        "gated": False,
        "mlp_bias": bias,
    }


def _shape(values: Values, heads: int) -> dict[str, Any]:
    """Key heads and norms: the newer architecture groups queries and may have a norm for each branch."""
    parallel = values.get("parallel_attn", True)
    if values.get("new_decoder_architecture") or values.get("model_type") == "RefinedWeb":
        check({"parallel_attn": parallel}, {"parallel_attn": True}, "Falcon")
        two = (values.get("num_ln_in_parallel_attn") or 2) == 2
        return {
            "kv_heads": values.get("num_kv_heads") or heads,
            "block": "parallel_two" if two else "parallel",
        }
    kv_heads = 1 if values.get("multi_query", True) else heads
    return {"kv_heads": kv_heads, "block": "parallel" if parallel else "pre"}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    newer = config.block == "parallel_two" or 1 < config.kv_heads < config.heads
    return {
        "model_type": "falcon",
        **write_keys(config, KEYS),
        **write_rope(config),
        "alibi": bool(config.alibi_slopes),
        "new_decoder_architecture": newer,
        "num_ln_in_parallel_attn": (2 if config.block == "parallel_two" else 1) if newer else None,
        "num_kv_heads": config.kv_heads,
        "multi_query": config.kv_heads == 1,
        "parallel_attn": config.block != "pre",
        "bias": config.qkv_bias,
        "activation": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; a key head's queries, key and value stand together."""
    names = TWO_NORMS if config.block == "parallel_two" else NAMES
    return table_links(config, names, order=grouped_order(config.heads, config.kv_heads, config.head_dim))
