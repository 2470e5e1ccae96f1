"""Persimmon and Fuyu's text part: normalised heads, squared ReLU, half of a head rotated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    LLAMA_KEYS,
    Values,
    activation,
    activation_name,
    llama_fields,
    write_keys,
    write_rope,
)
from luhuo.model.families.links import Link, grouped_order
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("PersimmonForCausalLM",)
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 16384, "rope_theta": 25000.0}
SKIPPED = ("rms_norm_eps", "head_dim", "num_key_value_heads")
KEYS = {
    **{theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs not in SKIPPED},
    "layer_norm_eps": "norm_eps",
}
NAMES = Names(
    embedding="model.embed_tokens",
    layer="model.layers.{}.",
    attention_norm="input_layernorm",
    qkv="self_attn.query_key_value",
    out="self_attn.dense",
    mlp_norm="post_attention_layernorm",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    norm="model.final_layernorm",
    q_norm="self_attn.q_layernorm",
    k_norm="self_attn.k_layernorm",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    return {
        "norm_eps": 1e-5,
        **llama_fields({"partial_rotary_factor": 0.5, **values}, keys=KEYS),
        "norm": "layer",
        "norm_bias": True,
        "qk_norm": "head" if values.get("qk_layernorm", True) else "none",
        "qkv_bias": True,
        "out_bias": True,
        "activation": activation(values.get("hidden_act") or "relu2"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "persimmon",
        **write_keys(config, KEYS),
        **write_rope(config),
        "qk_layernorm": config.qk_norm == "head",
        "hidden_act": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; a head's query, key and value stand together."""
    return table_links(config, NAMES, order=grouped_order(config.heads, config.heads, config.head_dim))
