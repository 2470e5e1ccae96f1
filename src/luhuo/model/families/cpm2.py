"""CPM-2 (Zhang et al. 2021): a Chinese encoder-decoder of T5 1.1's kind.

Published as pickled parts of a model-parallel run, without a Hugging Face config. What is read here are these parts
joined and written as safetensors under their own names, and a `config.json` with the published settings,
`"architectures": ["EncDecModel"]` and `vocab_size`. The MLP is gated GELU, whatever `feed_forward_proj` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.links import Link, rows, same
from luhuo.model.families.t5 import read_fields, write_fields

CONFIG = EncoderDecoderConfig
ARCHITECTURES = ("EncDecModel",)
IGNORED = r"^(encoder|decoder)\.word_embeds\.weight$"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    fields = read_fields({**values, "feed_forward_proj": "gated-gelu"}, "gated-gelu")
    return {**fields, "tie_embeddings": False}


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": "cpm2", **write_fields(config)}


def links(config: EncoderDecoderConfig) -> Iterator[Link]:
    """Tensors."""
    yield same("embedding", "word_embeds.weight")
    for half, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        for layer in range(stack.layers):
            block = f"{half}.blocks.{layer}."
            at = block + "self_attn.self_attn."
            yield same(block + "attention.qkv.weight", at + "project.weight")
            yield same(block + "attention.out.weight", at + "dense.weight")
            if layer == 0:
                yield same(half + ".bucket_bias", at + "relative_attention_bias.weight")
            yield same(block + "attention_norm.weight", block + "self_attn.layer_norm.weight")
            if half == "decoder":
                at = block + "cross_attn.cross_attn."
                yield same(block + "cross.query.weight", at + "project_q.weight")
                yield same(block + "cross.key_value.weight", at + "project_kv.weight")
                yield same(block + "cross.out.weight", at + "dense.weight")
                yield same(block + "cross_norm.weight", block + "cross_attn.layer_norm.weight")
            at, inner = block + "ff.dense_relu_dense.", stack.intermediate_size
            yield rows(block + "mlp.gate_up.weight", [(at + "wi_0.weight", inner), (at + "wi_1.weight", inner)])
            yield same(block + "mlp.down.weight", at + "wo.weight")
            yield same(block + "mlp_norm.weight", block + "ff.layer_norm.weight")
        yield same(half + ".norm.weight", half + ".final_layernorm.weight")
    yield same("unembedding.weight", "lm_head.weight")
