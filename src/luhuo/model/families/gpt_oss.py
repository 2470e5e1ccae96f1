"""gpt-oss 20B and 120B: alternating windows, attention sinks, experts with biases and a clamped activation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    attention_links,
    check,
    llama_fields,
    llama_values,
    read_windows,
    write_windows,
)
from luhuo.model.families.experts import read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("GptOssForCausalLM",)
DEFAULTS = {
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "router_aux_loss_coef": 0.001,
    "sliding_window": 128,
}
ONLY = {"hidden_act": "silu", "swiglu_alpha": 1.702}
KEYS = {
    "num_local_experts": "experts",
    "num_experts_per_tok": "active",
    "intermediate_size": "intermediate_size",
    "swiglu_limit": "limit",
    "router_aux_loss_coef": "balance",
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. `hidden_act` says silu, but the gate is x · sigmoid(1.702 x)."""
    check(values, ONLY, "gpt-oss")
    bias = values.get("attention_bias", True)
    return {
        **llama_fields(values, theta=150_000.0),
        "qkv_bias": bias,
        "out_bias": bias,
        "attention_sinks": True,
        "windows": read_windows(values, 2),
        "activation": "quick_gelu",
        "moe": read_experts(values, KEYS, router_bias=True, expert_bias=True, limit=7.0),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "gpt_oss",
        **llama_values(config),
        **write_experts(config, KEYS),
        **write_windows(config),
        **ONLY,
        "attention_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, _experts, attention=_attention)


def _attention(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    yield from attention_links(config, ours, theirs)
    yield same(ours + "sinks", theirs + "sinks")


def _experts(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    for kind in ("weight", "bias"):
        yield same(f"{ours}router.{kind}", f"{theirs}router.{kind}")
    ours, theirs = ours + "experts.", theirs + "experts."
    yield Link(ours + "gate_up", (theirs + "gate_up_proj",), _join_rows, _split_rows)
    yield Link(ours + "gate_up_bias", (theirs + "gate_up_proj_bias",), _join, _split)
    yield Link(ours + "down", (theirs + "down_proj",), lambda parts: parts[0].mT, lambda tensor: [tensor.mT])
    yield same(ours + "down_bias", theirs + "down_proj_bias")


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Gate and up features taken from one another: (E, 2I, …), they alternate where published."""
    return parts[0].unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)


def _split(tensor: Tensor) -> list[Tensor]:
    return [tensor.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)]


def _join_rows(parts: Sequence[Tensor]) -> Tensor:
    return _join([parts[0].mT])


def _split_rows(tensor: Tensor) -> list[Tensor]:
    return [_split(tensor)[0].mT]
