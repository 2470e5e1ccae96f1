"""Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, llama_fields, llama_values, read_windows, write_windows
from luhuo.model.families.experts import EXPERT_KEYS, expert_links, moe_of, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link, same
from luhuo.model.families.qwen3_moe import dense_layers

ARCHITECTURES = ("Qwen2MoeForCausalLM",)
DEFAULTS = {"max_position_embeddings": 32768, "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 5632}
ONLY = {"hidden_act": "silu"}
KEYS = {**EXPERT_KEYS, "shared_expert_intermediate_size": "shared_size"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Qwen2-MoE")
    return {
        **llama_fields(values),
        "qkv_bias": values.get("qkv_bias", True),
        "windows": _windows(values) if values.get("use_sliding_window") else (),
        "moe": read_experts(values, KEYS, normalise=False, shared_gate=True, dense_layers=dense_layers(values)),
    }


def _windows(values: Values) -> tuple[int, ...]:
    """Without `layer_types`: every other one of the first `max_window_layers`, beginning with the first."""
    if values.get("layer_types") is not None:
        return read_windows(values, 0)
    below, window = values.get("max_window_layers", 28), values["sliding_window"]
    return tuple(window if layer < below and layer % 2 == 0 else 0 for layer in range(values["num_hidden_layers"]))


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "qwen2_moe",
        **llama_values(config),
        **write_experts(config, KEYS),
        **write_windows(config),
        **ONLY,
        "qkv_bias": config.qkv_bias,
        "use_sliding_window": bool(config.windows),
        "max_window_layers": config.layers,
        "mlp_only_layers": list(moe_of(config).dense_layers),
        "decoder_sparse_step": 1,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, _experts)


def _experts(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    yield from expert_links(config, ours, theirs, shared="shared_expert.")
    yield same(ours + "shared_gate.weight", theirs + "shared_expert_gate.weight")
