"""Qwen 1: Llama with biases on queries, keys and values; beyond its training length NTK and logarithmic scaling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, read_keys, write_keys
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("QWenLMHeadModel",)
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "kv_channels": "head_dim",
    "layer_norm_epsilon": "norm_eps",
    "max_position_embeddings": "max_positions",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {"rotary_pct": 1.0, "scale_attn_weights": True}
IGNORED = r"rotary_emb\.inv_freq$|logn_tensor$|attn\.(masked_)?bias$"
NAMES = Names(
    embedding="transformer.wte",
    layer="transformer.h.{}.",
    attention_norm="ln_1",
    qkv="attn.c_attn",
    out="attn.c_proj",
    mlp_norm="ln_2",
    up=("mlp.w2", "mlp.w1"),
    down="mlp.c_proj",
    norm="transformer.ln_f",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. `intermediate_size` counts gate and up together."""
    check(values, ONLY, "Qwen")
    heads, trained = values["num_attention_heads"], values.get("seq_length") or 2048
    bias = not values.get("no_bias", True)
    rope = {"theta": float(values.get("rotary_emb_base") or 10_000.0)}
    if values.get("use_dynamic_ntk"):
        rope |= {"kind": "doubling", "original_positions": trained}
    return {
        "head_dim": values["hidden_size"] // heads,
        "max_positions": trained,
        "tie_embeddings": False,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "intermediate_size": values["intermediate_size"] // 2,
        "rope": rope,
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": bias,
        "mlp_bias": bias,
        "log_scale": trained if values.get("use_logn_attn") else 0,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "qwen",
        **write_keys(config, KEYS),
        **ONLY,
        "intermediate_size": 2 * config.intermediate_size,
        "seq_length": config.rope.original_positions or config.log_scale or config.max_positions,
        "rotary_emb_base": config.rope.theta,
        "use_dynamic_ntk": config.rope.kind == "doubling",
        "use_logn_attn": config.log_scale > 0,
        "no_bias": not config.out_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
