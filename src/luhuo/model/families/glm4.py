"""GLM-4-0414 and GLM-Z1: GLM-4 with norms on both sides of each branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families import glm
from luhuo.model.families.common import Values, fused_mlp_links, llama_links
from luhuo.model.families.links import Link

ARCHITECTURES = ("Glm4ForCausalLM",)
DEFAULTS = {
    "eos_token_id": [151329, 151336, 151338],
    "max_position_embeddings": 131072,
    "num_key_value_heads": 2,
    "pad_token_id": 151329,
    "rms_norm_eps": 1.5625e-07,
}
NORMS = {
    "attention_norm": "input_layernorm",
    "attention_output_norm": "post_self_attn_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "mlp_output_norm": "post_mlp_layernorm",
}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    return {**glm.read(values), "block": "sandwich"}


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {**glm.write(config), "model_type": "glm4"}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, norms=NORMS, mlp=fused_mlp_links)
