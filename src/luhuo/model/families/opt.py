"""OPT and Galactica: learned positions from row 2 on; OPT-350m has norms behind branches and a narrower embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, read_keys, write_keys
from luhuo.model.families.links import Link, same
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("OPTForCausalLM",)
DEFAULTS = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
PREFIX = "model."
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "ffn_dim": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
NAMES = Names(
    embedding="model.decoder.embed_tokens",
    positions="model.decoder.embed_positions",
    layer="model.decoder.layers.{}.",
    attention_norm="self_attn_layer_norm",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    mlp_norm="final_layer_norm",
    up="fc1",
    down="fc2",
    norm="model.decoder.final_layer_norm",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    before, bias = values.get("do_layer_norm_before", True), values.get("enable_bias", True)
    width = values.get("word_embed_proj_dim") or hidden
    return {
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "norm": "layer",
        "norm_eps": 1e-5,
        "norm_bias": True,
        "norm_affine": values.get("layer_norm_elementwise_affine", True),
        "block": "pre" if before else "post",
        "final_norm": before and not values.get("_remove_final_layer_norm"),
        "embedding_size": None if width == hidden else width,
        "positions": "learned",
        "position_offset": 2,
        "qk_norm": "none",
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("activation_function") or "relu"),
        "gated": False,
        "mlp_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "opt",
        **write_keys(config, KEYS),
        "word_embed_proj_dim": config.embedding_size or config.hidden_size,
        "do_layer_norm_before": config.block == "pre",
        "_remove_final_layer_norm": config.block == "pre" and not config.final_norm,
        "layer_norm_elementwise_affine": config.norm_affine,
        "enable_bias": config.qkv_bias,
        "activation_function": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    yield from table_links(config, NAMES)
    if config.embedding_size:
        yield same("embedding_in.weight", "model.decoder.project_in.weight")
        yield same("embedding_out.weight", "model.decoder.project_out.weight")
