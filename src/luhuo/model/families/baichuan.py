"""Baichuan 1 and 2: Llama with one projection; 13B has ALiBi; the second generation a normalised head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import LLAMA_KEYS, Values, check, llama_fields, write_keys
from luhuo.model.families.links import Link
from luhuo.model.families.tables import Names, table_links
from luhuo.model.masks import alibi_slopes

ARCHITECTURES = ("BaichuanForCausalLM", "BaiChuanForCausalLM")
ONLY = {"hidden_act": "silu"}
SKIPPED = ("head_dim", "max_position_embeddings", "num_key_value_heads")
KEYS = {theirs: ours for theirs, ours in LLAMA_KEYS.items() if theirs not in SKIPPED}
IGNORED = r"rotary_emb\.inv_freq$|future_mask$"
SECOND_VOCABULARY = 125_696
NAMES = Names(
    embedding="model.embed_tokens",
    layer="model.layers.{}.",
    attention_norm="input_layernorm",
    qkv="self_attn.W_pack",
    out="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
    norm="model.norm",
)


def read(values: Values) -> dict[str, Any]:
    """Fields of our config.

    Nothing says which positions a model has, but only 7B's files, which have rotary ones, hold
    `max_position_embeddings`. The second generation is known by a weight of its training loss, or its vocabulary.
    """
    check(values, {**ONLY, "rope_scaling": None, "rope_theta": 10_000.0}, "Baichuan")
    rotary = values.get("max_position_embeddings")
    heads = values["num_attention_heads"]
    return {
        **llama_fields(values, keys=KEYS),
        "max_positions": rotary or values.get("model_max_length") or 4096,
        "positions": "rope" if rotary else "none",
        "alibi_slopes": () if rotary else alibi_slopes(heads),
        "head_normed": "z_loss_weight" in values or values["vocab_size"] == SECOND_VOCABULARY,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    length = "model_max_length" if config.alibi_slopes else "max_position_embeddings"
    return {
        "model_type": "baichuan",
        **write_keys(config, KEYS),
        **ONLY,
        length: config.max_positions,
        **({"z_loss_weight": 0} if config.head_normed else {}),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES)
