"""MiniCPM 1, 2 and 4 (Hu et al. 2024): Llama with factors on embeddings, branches and logits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    check,
    llama_fields,
    llama_links,
    llama_values,
)
from luhuo.model.families.links import Link

ARCHITECTURES = ("MiniCPMForCausalLM",)
ONLY = {"num_experts": 0, "sparse_config": None}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. What a branch adds is scaled by the depth, logits by the width over a base width."""
    check(values, ONLY, "MiniCPM")
    bias = bool(values.get("attention_bias"))
    fields = llama_fields({"tie_word_embeddings": True, **values})
    return {
        **fields,
        "activation": activation(values.get("hidden_act", "silu")),
        "qkv_bias": bias,
        "out_bias": bias,
        "embedding_scale": values.get("scale_emb", 1),
        "branch_scale": values.get("scale_depth", 1) / math.sqrt(fields["layers"]),
        "logit_scale": values.get("dim_model_base", 1) / fields["hidden_size"],
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "minicpm",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "scale_emb": config.embedding_scale,
        "scale_depth": config.branch_scale * math.sqrt(config.layers),
        "dim_model_base": config.logit_scale * config.hidden_size,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
