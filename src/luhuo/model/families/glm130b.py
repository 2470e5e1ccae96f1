"""GLM-130B (Zeng et al. 2022): ChatGLM-6B's blocks with one rotary position and a gated MLP.

Its weights were published in the training framework's own files, without a config.json; the keys here are those of
ChatGLM-6B, the tensors those of that framework. Positions are those of prompts that end with [gMASK].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.families.chatglm import KEYS, deep
from luhuo.model.families.common import Values, check, read_keys, write_keys
from luhuo.model.families.links import Link, permuted, same

ARCHITECTURES = ("GLM130BModel",)
ONLY = {"position_encoding_2d": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "GLM-130B")
    fields = {"tie_embeddings": True, **read_keys(values, KEYS)}
    return {
        **fields,
        **deep(fields["layers"]),
        "kv_heads": fields["heads"],
        "head_dim": fields["hidden_size"] // fields["heads"],
        "prefix_end": values["bos_token_id"],
        "activation": "gelu",
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "glm-130b", **write_keys(config, KEYS), **ONLY}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; the gate is the second half of its matrix."""
    swapped = _swapped(config.intermediate_size)
    yield same("embedding", "transformer.word_embeddings.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"transformer.layers.{layer}."
        for kind in ("weight", "bias"):
            yield same(f"{ours}attention_norm.{kind}", f"{theirs}input_layernorm.{kind}")
            yield same(f"{ours}attention.qkv.{kind}", f"{theirs}attention.query_key_value.{kind}")
            yield same(f"{ours}attention.out.{kind}", f"{theirs}attention.dense.{kind}")
            yield same(f"{ours}mlp_norm.{kind}", f"{theirs}post_attention_layernorm.{kind}")
            yield permuted(f"{ours}mlp.gate_up.{kind}", f"{theirs}mlp.dense_h_to_4h.{kind}", swapped)
            yield same(f"{ours}mlp.down.{kind}", f"{theirs}mlp.dense_4h_to_h.{kind}")
    yield same("norm.weight", "transformer.final_layernorm.weight")
    yield same("norm.bias", "transformer.final_layernorm.bias")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")


def _swapped(inner: int) -> Tensor:
    return torch.arange(2 * inner).roll(inner)
