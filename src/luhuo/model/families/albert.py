"""ALBERT: BERT with narrow embeddings and one group of weights for all layers (Lan et al. 2020)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.encoders import (
    COMMON_HEADS,
    architectures,
    embedding_links,
    has_pooler,
    label_links,
    linear,
    qkv,
    read_bert,
    write_bert,
)
from luhuo.model.families.links import Link, same

CONFIG = EncoderConfig
HEADS = architectures("Albert", (*COMMON_HEADS, "pretraining"))
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "albert"
PREFIX = "albert."
IGNORED = r"position_ids$|^predictions\.|^sop_classifier\.|pooler\."


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    size = values.get("embedding_size", 128)
    if size == values["hidden_size"]:
        raise LuhuoError(
            tr("This variant of ALBERT is not supported.", "不支持这种 ALBERT 变体。"),
            expected="embedding_size != hidden_size",
            found=size,
        )
    return {
        **read_bert({"hidden_act": "gelu_new", **values}, HEADS, "ALBERT"),
        "embedding_size": size,
        "groups": values.get("num_hidden_groups", 1),
        "group_blocks": values.get("inner_group_num", 1),
    }


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": MODEL_TYPE,
        **write_bert(config, HEADS),
        "embedding_size": config.embedding_size,
        "num_hidden_groups": config.groups,
        "inner_group_num": config.group_blocks,
    }


def fit(config: EncoderConfig, names: Collection[str]) -> EncoderConfig:
    """What only the weights tell."""
    return has_pooler(config, names, "pooler.weight")


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    prefix = "" if config.head == "none" else PREFIX
    yield from embedding_links(config, prefix)
    yield from linear("stack.projection", prefix + "encoder.embedding_hidden_mapping_in")
    for block in range(config.blocks):
        group, inner = divmod(block, config.group_blocks)
        ours = f"stack.blocks.{block}."
        theirs = f"{prefix}encoder.albert_layer_groups.{group}.albert_layers.{inner}."
        yield from qkv(config, ours + "attention.qkv", lambda part, at=theirs: f"{at}attention.{part}")
        yield from linear(ours + "attention.out", theirs + "attention.dense")
        yield from linear(ours + "attention_norm", theirs + "attention.LayerNorm")
        yield from linear(ours + "mlp.up", theirs + "ffn")
        yield from linear(ours + "mlp.down", theirs + "ffn_output")
        yield from linear(ours + "mlp_norm", theirs + "full_layer_layer_norm")
    if config.text_outputs or config.pooler:
        yield from linear("text_labels.transform.dense", prefix + "pooler")
    if config.predicts_tokens:
        yield same("masked_tokens.bias", "predictions.bias")
        yield from linear("masked_tokens.transform.dense", "predictions.dense")
        yield from linear("masked_tokens.transform.norm", "predictions.LayerNorm")
    if config.text_outputs:
        classifies = config.head == "classification"
        yield from linear("text_labels.out", "classifier" if classifies else "sop_classifier.classifier")
    yield from label_links(config)
