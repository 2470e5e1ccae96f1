"""BART (Lewis et al. 2020): learned positions, norms behind each branch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.families.common import Values, activation, activation_name, check, read_keys
from luhuo.model.families.encoders import linear, qkv
from luhuo.model.families.links import Link, reshaped, rows, same

CONFIG = EncoderDecoderConfig
ARCHITECTURES = ("BartForConditionalGeneration", "BartModel")
MODEL_TYPE = "bart"
PREFIX = "model."
IGNORED = r"(encoder|decoder)\.(embed_tokens\.weight|version)$|^classification_heads\."
ONLY = {"tie_word_embeddings": True, "normalize_embedding": True, "static_position_embeddings": False,
        "extra_pos_embeddings": 2, "add_bias_logits": False}  # fmt: skip
KEYS = {"vocab_size": "vocab_size", "pad_token_id": "pad_id", "bos_token_id": "bos_id",
        "decoder_start_token_id": "start_id", "forced_bos_token_id": "forced_first_id",
        "forced_eos_token_id": "forced_last_id"}  # fmt: skip
OFFSET = 2
"""Rows of the tables of positions in front of position 0."""
PARTS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, {**ONLY, "normalize_before": False, "add_final_layer_norm": False}, "BART")
    return read_fields({"decoder_start_token_id": 2, **values}, block="post")


def read_fields(values: Values, *, block: str) -> dict[str, Any]:
    """What BART and mBART share; with norms in front of each branch there is one behind the last too."""
    width = values["d_model"]
    stack = {
        "hidden_size": width,
        "max_positions": values.get("max_position_embeddings", 1024),
        "position_offset": OFFSET,
        "norm_eps": 1e-5,
        "block": block,
        "final_norm": block == "pre",
        "activation": activation(values.get("activation_function", "gelu")),
    }
    halves = {
        half: {
            **stack,
            "layers": values[f"{half}_layers"],
            "heads": values[f"{half}_attention_heads"],
            "head_dim": width // values[f"{half}_attention_heads"],
            "intermediate_size": values[f"{half}_ffn_dim"],
        }
        for half in ("encoder", "decoder")
    }
    scale = math.sqrt(width) if values.get("scale_embedding") else 1.0
    return {"pad_id": 1, "bos_id": 0, **read_keys(values, KEYS), **halves, "embedding_scale": scale}


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": MODEL_TYPE, **write_fields(config)}


def write_fields(config: EncoderDecoderConfig) -> dict[str, Any]:
    """What BART and mBART share."""
    halves: dict[str, Any] = {}
    for half, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        halves |= {
            f"{half}_layers": stack.layers,
            f"{half}_attention_heads": stack.heads,
            f"{half}_ffn_dim": stack.intermediate_size,
        }
    return {
        "is_encoder_decoder": True,
        **{theirs: getattr(config, ours) for theirs, ours in KEYS.items()},
        "d_model": config.encoder.hidden_size,
        "max_position_embeddings": config.encoder.max_positions,
        "activation_function": activation_name(config.encoder.activation),
        "scale_embedding": config.embedding_scale != 1,
        "tie_word_embeddings": True,
        "num_hidden_layers": config.encoder.layers,
        **halves,
    }


def fit(config: EncoderDecoderConfig, names: Collection[str]) -> EncoderDecoderConfig:
    """Whether there is a bias on the logits."""
    return config.model_copy(update={"head_bias": "final_logits_bias" in names})


def links(config: EncoderDecoderConfig) -> Iterator[Link]:
    """Tensors."""
    if config.head_bias:
        yield reshaped("head_bias", "final_logits_bias", (1, config.vocab_size), (config.vocab_size,))
    yield same("embedding", PREFIX + "shared.weight")
    for half, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        yield same(half + ".positions", f"{PREFIX}{half}.embed_positions.weight")
        for layer in range(stack.layers):
            ours, theirs = f"{half}.blocks.{layer}.", f"{PREFIX}{half}.layers.{layer}."
            at = theirs + "self_attn."
            yield from qkv(stack, ours + "attention.qkv", lambda part, at=at: at + PARTS[part])
            yield from linear(ours + "attention.out", at + "out_proj")
            yield from linear(ours + "attention_norm", theirs + "self_attn_layer_norm")
            if half == "decoder":
                at = theirs + "encoder_attn."
                yield from linear(ours + "cross.query", at + "q_proj")
                for kind in ("weight", "bias"):
                    names = [(f"{at}{name}_proj.{kind}", stack.heads * stack.head_dim) for name in "kv"]
                    yield rows(f"{ours}cross.key_value.{kind}", names)
                yield from linear(ours + "cross.out", at + "out_proj")
                yield from linear(ours + "cross_norm", theirs + "encoder_attn_layer_norm")
            yield from linear(ours + "mlp.up", theirs + "fc1")
            yield from linear(ours + "mlp.down", theirs + "fc2")
            yield from linear(ours + "mlp_norm", theirs + "final_layer_norm")
        yield from linear(half + ".embedding_norm", f"{PREFIX}{half}.layernorm_embedding")
        if stack.final_norm:
            yield from linear(half + ".norm", f"{PREFIX}{half}.layer_norm")
