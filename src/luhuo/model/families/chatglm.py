"""ChatGLM-6B, the first (Zeng et al. 2023): a prompt that sees itself both ways, and two rotary positions.

A block carries on from its normalised input, enlarged (as DeepNorm, Wang et al. 2022). The first half of each head is
turned by the place in the prompt, the second by the place in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, read_keys, write_keys
from luhuo.model.families.links import Link, grouped_order, permuted, same

ARCHITECTURES = ("ChatGLM6BModel",)
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "layers",
    "num_attention_heads": "heads",
    "inner_hidden_size": "intermediate_size",
    "max_sequence_length": "max_positions",
    "layernorm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {"position_encoding_2d": True, "pre_seq_len": None}
IGNORED = r"rotary_emb\.inv_freq$"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A prompt ends with the token `bos`; the answer stands in the place of a mask before it."""
    check(values, ONLY, "ChatGLM-6B")
    fields = {"tie_embeddings": True, **read_keys(values, KEYS)}
    head_dim = fields["hidden_size"] // fields["heads"]
    gaps = (values.get("gmask_token_id"), values.get("mask_token_id"))
    return {
        **fields,
        **deep(fields["layers"]),
        "kv_heads": fields["heads"],
        "head_dim": head_dim,
        "rope": {"axes": 2},
        "prefix_end": values["bos_token_id"],
        "gap_ids": tuple(gap for gap in gaps if gap is not None),
        "activation": "gelu_tanh",
        "gated": False,
    }


def deep(layers: int) -> dict[str, Any]:
    """What ChatGLM-6B and GLM-130B share: LayerNorms with biases, biases everywhere, residuals that are enlarged."""
    return {
        "norm": "layer",
        "norm_bias": True,
        "carry_normed": True,
        "carry_scale": (2 * layers) ** 0.5,
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    gaps = dict(zip(("gmask_token_id", "mask_token_id"), config.gap_ids, strict=False))
    return {
        "architectures": ["ChatGLMModel"],
        "model_type": "chatglm",
        **write_keys(config, KEYS),
        **ONLY,
        **gaps,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; query, key and value of a head stand together, and each half of a head is rotated by itself."""
    order = grouped_order(config.heads, config.kv_heads, config.head_dim)
    order = order[torch.cat([_halves(2 * config.heads, config.head_dim), _rest(config)])]
    yield same("embedding", "transformer.word_embeddings.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"transformer.layers.{layer}."
        for kind in ("weight", "bias"):
            yield same(f"{ours}attention_norm.{kind}", f"{theirs}input_layernorm.{kind}")
            yield permuted(f"{ours}attention.qkv.{kind}", f"{theirs}attention.query_key_value.{kind}", order)
            yield same(f"{ours}attention.out.{kind}", f"{theirs}attention.dense.{kind}")
            yield same(f"{ours}mlp_norm.{kind}", f"{theirs}post_attention_layernorm.{kind}")
            yield same(f"{ours}mlp.up.{kind}", f"{theirs}mlp.dense_h_to_4h.{kind}")
            yield same(f"{ours}mlp.down.{kind}", f"{theirs}mlp.dense_4h_to_h.{kind}")
    yield same("norm.weight", "transformer.final_layernorm.weight")
    yield same("norm.bias", "transformer.final_layernorm.bias")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")


def _halves(heads: int, size: int) -> Tensor:
    """Rows of heads so that both axes' first features come first: a head is then rotated in halves like any other."""
    index = torch.arange(heads * size).view(heads, 2, 2, size // 4)  # axis, half of its pairs
    return index.transpose(1, 2).reshape(-1)


def _rest(config: ModelConfig) -> Tensor:
    """The rows of the values, as they are."""
    rows = config.heads * config.head_dim
    return torch.arange(2 * rows, 3 * rows)
