"""DeepSeek-V3, V3.1 and R1, Moonlight, Kimi-K2: latent attention, sigmoid routing, multi-token prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.families.common import Values, check
from luhuo.model.families.deepseek_v2 import KEYS, latent_links, read_latent, write_latent
from luhuo.model.families.experts import (
    expert_links,
    moe_of,
    mtp_links,
    read_experts,
    sparse_links,
    write_experts,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("DeepseekV3ForCausalLM", "KimiK2ForCausalLM")
DEFAULTS = {
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 3,
    "max_position_embeddings": 4096,
    "n_shared_experts": 1,
    "q_lora_rank": 1536,
    "routed_scaling_factor": 2.5,
    "topk_group": 4,
}
IGNORED = r"^model\.layers\.\d+\.(embed_tokens|shared_head\.head)\.weight$"
"""Copies of the embedding and the head that published prediction blocks carry along."""
ONLY = {"hidden_act": "silu", "moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "DeepSeek-V3")
    return {
        **read_latent(values, interleaved=values.get("rope_interleave") is not False),
        "moe": read_corrected(values),
        "mtp_layers": values.get("num_nextn_predict_layers") or 0,
    }


def read_corrected(values: Values, keys: Mapping[str, str] = KEYS) -> MoEConfig:
    """Sigmoid routing within groups, with a correction for balance."""
    return read_experts(
        values,
        keys,
        score="sigmoid",
        correction=True,
        group_score="top2",
        balance_over="sequence",
        shared_size=values["moe_intermediate_size"] * (values.get("n_shared_experts") or 0),
        dense_layers=tuple(range(values.get("first_k_dense_replace") or 0)),
    )


def write_corrected(config: ModelConfig, keys: Mapping[str, str] = KEYS) -> dict[str, Any]:
    """The keys that `read_corrected` reads."""
    moe = moe_of(config)
    return {
        **write_experts(config, keys),
        "n_shared_experts": moe.shared_size // moe.intermediate_size,
        "first_k_dense_replace": len(moe.dense_layers),
        "num_nextn_predict_layers": config.mtp_layers,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "deepseek_v3",
        **write_latent(config),
        **write_corrected(config),
        **ONLY,
        "rope_interleave": config.rope.interleaved,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    yield from sparse_links(config, expert_links, attention=latent_links)
    yield from mtp_links(config, expert_links, latent_links)
