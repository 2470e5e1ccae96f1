"""T5, its version 1.1, and Flan-T5 (Raffel et al. 2020): biases by distance instead of positions, RMSNorm."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.families.common import Values, activation, activation_name, read_keys
from luhuo.model.families.encoders import qkv
from luhuo.model.families.links import Link, rows, same
from luhuo.model.stack_config import StackConfig

CONFIG = EncoderDecoderConfig
ARCHITECTURES = ("T5ForConditionalGeneration", "T5WithLMHeadModel", "T5Model")
MODEL_TYPE = "t5"
IGNORED = r"^(encoder|decoder)\.embed_tokens\.weight$|EncDecAttention\.relative_attention_bias"
STACK_KEYS = {
    "d_model": "hidden_size",
    "d_kv": "head_dim",
    "d_ff": "intermediate_size",
    "num_heads": "heads",
    "layer_norm_epsilon": "norm_eps",
    "relative_attention_num_buckets": "buckets",
    "relative_attention_max_distance": "bucket_distance",
}
KEYS = {"vocab_size": "vocab_size", "pad_token_id": "pad_id", "bos_token_id": "bos_id",
        "decoder_start_token_id": "start_id", "forced_bos_token_id": "forced_first_id",
        "forced_eos_token_id": "forced_last_id"}  # fmt: skip
PARTS = {"query": "q", "key": "k", "value": "v"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. An output embedding of its own is told by the weights (`fit`)."""
    tied = values.get("tie_word_embeddings") is not False
    scaled = values.get("scale_decoder_outputs")
    fields = read_fields(values, "relu")
    width = fields["encoder"]["hidden_size"]
    return {
        **fields,
        "tie_embeddings": tied,
        "logit_scale": width**-0.5 if (tied if scaled is None else scaled) else 1,
    }


def read_fields(values: Values, act: str) -> dict[str, Any]:
    """What T5 and mT5 share; `act` is what the MLP is if the config does not say."""
    stack, layers = read_stack(values, act), values["num_layers"]
    return {
        "start_id": values.get("pad_token_id", 0),
        "pad_id": 0,
        **read_keys(values, KEYS),
        "encoder": {**stack, "layers": layers},
        "decoder": {**stack, "layers": values.get("num_decoder_layers") or layers},
    }


def read_stack(values: Values, act: str) -> dict[str, Any]:
    """Fields of a stack but its number of layers."""
    gate, _, name = str(values.get("feed_forward_proj", act)).rpartition("-")
    return {
        "norm_eps": 1e-6,
        **read_keys(values, STACK_KEYS),
        "norm": "rms",
        "block": "pre",
        "embedding_norm": False,
        "final_norm": True,
        "positions": "buckets",
        "qkv_bias": False,
        "out_bias": False,
        "mlp_bias": False,
        "attention_scale": 1.0,
        "gated": gate == "gated",
        "activation": "gelu_tanh" if gate and name == "gelu" else activation(name),
    }


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """`config.json`."""
    scaled = config.logit_scale != 1
    return {
        "model_type": MODEL_TYPE,
        **write_fields(config),
        "tie_word_embeddings": scaled,
        "scale_decoder_outputs": scaled,
    }


def write_fields(config: EncoderDecoderConfig) -> dict[str, Any]:
    """What T5 and mT5 share."""
    return {
        "is_encoder_decoder": True,
        **{theirs: getattr(config, ours) for theirs, ours in KEYS.items() if getattr(config, ours) is not None},
        **write_stack(config.encoder),
        "num_decoder_layers": config.decoder.layers,
    }


def write_stack(stack: StackConfig) -> dict[str, Any]:
    """The keys of a stack."""
    name = "gelu" if stack.gated and stack.activation == "gelu_tanh" else activation_name(stack.activation)
    return {
        **{theirs: getattr(stack, ours) for theirs, ours in STACK_KEYS.items()},
        "num_layers": stack.layers,
        "feed_forward_proj": f"gated-{name}" if stack.gated else name,
    }


def fit(config: EncoderDecoderConfig, names: Collection[str]) -> EncoderDecoderConfig:
    """Whether there is an output embedding of its own."""
    return config.model_copy(update={"tie_embeddings": "lm_head.weight" not in names})


def links(config: EncoderDecoderConfig) -> Iterator[Link]:
    """Tensors."""
    yield same("embedding", "shared.weight")
    yield from stack_links(config.encoder, "encoder.", "encoder.")
    yield from stack_links(config.decoder, "decoder.", "decoder.", decoder=True)
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")


def stack_links(stack: StackConfig, ours: str, theirs: str, *, decoder: bool = False) -> Iterator[Link]:
    """The tensors of one stack."""
    for layer in range(stack.layers):
        block, parts = f"{ours}blocks.{layer}.", f"{theirs}block.{layer}.layer."
        at = parts + "0.SelfAttention."
        yield from qkv(stack, block + "attention.qkv", lambda part, at=at: at + PARTS[part])
        yield same(block + "attention.out.weight", at + "o.weight")
        if layer == 0:
            yield same(ours + "bucket_bias", at + "relative_attention_bias.weight")
        yield same(block + "attention_norm.weight", parts + "0.layer_norm.weight")
        if decoder:
            at, size = parts + "1.EncDecAttention.", stack.heads * stack.head_dim
            yield same(block + "cross.query.weight", at + "q.weight")
            yield rows(block + "cross.key_value.weight", [(at + "k.weight", size), (at + "v.weight", size)])
            yield same(block + "cross.out.weight", at + "o.weight")
            yield same(block + "cross_norm.weight", parts + "1.layer_norm.weight")
        parts += "2." if decoder else "1."
        inner, at = stack.intermediate_size, parts + "DenseReluDense."
        if stack.gated:
            yield rows(block + "mlp.gate_up.weight", [(at + "wi_0.weight", inner), (at + "wi_1.weight", inner)])
        else:
            yield same(block + "mlp.up.weight", at + "wi.weight")
        yield same(block + "mlp.down.weight", at + "wo.weight")
        yield same(block + "mlp_norm.weight", parts + "layer_norm.weight")
    yield same(ours + "norm.weight", theirs + "final_layer_norm.weight")
