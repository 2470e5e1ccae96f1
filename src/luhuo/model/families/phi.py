"""Phi-1, 1.5 and 2: parallel branches behind one norm, partial rotary positions, biases, also on the logits."""

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

ARCHITECTURES = ("PhiForCausalLM",)
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2}
KEYS = {
    **{theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs not in ("rms_norm_eps", "head_dim")},
    "layer_norm_eps": "norm_eps",
}
IGNORED = r"rotary_emb\.inv_freq$"
NAMES = Names(
    embedding="model.embed_tokens",
    layer="model.layers.{}.",
    attention_norm="input_layernorm",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.dense",
    mlp_norm="",
    up="mlp.fc1",
    down="mlp.fc2",
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
        "block": "parallel",
        "head_bias": True,
        "qk_norm": "head" if values.get("qk_layernorm") else "none",
        "qkv_bias": True,
        "out_bias": True,
        "activation": activation(values.get("hidden_act") or "gelu_new"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "phi",
        **write_keys(config, KEYS),
        **write_rope(config),
        "qk_layernorm": config.qk_norm == "head",
        "hidden_act": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
