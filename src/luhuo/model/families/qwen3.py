"""Qwen3 (dense): `config.json` and tensor names of `Qwen3ForCausalLM`, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig

ARCHITECTURE = "Qwen3ForCausalLM"

SUPPORTED = {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False}
"""Keys of a `config.json` that must have this value, if present."""


def read_config(values: dict[str, Any]) -> ModelConfig:
    """Our config of a Hugging Face one. Raises `LuhuoError` for a variant that is not Qwen3's plain decoder."""
    wrong = {key: values[key] for key, value in SUPPORTED.items() if values.get(key, value) != value}
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        wrong["rope_type"] = rope
    if wrong:
        raise LuhuoError(
            tr("This variant of Qwen3 is not supported.", "不支持这种 Qwen3 变体。"), expected=SUPPORTED, found=wrong
        )
    stop = values.get("eos_token_id")
    heads = values["num_attention_heads"]
    return ModelConfig(
        vocab_size=values["vocab_size"],
        hidden_size=values["hidden_size"],
        layers=values["num_hidden_layers"],
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or values["hidden_size"] // heads,
        intermediate_size=values["intermediate_size"],
        rope_theta=rope.get("rope_theta", values.get("rope_theta", 10_000.0)),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        tie_embeddings=values.get("tie_word_embeddings", False),
        max_positions=values.get("max_position_embeddings", 32_768),
        stop_ids=() if stop is None else tuple(stop) if isinstance(stop, list) else (stop,),
        pad_id=values.get("pad_token_id"),
    )


def write_config(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """The `config.json` of our config; opens in transformers 4.57 and 5."""
    name = str(dtype).removeprefix("torch.")
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "max_position_embeddings": config.max_positions,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "use_cache": True,
        "eos_token_id": list(config.stop_ids) or None,
        "pad_token_id": config.pad_id,
        "bos_token_id": None,
        "initializer_range": 0.02,
        "dtype": name,
        "torch_dtype": name,
    }


def parts(config: ModelConfig) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """For each parameter of `Decoder`: the published tensors it is made of, with their rows (0: all), in order."""
    yield "embedding", [("model.embed_tokens.weight", 0)]
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        q, k, v = config.qkv_rows
        attention = theirs + "self_attn."
        yield ours + "attention_norm.weight", [(theirs + "input_layernorm.weight", 0)]
        names = [(attention + "q_proj.weight", q), (attention + "k_proj.weight", k), (attention + "v_proj.weight", v)]
        yield ours + "attention.qkv.weight", names
        yield ours + "attention.q_norm.weight", [(attention + "q_norm.weight", 0)]
        yield ours + "attention.k_norm.weight", [(attention + "k_norm.weight", 0)]
        yield ours + "attention.out.weight", [(attention + "o_proj.weight", 0)]
        yield ours + "mlp_norm.weight", [(theirs + "post_attention_layernorm.weight", 0)]
        inner = config.intermediate_size
        gate_up = [(theirs + "mlp.gate_proj.weight", inner), (theirs + "mlp.up_proj.weight", inner)]
        yield ours + "mlp.gate_up.weight", gate_up
        yield ours + "mlp.down.weight", [(theirs + "mlp.down_proj.weight", 0)]
    yield "norm.weight", [("model.norm.weight", 0)]
    if not config.tie_embeddings:
        yield "unembedding.weight", [("lm_head.weight", 0)]


def shapes(config: ModelConfig, ours: dict[str, torch.Size]) -> dict[str, tuple[int, ...]]:
    """Published tensor name to shape, from the shapes of our parameters."""
    found: dict[str, tuple[int, ...]] = {}
    for name, sources in parts(config):
        for source, rows in sources:
            shape = tuple(ours[name])
            found[source] = (rows, *shape[1:]) if rows else shape
    return found


def export(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the published names, fused ones split."""
    published: dict[str, Tensor] = {}
    for name, sources in parts(config):
        start = 0
        for source, rows in sources:
            tensor = state[name]
            published[source] = tensor[start : start + rows].contiguous() if rows else tensor.contiguous()
            start += rows
    return published
