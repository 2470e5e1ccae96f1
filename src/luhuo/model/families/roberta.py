"""RoBERTa: BERT without token types, its positions counted from behind the padding token."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.encoders import (
    COMMON_HEADS,
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
HEADS = architectures("Roberta", COMMON_HEADS)
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "roberta"
PREFIX = "roberta."
IGNORED = r"position_ids$|^lm_head\.|pooler\.dense\."


def read(values: Values, heads: dict[str, Any] = HEADS, family: str = "RoBERTa") -> dict[str, Any]:
    """Fields of our config. Heads for tokens use GELU whatever the blocks use."""
    offset = values.get("pad_token_id", 1) + 1
    return {"pad_id": 1, **read_bert(values, heads, family, offset=offset), "token_activation": "gelu"}


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
    if config.pooler:
        yield from linear("text_labels.transform.dense", prefix + "pooler.dense")
    if config.predicts_tokens:
        yield same("masked_tokens.bias", "lm_head.bias")
        yield from linear("masked_tokens.transform.dense", "lm_head.dense")
        yield from linear("masked_tokens.transform.norm", "lm_head.layer_norm")
    if config.text_outputs:
        yield from linear("text_labels.transform.dense", "classifier.dense")
        yield from linear("text_labels.out", "classifier.out_proj")
    yield from label_links(config)
