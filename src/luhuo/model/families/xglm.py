"""XGLM: sinusoidal positions, scaled embeddings, LayerNorm and biases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, check, read_keys, write_keys
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("XGLMForCausalLM",)
DEFAULTS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
PREFIX = "model."
IGNORED = r"embed_positions\.weights$"
KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "num_layers": "layers",
    "attention_heads": "heads",
    "ffn_dim": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {"add_cross_attention": False}
NAMES = Names(
    embedding="model.embed_tokens",
    layer="model.layers.{}.",
    attention_norm="self_attn_layer_norm",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    mlp_norm="final_layer_norm",
    up="fc1",
    down="fc2",
    norm="model.layer_norm",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "XGLM")
    hidden, heads = values["d_model"], values["attention_heads"]
    return {
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "norm": "layer",
        "norm_eps": 1e-5,
        "norm_bias": True,
        "embedding_scale": hidden**0.5 if values.get("scale_embedding", True) else 1.0,
        "positions": "sinusoidal",
        "position_offset": 2,
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "activation": activation(values.get("activation_function") or "gelu"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "xglm",
        **write_keys(config, KEYS),
        **ONLY,
        "scale_embedding": config.embedding_scale != 1,
        "activation_function": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
