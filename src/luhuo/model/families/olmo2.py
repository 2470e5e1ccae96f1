"""OLMo 2: norms behind the branches, queries and keys normalised over all heads together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import LLAMA_KEYS, Values, check, llama_fields, llama_links, write_keys, write_rope
from luhuo.model.families.links import Link

ARCHITECTURES = ("Olmo2ForCausalLM",)
DEFAULTS = {"eos_token_id": 50279, "pad_token_id": 1}
ONLY = {"hidden_act": "silu"}
KEYS = {theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs != "head_dim"}
NORMS = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "OLMo 2")
    bias = bool(values.get("attention_bias"))
    return {
        "norm_eps": 1e-5,
        **llama_fields(values, keys=KEYS),
        "block": "output",
        "qk_norm": "full",
        "qkv_bias": bias,
        "out_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    values = {**write_keys(config, KEYS), **write_rope(config)}
    return {"model_type": "olmo2", **values, **ONLY, "attention_bias": config.qkv_bias}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, qk_norm=True, norms=NORMS)
