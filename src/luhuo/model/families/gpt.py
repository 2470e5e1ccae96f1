"""GPT-1: norms behind each branch, learned positions, matrices kept as (inputs, outputs)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import Activation, ModelConfig
from luhuo.model.families.common import Values, read_keys, write_keys
from luhuo.model.families.links import Link, transposed
from luhuo.model.families.tables import Names, table_links

ARCHITECTURES = ("OpenAIGPTLMHeadModel",)
PREFIX = "transformer."
IGNORED = r"attn\.bias$|position_ids$"
KEYS = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_layer": "layers",
    "n_head": "heads",
    "n_positions": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
"""In this family `gelu` names the approximation by tanh."""
NAMES = Names(
    embedding="transformer.tokens_embed",
    positions="transformer.positions_embed",
    layer="transformer.h.{}.",
    attention_norm="ln_1",
    qkv="attn.c_attn",
    out="attn.c_proj",
    mlp_norm="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
    norm="",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    hidden = values["n_embd"]
    return {
        "norm_eps": 1e-5,
        "max_positions": 512,
        **read_keys(values, KEYS),
        "kv_heads": values["n_head"],
        "head_dim": hidden // values["n_head"],
        "intermediate_size": 4 * hidden,
        "norm": "layer",
        "norm_bias": True,
        "block": "post",
        "final_norm": False,
        "positions": "learned",
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "activation": ACTIVATIONS[values.get("afn") or "gelu"],
        "gated": False,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {"model_type": "openai-gpt", **write_keys(config, KEYS), "afn": names[config.activation]}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES, matrix=transposed)
