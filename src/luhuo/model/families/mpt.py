"""MPT (7B, 30B, StoryWriter, Replit-code): ALiBi, no biases, optionally clipped and normalised queries and keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, read_keys, write_keys
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links
from luhuo.model.masks import alibi_slopes

ARCHITECTURES = ("MPTForCausalLM", "MptForCausalLM")
PREFIX = "transformer."
KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "layers",
    "n_heads": "heads",
    "max_seq_len": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {"no_bias": True, "logit_scale": None}
ATTENTION_ONLY = {"attn_type": "multihead_attention", "alibi": True, "prefix_lm": False}
NAMES = Names(
    embedding="transformer.wte",
    layer="transformer.blocks.{}.",
    attention_norm="norm_1",
    qkv="attn.Wqkv",
    out="attn.out_proj",
    mlp_norm="norm_2",
    up="ffn.up_proj",
    down="ffn.down_proj",
    norm="transformer.norm_f",
    q_norm="attn.q_ln",
    k_norm="attn.k_ln",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    attention = values.get("attn_config") or {}
    check(values, ONLY, "MPT")
    check(attention, ATTENTION_ONLY, "MPT")
    check({"norm_type": "rms" in str(values.get("norm_type"))}, {"norm_type": False}, "MPT")
    hidden, heads = values["d_model"], values["n_heads"]
    steeper = (attention.get("alibi_bias_max") or 8) / 8
    return {
        "norm_eps": 1e-5,
        "max_positions": 2048,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": hidden * (values.get("expansion_ratio") or 4),
        "norm": "layer",
        "positions": "none",
        "alibi_slopes": [slope**steeper for slope in alibi_slopes(heads)],
        "qk_norm": "full" if attention.get("qk_ln") else "none",
        "qkv_clip": attention.get("clip_qkv") or 0.0,
        "attention_scale": attention.get("softmax_scale"),
        "activation": "gelu",
        "gated": False,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    steeper = math.log(config.alibi_slopes[0]) / math.log(alibi_slopes(config.heads)[0])
    attention = {
        **ATTENTION_ONLY,
        "alibi_bias_max": round(8 * steeper),
        "clip_qkv": config.qkv_clip or None,
        "softmax_scale": config.attention_scale,
        "qk_ln": config.qk_norm == "full",
    }
    return {
        "architectures": ["MptForCausalLM"],
        "model_type": "mpt",
        **write_keys(config, KEYS),
        **ONLY,
        "expansion_ratio": config.intermediate_size // config.hidden_size,
        "attn_config": attention,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
