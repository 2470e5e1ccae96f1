"""PanGu-α (Zeng et al. 2021): GPT-2's blocks, and above them one that asks with vectors of the positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, activation, activation_name, check, read_keys, write_keys
from luhuo.model.families.links import Link, rows, same

ARCHITECTURES = ("GPTPanguForCausalLM",)
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "layers",
    "num_heads": "heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "layer_norm_epsilon": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {"scale_attn_weights": True}
IGNORED = r"\.attn\.(masked_)?bias$"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config; an MLP is four times as wide as the stream if its width is not said."""
    check(values, ONLY, "PanGu-α")
    fields = {"norm_eps": 1e-5, "tie_embeddings": True, **read_keys(values, KEYS)}
    return {
        "intermediate_size": 4 * fields["hidden_size"],
        **fields,
        "kv_heads": fields["heads"],
        "head_dim": fields["hidden_size"] // fields["heads"],
        "norm": "layer",
        "norm_bias": True,
        "final_norm": False,
        "query_block": True,
        "positions": "learned",
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "gated": False,
        "activation": activation(values.get("activation_function", "gelu")),
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "gpt_pangu",
        **write_keys(config, KEYS),
        **ONLY,
        "activation_function": activation_name(config.activation),
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; the norm in front of the last block is published as that of the whole stack."""
    yield same("embedding", "transformer.wte.weight")
    yield same("positions", "transformer.wpe.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"transformer.h.{layer}."
        for kind in ("weight", "bias"):
            yield same(f"{ours}attention_norm.{kind}", f"{theirs}ln_1.{kind}")
            names = [f"{theirs}attn.{name}_proj.{kind}" for name in "qkv"]
            yield rows(f"{ours}attention.qkv.{kind}", zip(names, config.qkv_rows, strict=True))
            yield same(f"{ours}attention.out.{kind}", f"{theirs}attn.c_proj.{kind}")
            yield same(f"{ours}mlp_norm.{kind}", f"{theirs}ln_2.{kind}")
            yield same(f"{ours}mlp.up.{kind}", f"{theirs}mlp.c_fc.{kind}")
            yield same(f"{ours}mlp.down.{kind}", f"{theirs}mlp.c_proj.{kind}")
    last = f"blocks.{config.layers - 1}."
    yield same(last + "queries", "transformer.wqe.weight")
    yield same(last + "input_norm.weight", "transformer.ln_f.weight")
    yield same(last + "input_norm.bias", "transformer.ln_f.bias")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")
