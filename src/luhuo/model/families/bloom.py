"""BLOOM and BLOOMZ: ALiBi, normalised embeddings, a head's query, key and value together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, read_keys, write_keys
from luhuo.model.families.links import Link, grouped_order
from luhuo.model.families.tables import Names, table_links
from luhuo.model.masks import alibi_slopes

ARCHITECTURES = ("BloomForCausalLM",)
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2}
PREFIX = "transformer."
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "n_layer": "layers",
    "n_head": "heads",
    "seq_length": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "apply_residual_connection_post_layernorm": "carry_normed",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
OLD_NAMES = {"n_embed": "hidden_size", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
NAMES = Names(
    embedding="transformer.word_embeddings",
    embedding_norm="transformer.word_embeddings_layernorm",
    layer="transformer.h.{}.",
    attention_norm="input_layernorm",
    qkv="self_attention.query_key_value",
    out="self_attention.dense",
    mlp_norm="post_attention_layernorm",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    norm="transformer.ln_f",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    values = {OLD_NAMES.get(key, key): value for key, value in values.items()}
    hidden, heads = values["hidden_size"], values["n_head"]
    return {
        "norm_eps": 1e-5,
        "max_positions": 2048,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": 4 * hidden,
        "norm": "layer",
        "norm_bias": True,
        "embedding_norm": True,
        "positions": "none",
        "alibi_slopes": alibi_slopes(heads),
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "activation": "gelu_tanh",
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "bloom", **write_keys(config, KEYS)}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES, order=grouped_order(config.heads, config.heads, config.head_dim))
