"""Grok-1 (xAI 2024) in the layout of its PyTorch conversion: capped scores, a norm on both sides of each branch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, attention_links, llama_fields, llama_values
from luhuo.model.families.experts import EXPERT_KEYS, expert_links, read_experts, write_experts
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("Grok1ModelForCausalLM",)
KEYS = {
    **{
        theirs: ours
        for theirs, ours in EXPERT_KEYS.items()
        if theirs not in ("moe_intermediate_size", "norm_topk_prob")
    },
    "intermediate_size": "intermediate_size",
}
NAMES = ("linear", "linear_v", "linear_1")
NORMS = {
    "attention_norm": "pre_attn_norm",
    "attention_output_norm": "post_attn_norm",
    "mlp_norm": "pre_moe_norm",
    "mlp_output_norm": "post_moe_norm",
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. The activation is JAX's gelu, which is the tanh approximation."""
    return {
        **llama_fields({"tie_word_embeddings": True, **values}),
        "block": "sandwich",
        "activation": "gelu_tanh",
        "embedding_scale": values.get("embedding_multiplier_scale", 1.0),
        "logit_scale": values.get("output_multiplier_scale", 1.0),
        "attention_scale": values.get("attn_output_multiplier", 1.0),
        "attention_softcap": values.get("max_attn_value", 30.0),
        "moe": read_experts(values, KEYS, normalise=False),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "grok-1",
        **llama_values(config),
        **write_experts(config, KEYS),
        "embedding_multiplier_scale": config.embedding_scale,
        "output_multiplier_scale": config.logit_scale,
        "attn_output_multiplier": config.attention_scale,
        "max_attn_value": config.attention_softcap,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    experts = partial(expert_links, names=NAMES)
    yield same("embedding", "model.embed_tokens.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        yield from (same(f"{ours}{norm}.weight", f"{theirs}{name}.scale") for norm, name in NORMS.items())
        yield from attention_links(config, ours + "attention.", theirs + "attn.")
        yield from experts(config, ours + "mlp.", theirs + "moe_block.")
    yield same("norm.weight", "model.norm.scale")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")
