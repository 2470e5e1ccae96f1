"""Gemma 3 (Gemma Team 2025), text: QK-norm, five windowed layers with their own rotary base to one without window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import (
    LLAMA_KEYS,
    SANDWICH_NORMS,
    Values,
    activation,
    activation_name,
    check,
    llama_links,
    read_keys,
    read_layer_ropes,
    read_windows,
    write_keys,
    write_layer_ropes,
    write_windows,
)
from luhuo.model.families.gemma2 import scores, write_scores
from luhuo.model.families.links import Link

ARCHITECTURES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
ONLY = {"attention_bias": False, "use_bidirectional_attention": False}
PREFIX = "language_model."
IGNORED = r"^(model\.)?(vision_tower|multi_modal_projector)\."
DEFAULTS = {
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
}
"""Above all the configs of models with images leave much out."""


def read(values: Values) -> dict[str, Any]:
    """Fields of our config: of a text model, or of the text part of a model with images, whose other part is left."""
    values = {**DEFAULTS, **values, **values.get("text_config", {})}
    check(values, ONLY, "Gemma 3")
    return {
        **read_keys(values, LLAMA_KEYS),
        **scores(values, attention=0.0, final=0.0),
        **read_layer_ropes(values, values["head_dim"], theta=1_000_000.0, local_theta=10_000.0),
        "block": "sandwich",
        "norm_plus_one": True,
        "embedding_scale": values["hidden_size"] ** 0.5,
        "activation": activation(values.get("hidden_activation") or "gelu_pytorch_tanh"),
        "windows": read_windows(values, values.get("sliding_window_pattern") or 6),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json` of a text model."""
    return {
        "model_type": "gemma3_text",
        **write_keys(config, LLAMA_KEYS),
        **ONLY,
        **write_scores(config),
        **write_windows(config),
        "hidden_activation": activation_name(config.activation),
        **write_layer_ropes(config),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return llama_links(config, qk_norm=True, norms=SANDWICH_NORMS)
