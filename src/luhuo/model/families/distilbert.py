"""DistilBERT: BERT with half the layers and no token types (Sanh et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import Values, activation, activation_name, check
from luhuo.model.families.encoders import (
    COMMON_HEADS,
    architectures,
    embedding_links,
    label_links,
    linear,
    qkv,
    read_head,
    write_head,
)
from luhuo.model.families.links import Link, same

CONFIG = EncoderConfig
HEADS = architectures("DistilBert", COMMON_HEADS)
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "distilbert"
PREFIX = "distilbert."
IGNORED = r"position_ids$|^vocab_"
KEYS = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "n_layers": "layers",
    "n_heads": "heads",
    "hidden_dim": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "pad_token_id": "pad_id",
}
DEFAULTS = {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "max_position_embeddings": 512}
ONLY = {"tie_word_embeddings": True}
PARTS = {"query": "q_lin", "key": "k_lin", "value": "v_lin"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "DistilBERT")
    values = {**DEFAULTS, **values}
    act = activation(values.get("activation", "gelu"))
    return {
        **{ours: values[theirs] for theirs, ours in KEYS.items() if values.get(theirs) is not None},
        "head_dim": values["dim"] // values["n_heads"],
        "activation": act,
        "token_activation": act,
        "text_activation": "relu",
        **read_head(values, HEADS),
    }


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for theirs, ours in KEYS.items()},
        **ONLY,
        "activation": activation_name(config.activation),
        **write_head(config, HEADS),
    }


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    prefix = "" if config.head == "none" else PREFIX
    yield from embedding_links(config, prefix)
    for layer in range(config.layers):
        ours, theirs = f"stack.blocks.{layer}.", f"{prefix}transformer.layer.{layer}."
        yield from qkv(config, ours + "attention.qkv", lambda part, at=theirs: f"{at}attention.{PARTS[part]}")
        yield from linear(ours + "attention.out", theirs + "attention.out_lin")
        yield from linear(ours + "attention_norm", theirs + "sa_layer_norm")
        yield from linear(ours + "mlp.up", theirs + "ffn.lin1")
        yield from linear(ours + "mlp.down", theirs + "ffn.lin2")
        yield from linear(ours + "mlp_norm", theirs + "output_layer_norm")
    if config.predicts_tokens:
        yield same("masked_tokens.bias", "vocab_projector.bias")
        yield from linear("masked_tokens.transform.dense", "vocab_transform")
        yield from linear("masked_tokens.transform.norm", "vocab_layer_norm")
    if config.text_outputs:
        yield from linear("text_labels.transform.dense", "pre_classifier")
        yield from linear("text_labels.out", "classifier")
    yield from label_links(config)
