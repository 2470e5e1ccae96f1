"""DeBERTa-v2 and v3: attention that scores content and distance apart (He et al. 2021, 2023)."""

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
    layer_links,
    linear,
    read_bert,
    write_bert,
)
from luhuo.model.families.links import Link, same

CONFIG = EncoderConfig
HEADS = architectures("DebertaV2", COMMON_HEADS)
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "deberta-v2"
PREFIX = "deberta."
IGNORED = r"position_ids$|^cls\.|^lm_predictions\.|^mask_predictions\.|^pooler\."
ONLY = {"relative_attention": True, "legacy": True, "conv_groups": 1}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    width = values["hidden_size"]
    only = {**ONLY, "embedding_size": width, "pooler_hidden_size": width}
    check({"relative_attention": False, **values}, only, "DeBERTa-v2")
    check(values, {"attention_head_size": width // values["num_attention_heads"]}, "DeBERTa-v2")
    kinds = values.get("pos_att_type") or []
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    longest = values.get("max_relative_positions", -1)
    longest = longest if longest > 0 else values.get("max_position_embeddings", 512)
    buckets = max(values.get("position_buckets", -1), 0)
    settings = {
        "span": buckets or longest,
        "buckets": buckets,
        "longest": longest,
        "content_to_position": "c2p" in kinds,
        "position_to_content": "p2c" in kinds,
        "shared": bool(values.get("share_att_key", False)),
        "norm": "layer_norm" in str(values.get("norm_rel_ebd", "none")).lower(),
        "kernel": values.get("conv_kernel_size") or 0,
        "kernel_activation": activation(values.get("conv_act", "tanh")),
    }
    return {
        **read_bert({"layer_norm_eps": 1e-7, "type_vocab_size": 0, **values}, HEADS, "DeBERTa-v2"),
        "positions": "learned" if values.get("position_biased_input", True) else "none",
        "disentangled": settings,
        "text_activation": activation(values.get("pooler_hidden_act", "gelu")),
    }


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    settings = config.disentangled
    assert settings is not None
    kinds = {"c2p": settings.content_to_position, "p2c": settings.position_to_content}
    return {
        "model_type": MODEL_TYPE,
        **write_bert(config, HEADS),
        **ONLY,
        "position_biased_input": config.positions == "learned",
        "pos_att_type": [kind for kind, there in kinds.items() if there],
        "max_relative_positions": settings.longest,
        "position_buckets": settings.buckets or -1,
        "share_att_key": settings.shared,
        "norm_rel_ebd": "layer_norm" if settings.norm else "none",
        "conv_kernel_size": settings.kernel,
        "conv_act": activation_name(settings.kernel_activation),
        "pooler_hidden_act": activation_name(config.text_activation),
        "pooler_hidden_size": config.hidden_size,
    }


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    prefix = "" if config.head == "none" else PREFIX
    settings = config.disentangled
    assert settings is not None
    yield from embedding_links(config, prefix)
    yield from layer_links(config, prefix, part="{}_proj")
    for layer in range(0 if settings.shared else config.layers):
        ours, theirs = f"stack.blocks.{layer}.attention.", f"{prefix}encoder.layer.{layer}.attention.self."
        if settings.content_to_position:
            yield from linear(ours + "distance_key", theirs + "pos_key_proj")
        if settings.position_to_content:
            yield from linear(ours + "distance_query", theirs + "pos_query_proj")
    yield same("stack.distances", prefix + "encoder.rel_embeddings.weight")
    if settings.norm:
        yield from linear("stack.distance_norm", prefix + "encoder.LayerNorm")
    if settings.kernel:
        yield from linear("stack.convolution", prefix + "encoder.conv.conv")
        yield from linear("stack.convolution_norm", prefix + "encoder.conv.LayerNorm")
    if config.predicts_tokens:
        yield same("masked_tokens.bias", "cls.predictions.bias")
        yield from linear("masked_tokens.transform.dense", "cls.predictions.transform.dense")
        yield from linear("masked_tokens.transform.norm", "cls.predictions.transform.LayerNorm")
    if config.text_outputs:
        yield from linear("text_labels.transform.dense", "pooler.dense")
        yield from linear("text_labels.out", "classifier")
    yield from label_links(config)
