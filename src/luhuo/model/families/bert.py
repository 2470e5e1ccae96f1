"""BERT and what is published in its layout: RoBERTa-wwm and MacBERT for Chinese, MiniLM, BGE, E5, GTE."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.encoders import (
    COMMON_HEADS,
    OLD_NORMS,
    architectures,
    embedding_links,
    has_pooler,
    label_links,
    layer_links,
    linear,
    read_bert,
    write_bert,
)
from luhuo.model.families.links import Link, same

CONFIG = EncoderConfig
HEADS = architectures("Bert", (*COMMON_HEADS, "pretraining", "relation"))
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "bert"
PREFIX = "bert."
IGNORED = r"position_ids$|^cls\.|pooler\.dense\."
OLD_NAMES = OLD_NORMS


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    return read_bert(values, HEADS, "BERT")


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": MODEL_TYPE, **write_bert(config, HEADS)}


def fit(config: EncoderConfig, names: Collection[str]) -> EncoderConfig:
    """What only the weights tell."""
    return has_pooler(config, names, "pooler.dense.weight")


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    prefix = "" if config.head == "none" else PREFIX
    yield from embedding_links(config, prefix)
    yield from layer_links(config, prefix)
    if config.text_outputs or config.pooler:
        yield from linear("text_labels.transform.dense", prefix + "pooler.dense")
    if config.predicts_tokens:
        yield same("masked_tokens.bias", "cls.predictions.bias")
        yield from linear("masked_tokens.transform.dense", "cls.predictions.transform.dense")
        yield from linear("masked_tokens.transform.norm", "cls.predictions.transform.LayerNorm")
    if config.text_outputs:
        classifies = config.head == "classification"
        yield from linear("text_labels.out", "classifier" if classifies else "cls.seq_relationship")
    yield from label_links(config)
