"""GPT-2 and what shares its layout (CPM-1, DistilGPT-2, Chinese GPT-2): matrices kept as (inputs, outputs)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, check, read_keys, write_keys
from luhuo.model.families.links import Link, transposed
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("GPT2LMHeadModel",)
DEFAULTS = {"bos_token_id": 50256, "eos_token_id": 50256}
PREFIX = "transformer."
IGNORED = r"attn\.(masked_)?bias$"
KEYS = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_layer": "layers",
    "n_head": "heads",
    "n_positions": "max_positions",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
NAMES = Names(
    embedding="transformer.wte",
    positions="transformer.wpe",
    layer="transformer.h.{}.",
    attention_norm="ln_1",
    qkv="attn.c_attn",
    out="attn.c_proj",
    mlp_norm="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
    norm="transformer.ln_f",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "GPT-2")
    hidden, heads = values["n_embd"], values["n_head"]
    return {
        "norm_eps": 1e-5,
        "max_positions": 1024,
        "intermediate_size": 4 * hidden,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "norm": "layer",
        "norm_bias": True,
        "positions": "learned",
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "attention_scale": 1.0 if values.get("scale_attn_weights") is False else None,
        "activation": activation(values.get("activation_function") or "gelu_new"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "gpt2",
        **write_keys(config, KEYS),
        **ONLY,
        "scale_attn_weights": config.attention_scale is None,
        "activation_function": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES, matrix=transposed)
