"""ChatGLM2, ChatGLM3 and GLM-4-9B as published (GLM Team 2024): GLM-4 with one matrix for query, key and value.

`rope_ratio` multiplies the rotary base, as in ChatGLM3 and GLM-4. ChatGLM2-6B-32K used the same key for a division of
the positions, and its config says nothing that tells it apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, check, read_keys, write_keys
from luhuo.model.families.links import Link, same

ARCHITECTURES = ("ChatGLMModel", "ChatGLMForConditionalGeneration")
KEYS = {
    "padded_vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "layers",
    "num_attention_heads": "heads",
    "kv_channels": "head_dim",
    "ffn_hidden_size": "intermediate_size",
    "seq_length": "max_positions",
    "layernorm_epsilon": "norm_eps",
    "add_qkv_bias": "qkv_bias",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
ONLY = {
    "multi_query_attention": True,
    "rmsnorm": True,
    "original_rope": True,
    "add_bias_linear": False,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "pre_seq_len": None,
}
IGNORED = r"rotary_pos_emb\.inv_freq$"
HEAD = "transformer.output_layer.weight"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. ChatGLM 1 goes by the same name and is read by its own file."""
    if "inner_hidden_size" in values:
        from luhuo.model.families import chatglm

        return {**chatglm.read(values), "family": "chatglm"}
    check(values, ONLY, "ChatGLM")
    fields = read_keys(values, KEYS)
    return {
        "tie_embeddings": False,
        **fields,
        "kv_heads": values["multi_query_group_num"],
        "rope": {
            "theta": 10_000.0 * values.get("rope_ratio", 1),
            "dim": fields["head_dim"] // 2,
            "interleaved": True,
        },
        "qk_norm": "none",
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "chatglm",
        **write_keys(config, KEYS),
        **ONLY,
        "multi_query_group_num": config.kv_heads,
        "rope_ratio": config.rope.theta / 10_000,
        "vocab_size": config.vocab_size,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors; the matrices that are one in the file are one here."""
    yield same("embedding", "transformer.embedding.word_embeddings.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"transformer.encoder.layers.{layer}."
        yield same(ours + "attention_norm.weight", theirs + "input_layernorm.weight")
        for kind in ["weight", "bias"] if config.qkv_bias else ["weight"]:
            yield same(f"{ours}attention.qkv.{kind}", f"{theirs}self_attention.query_key_value.{kind}")
        yield same(ours + "attention.out.weight", theirs + "self_attention.dense.weight")
        yield same(ours + "mlp_norm.weight", theirs + "post_attention_layernorm.weight")
        yield same(ours + "mlp.gate_up.weight", theirs + "mlp.dense_h_to_4h.weight")
        yield same(ours + "mlp.down.weight", theirs + "mlp.dense_4h_to_h.weight")
    yield same("norm.weight", "transformer.encoder.final_layernorm.weight")
    if not config.tie_embeddings:
        yield same("unembedding.weight", HEAD)
