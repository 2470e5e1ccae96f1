"""ELECTRA: BERT with narrow embeddings in its small models, trained to detect replaced tokens (Clark et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.encoders import (
    COMMON_HEADS,
    architectures,
    embedding_links,
    label_links,
    layer_links,
    linear,
    read_bert,
    write_bert,
)
from luhuo.model.families.links import Link, same

CONFIG = EncoderConfig
HEADS = architectures("Electra", (*COMMON_HEADS, "detection"))
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "electra"
PREFIX = "electra."
IGNORED = r"position_ids$|^generator_|^discriminator_"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. The generator's head uses GELU whatever the blocks use."""
    size = values.get("embedding_size", 128)
    fields = read_bert(values, HEADS, "ELECTRA")
    return {
        **fields,
        "embedding_size": None if size == fields["hidden_size"] else size,
        "text_activation": "gelu",
        "token_activation": fields["activation"] if fields["head"] == "detection" else "gelu",
    }


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": MODEL_TYPE, **write_bert(config, HEADS), "embedding_size": config.width}


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    prefix = "" if config.head == "none" else PREFIX
    yield from embedding_links(config, prefix)
    if config.embedding_size:
        yield from linear("stack.projection", prefix + "embeddings_project")
    yield from layer_links(config, prefix)
    if config.predicts_tokens:
        yield same("masked_tokens.bias", "generator_lm_head.bias")
        yield from linear("masked_tokens.transform.dense", "generator_predictions.dense")
        yield from linear("masked_tokens.transform.norm", "generator_predictions.LayerNorm")
    if config.text_outputs:
        yield from linear("text_labels.transform.dense", "classifier.dense")
        yield from linear("text_labels.out", "classifier.out_proj")
    if config.head == "detection":
        yield from linear("token_labels.transform.dense", "discriminator_predictions.dense")
    yield from label_links(
        config, "discriminator_predictions.dense_prediction" if config.head == "detection" else "classifier"
    )
