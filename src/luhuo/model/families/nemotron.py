"""Nemotron 3 and 4, Minitron: LayerNorm whose weight is stored less one, squared ReLU, half of a head rotated."""

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
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("NemotronForCausalLM",)
DEFAULTS = {"bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 4096}
KEYS = {
    **{theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs != "rms_norm_eps"},
    "norm_eps": "norm_eps",
}
NAMES = Names(
    embedding="model.embed_tokens",
    layer="model.layers.{}.",
    attention_norm="input_layernorm",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    up="mlp.up_proj",
    down="mlp.down_proj",
    norm="model.norm",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    share = values.get("partial_rotary_factor") or values.get("rope_percent") or values.get("rope_percentage") or 0.5
    bias = bool(values.get("attention_bias"))
    return {
        "norm_eps": 1e-5,
        **llama_fields({**values, "partial_rotary_factor": share}, keys=KEYS),
        "norm": "layer",
        "norm_bias": True,
        "norm_plus_one": True,
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("hidden_act") or "relu2"),
        "gated": False,
        "mlp_bias": bool(values.get("mlp_bias")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "nemotron",
        **write_keys(config, KEYS),
        **write_rope(config),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "hidden_act": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
