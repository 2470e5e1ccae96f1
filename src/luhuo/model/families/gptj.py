"""GPT-J: neighbouring features rotated, parallel branches behind one norm, a bias on the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, read_keys, write_keys
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("GPTJForCausalLM",)
DEFAULTS = {"bos_token_id": 50256, "eos_token_id": 50256}
PREFIX = "transformer."
IGNORED = r"attn\.(masked_bias|bias|embed_positions)$"
KEYS = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_layer": "layers",
    "n_head": "heads",
    "n_positions": "max_positions",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
NAMES = Names(
    embedding="transformer.wte",
    layer="transformer.h.{}.",
    attention_norm="ln_1",
    qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    out="attn.out_proj",
    mlp_norm="",
    up="mlp.fc_in",
    down="mlp.fc_out",
    norm="transformer.ln_f",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    hidden, heads = values["n_embd"], values["n_head"]
    head_dim = hidden // heads
    rotated = int(values.get("rotary_dim", 64))
    return {
        "norm_eps": 1e-5,
        "tie_embeddings": False,
        "intermediate_size": 4 * hidden,
        **read_keys(values, KEYS),
        "kv_heads": heads,
        "head_dim": head_dim,
        "norm": "layer",
        "norm_bias": True,
        "block": "parallel",
        "head_bias": True,
        "rope": {"dim": None if rotated == head_dim else rotated, "interleaved": True},
        "qk_norm": "none",
        "activation": activation(values.get("activation_function") or "gelu_new"),
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "gptj",
        **write_keys(config, KEYS),
        "rotary_dim": config.rope_dim,
        "activation_function": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
