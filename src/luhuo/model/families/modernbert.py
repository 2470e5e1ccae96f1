"""ModernBERT: rotary positions, gated MLPs, and windows in all layers but every third (Warner et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    check,
    read_keys,
    read_rope_parameters,
    write_rope_parameters,
)
from luhuo.model.families.encoders import COMMON_HEADS, architectures, linear, read_head, write_head
from luhuo.model.families.links import Link, same

CONFIG = EncoderConfig
HEADS = architectures("ModernBert", COMMON_HEADS)
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "modernbert"
PREFIX = "model."
IGNORED = r"^head\.|^decoder\."
HEAD = "decoder.weight"
ONLY = {"tie_word_embeddings": True}
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "norm_eps": "norm_eps",
    "norm_bias": "norm_bias",
    "mlp_bias": "mlp_bias",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
    "decoder_bias": "head_bias",
    "classifier_bias": "transform_bias",
}
DEFAULTS = {"max_position_embeddings": 8192, "norm_eps": 1e-5, "norm_bias": False, "mlp_bias": False,
            "decoder_bias": True, "classifier_bias": False}  # fmt: skip
POOLING = {"cls": "first", "mean": "mean"}
THETAS = {"full_attention": ("global_rope_theta", 160_000.0), "sliding_attention": ("local_rope_theta", 10_000.0)}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "ModernBERT")
    values = {**DEFAULTS, **values}
    fields = read_keys(values, KEYS)
    every = values.get("global_attn_every_n_layers") or 3
    alternating = ["sliding_attention" if i % every else "full_attention" for i in range(fields["layers"])]
    kinds = values.get("layer_types") or alternating
    side = values.get("local_attention", 128) // 2
    head_dim = fields["hidden_size"] // fields["heads"]
    by_kind = {}
    for kind, (key, theta) in THETAS.items():
        found = (values.get("rope_parameters") or {}).get(kind) or {}
        scaling = values.get("rope_scaling") or {}
        by_kind[kind] = read_rope_parameters({**scaling, **found}, {}, head_dim, theta=values.get(key) or theta)
    act = activation(values.get("classifier_activation", "gelu"))
    return {
        **fields,
        "head_dim": head_dim,
        "block": "pre",
        "first_norm": False,
        "final_norm": True,
        "positions": "rope",
        "rope": by_kind["full_attention"],
        "local_rope": by_kind["sliding_attention"],
        "windows": [side if kind == "sliding_attention" else 0 for kind in kinds],
        "qkv_bias": bool(values.get("attention_bias")),
        "out_bias": bool(values.get("attention_bias")),
        "activation": activation(values.get("hidden_activation", "gelu")),
        "gated": True,
        "text_activation": act,
        "token_activation": act,
        "token_transform": True,
        "text_norm": True,
        "pooling": POOLING[values.get("classifier_pooling", "cls")],
        **read_head(values, HEADS),
    }


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`, with rotary positions in the styles of transformers 4 and 5."""
    assert config.local_rope is not None
    globals_ = [layer for layer, window in enumerate(config.windows) if not window]
    kinds = ["sliding_attention" if window else "full_attention" for window in config.windows]
    ropes = {"full_attention": config.rope, "sliding_attention": config.local_rope}
    return {
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for theirs, ours in KEYS.items()},
        **ONLY,
        "hidden_activation": activation_name(config.activation),
        "classifier_activation": activation_name(config.token_activation),
        "classifier_pooling": next(theirs for theirs, ours in POOLING.items() if ours == config.pooling),
        "attention_bias": config.qkv_bias,
        "local_attention": 2 * max(config.windows),
        "layer_types": kinds,
        "global_attn_every_n_layers": globals_[1] if len(globals_) > 1 else config.layers,
        "rope_parameters": {kind: write_rope_parameters(rope, config.head_dim) for kind, rope in ropes.items()},
        **{THETAS[kind][0]: rope.theta for kind, rope in ropes.items()},
        **write_head(config, HEADS),
    }


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    prefix, bias = "" if config.head == "none" else PREFIX, config.norm_bias
    yield same("embedding", prefix + "embeddings.tok_embeddings.weight")
    yield from linear("stack.embedding_norm", prefix + "embeddings.norm", bias=bias)
    for layer in range(config.layers):
        ours, theirs = f"stack.blocks.{layer}.", f"{prefix}layers.{layer}."
        if layer:
            yield from linear(ours + "attention_norm", theirs + "attn_norm", bias=bias)
        yield from linear(ours + "attention.qkv", theirs + "attn.Wqkv", bias=config.qkv_bias)
        yield from linear(ours + "attention.out", theirs + "attn.Wo", bias=config.out_bias)
        yield from linear(ours + "mlp_norm", theirs + "mlp_norm", bias=bias)
        yield from linear(ours + "mlp.gate_up", theirs + "mlp.Wi", bias=config.mlp_bias)
        yield from linear(ours + "mlp.down", theirs + "mlp.Wo", bias=config.mlp_bias)
    yield from linear("stack.norm", prefix + "final_norm", bias=bias)
    if config.head == "none":
        return
    kind = "masked_tokens" if config.predicts_tokens else "token_labels" if config.token_outputs else "text_labels"
    yield from linear(kind + ".transform.dense", "head.dense", bias=config.transform_bias)
    yield from linear(kind + ".transform.norm", "head.norm", bias=bias)
    if config.predicts_tokens:
        if config.head_bias:
            yield same("masked_tokens.bias", "decoder.bias")
    else:
        yield from linear(kind + ".out", "classifier")
