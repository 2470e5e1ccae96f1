"""MiniMax-M2: sigmoid routing with a correction, queries and keys normalised over all heads, partly rotated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, attention_links, check, llama_fields, llama_values
from luhuo.model.families.experts import expert_links, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link
from luhuo.model.families.mixtral import KEYS, NAMES

ARCHITECTURES = ("MiniMaxM2ForCausalLM",)
DEFAULTS = {
    "bos_token_id": 200034,
    "eos_token_id": 200020,
    "head_dim": 128,
    "max_position_embeddings": 196608,
    "num_key_value_heads": 8,
    "router_aux_loss_coef": 0.001,
}
IGNORED = r"^model\.mtp_modules\."
ONLY = {
    "hidden_act": "silu",
    "scoring_func": "sigmoid",
    "use_qk_norm": True,
    "qk_norm_type": "per_layer",
    "use_routing_bias": True,
    "shared_intermediate_size": 0,
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Older files give the rotated features of a head as `rotary_dim`."""
    check(values, ONLY, "MiniMax-M2")
    turned = values.get("rotary_dim")
    share = {"partial_rotary_factor": turned / values["head_dim"]} if turned else {}
    return {
        **llama_fields({**share, **values}, theta=5e6),
        "qk_norm": "full",
        "moe": read_experts(values, KEYS, score="sigmoid", correction=True),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "minimax_m2",
        **llama_values(config),
        **write_experts(config, KEYS),
        **ONLY,
        "rotary_dim": config.rope_dim,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    experts = partial(expert_links, names=NAMES, correction="e_score_correction_bias")
    attention = partial(attention_links, qk_norm=True)
    return sparse_links(config, experts, feed="block_sparse_moe.", attention=attention)
