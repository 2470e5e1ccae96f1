"""OLMo 3 (Ai2 2025): norms behind the branches, QK-norm over all heads, three windowed layers to one without."""

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
    llama_links,
    read_layer_ropes,
    read_windows,
    write_keys,
    write_layer_ropes,
    write_windows,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("Olmo3ForCausalLM",)
DEFAULTS = {"eos_token_id": 50279, "pad_token_id": 1, "rms_norm_eps": 1e-05}
KEYS = {theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs != "head_dim"}
NORMS = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Both kinds of layers have one rotary base; only whole ones are stretched."""
    plain = {key: value for key, value in values.items() if not key.startswith("rope_")}
    fields = llama_fields(plain, keys=KEYS)
    theta, bias = values.get("rope_theta") or 500_000.0, bool(values.get("attention_bias"))
    return {
        **fields,
        **read_layer_ropes(values, fields["head_dim"], theta=theta, local_theta=theta),
        "block": "output",
        "qk_norm": "full",
        "windows": read_windows({"sliding_window": 4096, **values}, 4),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bias,
        "out_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "olmo3",
        **write_keys(config, KEYS),
        **write_layer_ropes(config),
        **write_windows(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, qk_norm=True, norms=NORMS)
