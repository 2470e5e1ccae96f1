"""InternLM 1 (7B, 20B): Llama with biases in attention; its rotary settings stand under a key of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("InternLMForCausalLM",)
ONLY = {"hidden_act": "silu"}
IGNORED = r"rotary_emb\.inv_freq$"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "InternLM")
    rotary = values.get("rotary") or {}
    kind = rotary.get("type") or "origin"
    scaling = None if kind == "origin" else {"type": kind, "factor": rotary.get("scaling_factor", 1.0)}
    theta = rotary.get("base") or 10_000.0
    bias = values.get("bias", True)
    return {
        **llama_fields({**values, "rope_scaling": scaling, "rope_theta": theta}),
        "qkv_bias": bias,
        "out_bias": bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    rope = config.rope
    kind = "origin" if rope.kind == "plain" else rope.kind
    return {
        "model_type": "internlm",
        **llama_values(config),
        **ONLY,
        "bias": config.qkv_bias,
        "rotary": {"type": kind, "base": rope.theta, "scaling_factor": rope.factor},
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
