"""StarCoder 2: grouped queries, LayerNorm and biases everywhere, a plain MLP, a window in all layers."""

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

ARCHITECTURES = ("Starcoder2ForCausalLM",)
DEFAULTS = {"bos_token_id": 50256, "eos_token_id": 50256, "max_position_embeddings": 4096, "num_key_value_heads": 2}
KEYS = {
    **{theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs not in ("rms_norm_eps", "head_dim")},
    "norm_epsilon": "norm_eps",
}
NAMES = Names(
    embedding="model.embed_tokens",
    layer="model.layers.{}.",
    attention_norm="input_layernorm",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    up="mlp.c_fc",
    down="mlp.c_proj",
    norm="model.norm",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    fields = llama_fields(values, keys=KEYS)
    bias, window = values.get("use_bias", True), values.get("sliding_window")
    return {
        "norm_eps": 1e-5,
        **fields,
        "tie_embeddings": values.get("tie_word_embeddings", True),
        "norm": "layer",
        "norm_bias": True,
        "windows": [window] * fields["layers"] if window else [],
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("hidden_act") or "gelu_pytorch_tanh"),
        "gated": False,
        "mlp_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "starcoder2",
        **write_keys(config, KEYS),
        **write_rope(config),
        "use_bias": config.qkv_bias,
        "sliding_window": config.windows[0] if config.windows else None,
        "hidden_act": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
