"""CPM-Bee (OpenBMB 2023): texts are records of named entries, of which one is generated (see `records.py`).

The smaller models are the largest one with attention or feed-forward parts left out of some layers. Ids are those of
a flat record; `distance_scale` turns numbered placeholders only, which ids do not tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, read_keys, stop_ids, write_keys
from luhuo.model.families.links import Link, rows, same

ARCHITECTURES = ("CpmBeeForCausalLM",)
MODEL_TYPE = "cpmbee"
PREFIX = "cpmbee."
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "dim_head": "head_dim",
    "dim_ff": "intermediate_size",
    "eps": "norm_eps",
    "max_position_embeddings": "max_positions",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
RECORD_KEYS = {
    "bos_token_id": "begin_id",
    "ans_token_id": "answer_id",
    "position_bias_num_buckets": "buckets",
    "position_bias_num_segment_buckets": "relations",
    "position_bias_max_distance": "longest",
}
DEFAULTS = {
    "vocab_size": 30720,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 64,
    "dim_head": 64,
    "dim_ff": 10240,
    "eps": 1e-6,
    "max_position_embeddings": 4096,
    "position_bias_num_buckets": 256,
    "position_bias_num_segment_buckets": 32,
    "position_bias_max_distance": 2048,
    "pad_token_id": 0,
    "bos_token_id": 6,
    "eos_token_id": 7,
    "ans_token_id": 9,
}
"""Those of the published config class; context and tokens are those of the published vocabulary."""
ONLY = {"distance_scale": 16, "int4": False, "tie_word_embeddings": True}
SHRINK = 1 / 1.05
"""Sums of residual and branch are multiplied by it."""


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "CPM-Bee")
    values = {**DEFAULTS, **{key: value for key, value in values.items() if value is not None}}
    fields = read_keys(values, KEYS)
    pruned = values.get("mask_modules") or [(False, False)] * fields["layers"]
    if len(pruned) != fields["layers"]:
        raise ValueError(f"mask_modules has {len(pruned)} entries for {fields['layers']} layers")
    root = fields["hidden_size"] ** -0.5
    return {
        **fields,
        "kv_heads": fields["heads"],
        "qk_norm": "none",
        "positions": "none",
        "record": read_keys(values, RECORD_KEYS),
        "root_scaled": True,
        "no_attention": tuple(layer for layer, (attention, _) in enumerate(pruned) if attention),
        "no_mlp": tuple(layer for layer, (_, mlp) in enumerate(pruned) if mlp),
        "carry_scale": SHRINK,
        "branch_scale": SHRINK,
        "embedding_scale": root,
        "logit_scale": root,
        "attention_scale": fields["head_dim"] ** -0.5,
        "activation": "gelu",
        "tie_embeddings": True,
        "stop_ids": stop_ids(values),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    assert config.record is not None
    pruned = [[layer in config.no_attention, layer in config.no_mlp] for layer in range(config.layers)]
    return {
        "model_type": MODEL_TYPE,
        **write_keys(config, KEYS),
        **{theirs: getattr(config.record, ours) for theirs, ours in RECORD_KEYS.items()},
        **ONLY,
        "dropout_p": 0.0,
        "half": False,
        "mask_modules": pruned if config.no_attention or config.no_mlp else None,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    yield same("embedding", PREFIX + "input_embedding.weight")
    yield same("relation_bias", PREFIX + "position_bias.relative_attention_bias")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"{PREFIX}encoder.layers.{layer}."
        if layer not in config.no_attention:
            at = theirs + "self_att.self_attention."
            names = [f"{at}project_{name}.weight" for name in "qkv"]
            yield same(ours + "attention_norm.weight", theirs + "self_att.layernorm_before_attention.weight")
            yield rows(ours + "attention.qkv.weight", zip(names, config.qkv_rows, strict=True))
            yield same(ours + "attention.out.weight", at + "attention_out.weight")
        if layer not in config.no_mlp:
            at, inner = theirs + "ffn.ffn.", config.intermediate_size
            halves = [(f"{at}w_in.w_{half}.weight", inner) for half in (0, 1)]
            yield same(ours + "mlp_norm.weight", theirs + "ffn.layernorm_before_ffn.weight")
            yield rows(ours + "mlp.gate_up.weight", halves)
            yield same(ours + "mlp.down.weight", at + "w_out.weight")
    yield same("norm.weight", PREFIX + "encoder.output_layernorm.weight")
