"""GPT-NeoX (Pythia, Dolly, StableLM-alpha, GPT-NeoX-20B): partial rotary positions, parallel branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    read_keys,
    read_rope,
    write_keys,
    write_rope,
)
from luhuo.model.families.links import Link, grouped_order
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("GPTNeoXForCausalLM",)
DEFAULTS = {"bos_token_id": 0, "eos_token_id": 2}
PREFIX = "gpt_neox."
HEAD = "embed_out.weight"
IGNORED = r"attention\.(masked_bias|bias|rotary_emb\.inv_freq)$"
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "layer_norm_eps": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
NAMES = Names(
    embedding="gpt_neox.embed_in",
    layer="gpt_neox.layers.{}.",
    attention_norm="input_layernorm",
    qkv="attention.query_key_value",
    out="attention.dense",
    mlp_norm="post_attention_layernorm",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    norm="gpt_neox.final_layer_norm",
    head="embed_out",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    heads = values["num_attention_heads"]
    head_dim = values["hidden_size"] // heads
    bias = values.get("attention_bias", True)
    return {
        "norm_eps": 1e-5,
        "tie_embeddings": False,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": head_dim,
        "norm": "layer",
        "norm_bias": True,
        "block": "parallel_two" if values.get("use_parallel_residual", True) else "pre",
        "rope": read_rope({"rotary_pct": 0.25, **values}, head_dim),
        "qk_norm": "none",
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("hidden_act") or "gelu"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`; the share of a head that is rotated has a name of its own here."""
    rope = write_rope(config)
    return {
        "model_type": "gpt_neox",
        **write_keys(config, KEYS),
        **rope,
        "rotary_emb_base": config.rope.theta,
        "rotary_pct": rope["partial_rotary_factor"],
        "use_parallel_residual": config.block == "parallel_two",
        "attention_bias": config.qkv_bias,
        "hidden_act": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; a head's query, key and value stand together."""
    return table_links(config, NAMES, order=grouped_order(config.heads, config.heads, config.head_dim))
