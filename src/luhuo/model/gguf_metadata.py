"""Our config as the metadata of a GGUF file. `gguf_check.py` reads it back before anything is written."""

from __future__ import annotations

from typing import Any

import torch

from luhuo.model import families
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.gguf_config import EXTRA, SIGMOID
from luhuo.model.gguf_layouts import Layout
from luhuo.model.rope import frequencies


def write_metadata(config: ModelConfig, layout: Layout) -> dict[str, Any]:
    """The keys of the architecture for a config, without those of the tokenizer."""
    moe, mla = config.moe, config.mla
    key = "rms" if config.norm == "rms" else "layer"
    found: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_positions,
        "embedding_length": config.hidden_size,
        "block_count": config.layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        {"rms": "attention.layer_norm_rms_epsilon", "layer": "attention.layer_norm_epsilon"}[key]: config.norm_eps,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.sliding_window": max(config.windows, default=0) or None,
        "attention.clamp_kqv": config.qkv_clip or None,
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.logit_softcap or None,
    }
    if config.positions == "rope":
        found |= _write_rope(config)
    if moe is not None:
        found |= {
            "expert_count": moe.experts,
            "expert_used_count": moe.active,
            "expert_feed_forward_length": moe.intermediate_size,
        }
        if layout.families[0] == "mixtral":
            found["feed_forward_length"] = moe.intermediate_size
    if moe is not None and mla is not None:
        found |= _write_deepseek(config)
    found |= _write_special(config, layout)
    return {
        f"{layout.architecture}.{name}": float(value) if isinstance(value, float) else value
        for name, value in found.items()
        if value is not None
    }


def _write_rope(config: ModelConfig) -> dict[str, Any]:
    rope = config.rope
    found: dict[str, Any] = {"rope.freq_base": rope.theta, "rope.dimension_count": config.rope_dim}
    if config.local_rope is not None:
        found["rope.freq_base_swa"] = config.local_rope.theta
    if rope.kind in ("linear", "yarn", "longrope"):
        found["rope.scaling.type"] = rope.kind
        found["rope.scaling.original_context_length"] = rope.original_positions
    if rope.kind in ("linear", "yarn"):
        found["rope.scaling.factor"] = rope.factor
    if rope.kind == "yarn":
        defaults = RopeConfig()
        found["rope.scaling.yarn_beta_fast"] = rope.beta_fast if rope.beta_fast != defaults.beta_fast else None
        found["rope.scaling.yarn_beta_slow"] = rope.beta_slow if rope.beta_slow != defaults.beta_slow else None
        found["rope.scaling.yarn_log_multiplier"] = 0.1 * rope.mscale_all_dim or None
    if rope.kind == "longrope":
        found["rope.scaling.attn_factor"] = frequencies(rope, config.rope_dim, 1, config.max_positions)[1]
    return found


def _write_special(config: ModelConfig, layout: Layout) -> dict[str, Any]:
    family, moe = layout.families[0], config.moe
    if family == "mpt":
        written = families.families()["mpt"].write(config)["attn_config"]
        return {"attention.max_alibi_bias": float(written["alibi_bias_max"])}
    if family == "granite":
        return {
            "attention.scale": config.attention_scale,
            "logit_scale": 1 / config.logit_scale,
            "embedding_scale": config.embedding_scale,
            "residual_scale": config.branch_scale,
        }
    if family in ("cohere", "cohere2"):
        return {"logit_scale": config.logit_scale}
    if family == "stablelm":
        return {"use_parallel_residual": config.block == "parallel"}
    if family == "gpt_neox":
        return {"use_parallel_residual": config.block == "parallel_two"}
    if family == "qwen2_moe" and moe is not None:
        return {"expert_shared_feed_forward_length": moe.shared_size}
    return {}


def _write_deepseek(config: ModelConfig) -> dict[str, Any]:
    """Latent attention is written as one key head of the latent's size, which is how llama.cpp computes it."""
    moe, mla = config.moe, config.mla
    assert moe is not None
    assert mla is not None
    return {
        "attention.head_count_kv": 1,
        "attention.key_length": mla.kv_rank + mla.rope_dim,
        "attention.value_length": mla.kv_rank,
        "attention.key_length_mla": mla.nope_dim + mla.rope_dim,
        "attention.value_length_mla": mla.value_dim,
        "attention.q_lora_rank": mla.q_rank,
        "attention.kv_lora_rank": mla.kv_rank,
        "leading_dense_block_count": len(moe.dense_layers),
        "expert_shared_count": moe.shared_size // moe.intermediate_size,
        "expert_weights_scale": moe.scale,
        "expert_weights_norm": moe.normalise,
        "expert_gating_func": SIGMOID if moe.score == "sigmoid" else 1,
        "expert_group_count": moe.groups if moe.groups > 1 else None,
        "expert_group_used_count": moe.active_groups if moe.groups > 1 else None,
    }


def extra_vectors(config: ModelConfig) -> dict[str, list[float]]:
    """The small tensors that carry rotary settings: Llama 3's divisors, longrope's two lists."""
    rope = config.rope
    if config.positions != "rope":
        return {}
    if rope.kind == "llama3":
        plain = rope.theta ** -(torch.arange(0, config.rope_dim, 2, dtype=torch.float32) / config.rope_dim)
        stretched = frequencies(rope, config.rope_dim, 1, config.max_positions)[0]
        return {EXTRA[0]: (plain / stretched).tolist()}
    if rope.kind == "longrope":
        return {EXTRA[1]: list(rope.long_factors), EXTRA[2]: list(rope.short_factors)}
    return {}
