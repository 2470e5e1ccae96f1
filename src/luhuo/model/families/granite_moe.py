"""Granite 3 with experts (1B-A400M, 3B-A800M), PowerMoE, and its variant with a shared expert."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families import granite
from luhuo.model.families.common import Values
from luhuo.model.families.experts import moe_of, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM")
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2, "router_aux_loss_coef": 0.001}
KEYS = {
    "num_local_experts": "experts",
    "num_experts_per_tok": "active",
    "intermediate_size": "intermediate_size",
    "router_aux_loss_coef": "balance",
    "shared_intermediate_size": "shared_size",
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    return {**granite.read({**values, "mlp_bias": False}), "moe": read_experts(values, KEYS)}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    shared = moe_of(config).shared_size > 0
    return {
        **granite.write(config),
        "architectures": [ARCHITECTURES[shared]],
        "model_type": "granitemoeshared" if shared else "granitemoe",
        **write_experts(config, KEYS),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors: the experts of a layer are one tensor, as here."""
    return sparse_links(config, _experts, feed="")


def _experts(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    yield same(ours + "router.weight", theirs + "block_sparse_moe.router.layer.weight")
    yield same(ours + "experts.gate_up", theirs + "block_sparse_moe.input_linear.weight")
    yield same(ours + "experts.down", theirs + "block_sparse_moe.output_linear.weight")
    if moe_of(config).shared_size:
        yield same(ours + "shared.gate_up.weight", theirs + "shared_mlp.input_linear.weight")
        yield same(ours + "shared.down.weight", theirs + "shared_mlp.output_linear.weight")
