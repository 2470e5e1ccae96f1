"""MiniCPM3-4B: latent attention with MiniCPM's factors on embeddings, branches and logits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import BLOCK_NORMS, Values, activation, activation_name, check, mlp_links
from luhuo.model.families.deepseek_v2 import latent_links, read_latent, write_latent
from luhuo.model.families.experts import block_links
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("MiniCPM3ForCausalLM",)
DEFAULTS = {
    "bos_token_id": 1,
    "dim_model_base": 256,
    "eos_token_id": 2,
    "max_position_embeddings": 32768,
    "q_lora_rank": 768,
    "rms_norm_eps": 1e-05,
    "scale_depth": 1.4,
}
ONLY = {"mlp_bias": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. What a branch adds is scaled by the depth, logits by the width over a base width."""
    check(values, ONLY, "MiniCPM3")
    width, layers = values["hidden_size"], values["num_hidden_layers"]
    value_dim = values.get("v_head_dim") or width // values["num_attention_heads"]
    fields = read_latent({"tie_word_embeddings": True, **values, "v_head_dim": value_dim}, interleaved=False)
    depth = values.get("scale_depth")
    return {
        **fields,
        "activation": activation(values.get("hidden_act", "silu")),
        "embedding_scale": values.get("scale_emb", 12),
        "branch_scale": 1.0 if depth is None else depth / math.sqrt(layers),
        "logit_scale": (values.get("dim_model_base") or width) / width,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "minicpm3",
        **write_latent(config),
        **ONLY,
        "hidden_act": activation_name(config.activation),
        "scale_emb": config.embedding_scale,
        "scale_depth": config.branch_scale * math.sqrt(config.layers),
        "dim_model_base": round(config.logit_scale * config.hidden_size),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    yield same("embedding", "model.embed_tokens.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        yield from block_links(config, ours, theirs, latent_links, BLOCK_NORMS)
        yield from mlp_links(config, ours + "mlp.", theirs + "mlp.")
    yield same("norm.weight", "model.norm.weight")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")
