"""ERNIE 4.5 dense (Baidu 2025): Llama with neighbouring pairs rotated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM")
DEFAULTS = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. `use_bias` is on all matrices but the output embedding."""
    bias = bool(values.get("use_bias"))
    plain = {"tie_word_embeddings": True, "head_dim": 128, **values}
    return {
        **llama_fields(plain, theta=500_000.0, interleaved=True),
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "ernie4_5",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "use_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
