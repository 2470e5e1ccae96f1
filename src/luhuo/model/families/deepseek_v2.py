"""DeepSeek-V2, V2.5, V2-Lite and Coder-V2: latent attention, and experts chosen within groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import MLAConfig, ModelConfig
from luhuo.model.families.common import (
    LLAMA_KEYS,
    Values,
    check,
    llama_values,
    read_keys,
    read_rope,
)
from luhuo.model.families.experts import EXPERT_KEYS, expert_links, moe_of, read_experts, sparse_links, write_experts
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("DeepseekV2ForCausalLM",)
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2, "n_shared_experts": 2, "q_lora_rank": 1536}
ONLY = {"hidden_act": "silu", "moe_layer_freq": 1, "scoring_func": "softmax", "mlp_bias": False}
KEYS = {
    **{theirs: ours for theirs, ours in EXPERT_KEYS.items() if theirs != "num_experts"},
    "n_routed_experts": "experts",
    "routed_scaling_factor": "scale",
    "n_group": "groups",
    "topk_group": "active_groups",
    "aux_loss_alpha": "balance",
}
MLA_KEYS = {
    "q_lora_rank": "q_rank",
    "kv_lora_rank": "kv_rank",
    "qk_nope_head_dim": "nope_dim",
    "qk_rope_head_dim": "rope_dim",
    "v_head_dim": "value_dim",
}
FAMILY_KEYS = {theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs != "head_dim"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    method = values.get("topk_method") or "greedy"
    check(values, ONLY, "DeepSeek-V2")
    grouped = {"n_group": None, "topk_group": None} if method == "greedy" else {}
    check({"topk_method": method}, {"topk_method": "group_limited_greedy" if not grouped else "greedy"}, "DeepSeek-V2")
    # The reference never normalises here: in the published models the weights only carry the scale.
    check(values, {"norm_topk_prob": False}, "DeepSeek-V2")
    return {
        **read_latent(values),
        "moe": read_experts(
            {**values, **grouped},
            KEYS,
            normalise=False,
            group_score="max",
            balance_over="sequence" if values.get("seq_aux", True) else "batch",
            shared_size=values["moe_intermediate_size"] * (values.get("n_shared_experts") or 0),
            dense_layers=tuple(range(values.get("first_k_dense_replace") or 0)),
        ),
    }


def read_latent(values: Values, *, interleaved: bool = True) -> dict[str, Any]:
    """Fields of a Llama-like decoder with latent attention."""
    mla = MLAConfig.parse(read_keys(values, MLA_KEYS), where="mla")
    bias = bool(values.get("attention_bias"))
    return {
        "tie_embeddings": False,
        **read_keys(values, FAMILY_KEYS),
        "kv_heads": values["num_attention_heads"],
        "head_dim": mla.nope_dim + mla.rope_dim,
        "rope": read_rope(values, mla.rope_dim, interleaved=interleaved),
        "mla": mla,
        "qk_norm": "none",
        "qkv_bias": bias,
        "out_bias": bias,
    }


def write_latent(config: ModelConfig) -> dict[str, Any]:
    """The keys that `read_latent` reads."""
    assert config.mla is not None
    return {
        **llama_values(config, FAMILY_KEYS),
        **{theirs: getattr(config.mla, ours) for theirs, ours in MLA_KEYS.items()},
        "head_dim": config.mla.rope_dim,
        "attention_bias": config.qkv_bias,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    moe = moe_of(config)
    grouped = moe.groups > moe.active_groups
    return {
        "model_type": "deepseek_v2",
        **write_latent(config),
        **write_experts(config, KEYS),
        **ONLY,
        "topk_method": "group_limited_greedy" if grouped else "greedy",
        "seq_aux": moe.balance_over == "sequence",
        "n_shared_experts": moe.shared_size // moe.intermediate_size or None,
        "first_k_dense_replace": len(moe.dense_layers),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, expert_links, attention=latent_links)


def latent_links(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    """The projections and norms of latent attention."""
    assert config.mla is not None
    names = {
        "kv_down": "kv_a_proj_with_mqa",
        "kv_latent_norm": "kv_a_layernorm",
        "kv_up": "kv_b_proj",
        "out": "o_proj",
    }
    if config.mla.q_rank is None:
        names["q"] = "q_proj"
    else:
        names |= {"q_down": "q_a_proj", "q_latent_norm": "q_a_layernorm", "q_up": "q_b_proj"}
    yield from (same(f"{ours}{own}.weight", f"{theirs}{name}.weight") for own, name in names.items())
    biased = [
        *(["q_down"] if config.mla.q_rank and config.qkv_bias else []),
        *(["kv_down"] if config.qkv_bias else []),
    ]
    for own in [*biased, *(["out"] if config.out_bias else [])]:
        yield same(f"{ours}{own}.bias", f"{theirs}{names[own]}.bias")
