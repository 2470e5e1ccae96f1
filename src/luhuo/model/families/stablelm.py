"""StableLM 3B and 2 (1.6B, 12B, Zephyr): partial rotary positions, LayerNorm, a norm for each head of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    LLAMA_KEYS,
    Values,
    activation,
    activation_name,
    attention_links,
    llama_fields,
    mlp_links,
    write_keys,
    write_rope,
)
from luhuo.model.families.links import Link, same, stacked
from luhuo.model.families.tables import norm_links

ARCHITECTURES = ("StableLmForCausalLM", "StableLMEpochForCausalLM")
DEFAULTS = {"bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 4096}
KEYS = {
    **{theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs not in ("rms_norm_eps", "head_dim")},
    "layer_norm_eps": "norm_eps",
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    fields = llama_fields({"partial_rotary_factor": 0.25, **_new_names(values)}, keys=KEYS)
    return {
        "norm_eps": 1e-5,
        **fields,
        "norm": "layer",
        "norm_bias": True,
        "block": "parallel" if values.get("use_parallel_residual") else "pre",
        "qk_norm": "heads" if values.get("qk_layernorm") else "none",
        "qk_norm_bias": False,
        "qkv_bias": bool(values.get("use_qkv_bias")),
        "activation": activation(values.get("hidden_act") or "silu"),
    }


def _new_names(values: Values) -> dict[str, Any]:
    """Files from before transformers knew the family call two keys otherwise."""
    old = {"rope_pct": "partial_rotary_factor", "norm_eps": "layer_norm_eps"}
    return {old.get(key, key): value for key, value in values.items()}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "stablelm",
        **write_keys(config, KEYS),
        **write_rope(config),
        "hidden_act": activation_name(config.activation),
        "use_qkv_bias": config.qkv_bias,
        "qk_layernorm": config.qk_norm == "heads",
        "use_parallel_residual": config.block == "parallel",
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; the norms of heads are published one by one."""
    yield same("embedding", "model.embed_tokens.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        yield from norm_links(config, ours + "attention_norm", theirs + "input_layernorm")
        yield from attention_links(config, ours + "attention.", theirs + "self_attn.")
        if config.qk_norm == "heads":
            for letter, heads in (("q", config.heads), ("k", config.kv_heads)):
                names = [[f"{theirs}self_attn.{letter}_layernorm.norms.{head}.weight"] for head in range(heads)]
                yield stacked(f"{ours}attention.{letter}_norm.weight", names, [config.head_dim])
        if config.block != "parallel":
            yield from norm_links(config, ours + "mlp_norm", theirs + "post_attention_layernorm")
        yield from mlp_links(config, ours + "mlp.", theirs + "mlp.")
    yield from norm_links(config, "norm", "model.norm")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")
