"""Gemma 1 (Gemma Team 2024): scaled embeddings, norms whose stored weight is one less, GeGLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation_name, check, llama_fields, llama_links, llama_values
from luhuo.model.families.links import Link

ARCHITECTURES = ("GemmaForCausalLM",)
DEFAULTS = {"bos_token_id": 2, "eos_token_id": 1, "max_position_embeddings": 8192, "pad_token_id": 0}
ONLY = {"attention_bias": False, "use_bidirectional_attention": False}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Early configs say "gelu" and mean its tanh approximation, as all these models do."""
    check(values, ONLY, "Gemma")
    names = {values.get("hidden_act"), values.get("hidden_activation")} - {None, "gelu", "gelu_pytorch_tanh"}
    check({"hidden_act": next(iter(names), None)}, {"hidden_act": "gelu_pytorch_tanh"}, "Gemma")
    return {
        **llama_fields({"tie_word_embeddings": True, "head_dim": 256, **values}),
        "norm_plus_one": True,
        "embedding_scale": values["hidden_size"] ** 0.5,
        "activation": "gelu_tanh",
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    name = activation_name(config.activation)
    return {"model_type": "gemma", **llama_values(config), **ONLY, "hidden_act": name, "hidden_activation": name}


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config)
