"""GPT-Neo: GPT-2 with layers that see a window, and scores that are not scaled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, read_keys, write_keys
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("GPTNeoForCausalLM",)
DEFAULTS = {"bos_token_id": 50256, "eos_token_id": 50256}
PREFIX = "transformer."
IGNORED = r"attn\.attention\.(masked_)?bias$"
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "layers",
    "num_heads": "heads",
    "max_position_embeddings": "max_positions",
    "intermediate_size": "intermediate_size",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
NAMES = Names(
    embedding="transformer.wte",
    positions="transformer.wpe",
    layer="transformer.h.{}.",
    attention_norm="ln_1",
    qkv=("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
    out="attn.attention.out_proj",
    mlp_norm="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
    norm="transformer.ln_f",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    hidden, heads = values["hidden_size"], values["num_heads"]
    types = values.get("attention_types") or [[["global", "local"], values["num_layers"] // 2]]
    kinds = [kind for group, times in types for kind in group * times]
    window = values.get("window_size") or 256
    return {
        "norm_eps": 1e-5,
        "max_positions": 2048,
        "intermediate_size": 4 * hidden,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "norm": "layer",
        "norm_bias": True,
        "positions": "learned",
        "windows": [window if kind == "local" else 0 for kind in kinds],
        "qk_norm": "none",
        "out_bias": True,
        "attention_scale": 1.0,
        "activation": activation(values.get("activation_function") or "gelu_new"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    kinds = ["local" if config.window(layer) else "global" for layer in range(config.layers)]
    return {
        "model_type": "gpt_neo",
        **write_keys(config, KEYS),
        "attention_types": [[kinds, 1]],
        "attention_layers": kinds,
        "window_size": max(config.windows) or 256,
        "activation_function": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
