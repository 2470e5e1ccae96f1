"""What the encoder families' files share: heads, labels, and the tensors of BERT's layout."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from luhuo.model.encoder_config import EncoderConfig, Head
from luhuo.model.families.common import Values, activation, activation_name, check
from luhuo.model.families.links import Link, rows, same
from luhuo.model.stack_config import StackConfig

SUFFIXES: dict[Head, str] = {
    "none": "Model",
    "masked_lm": "ForMaskedLM",
    "pretraining": "ForPreTraining",
    "relation": "ForNextSentencePrediction",
    "classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
    "detection": "ForPreTraining",
}
"""How published class names end, by head."""

COMMON_HEADS: tuple[Head, ...] = (
    "none",
    "masked_lm",
    "classification",
    "token_classification",
    "question_answering",
)

BERT_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "layer_norm_eps": "norm_eps",
    "type_vocab_size": "token_types",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
"""Published key to our field, as BERT and its heirs name them."""

BERT_ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}

OLD_NORMS = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""Endings of names that checkpoints of 2018 spell otherwise."""


def architectures(name: str, heads: Collection[Head]) -> dict[str, Head]:
    """Published class names of a family and the head each of them has."""
    return {name + SUFFIXES[head]: head for head in heads}


def read_head(values: Values, heads: Mapping[str, Head]) -> dict[str, Any]:
    """The head of the first known class in `architectures`, and the names of its classes."""
    head = next(heads[name] for name in values["architectures"] if name in heads)
    labelled = head in ("classification", "token_classification")
    return {"head": head, "labels": labels(values) if labelled else ()}


def labels(values: Values, default: int = 2) -> tuple[str, ...]:
    """Names of the classes in the order of their logits."""
    found = values.get("id2label")
    if found:
        return tuple(str(found[key]) for key in sorted(found, key=int))
    return tuple(f"LABEL_{i}" for i in range(values.get("num_labels") or default))


def write_head(config: EncoderConfig, heads: Mapping[str, Head]) -> dict[str, Any]:
    """`architectures` and the names of the classes."""
    name = next(name for name, head in heads.items() if head == config.head)
    return {"architectures": [name], **write_labels(config.labels)}


def write_labels(names: tuple[str, ...]) -> dict[str, Any]:
    """Names of the classes as a config keeps them."""
    if not names:
        return {}
    numbered = {str(i): label for i, label in enumerate(names)}
    return {"id2label": numbered, "label2id": {label: i for i, label in enumerate(names)}}


def read_bert(values: Values, heads: Mapping[str, Head], family: str, *, offset: int = 0) -> dict[str, Any]:
    """Fields of our config for a config of BERT's layout; its table of positions starts at row `offset`."""
    check(values, BERT_ONLY, family)
    act = activation(values.get("hidden_act", "gelu"))
    return {
        "token_types": 2,
        "norm_eps": 1e-12,
        **{ours: values[theirs] for theirs, ours in BERT_KEYS.items() if values.get(theirs) is not None},
        "head_dim": values["hidden_size"] // values["num_attention_heads"],
        "max_positions": values.get("max_position_embeddings", 512) - offset,
        "position_offset": offset,
        "activation": act,
        "token_activation": act,
        **read_head(values, heads),
    }


def write_bert(config: EncoderConfig, heads: Mapping[str, Head]) -> dict[str, Any]:
    """The keys of BERT's layout."""
    return {
        **{theirs: getattr(config, ours) for theirs, ours in BERT_KEYS.items()},
        **BERT_ONLY,
        "max_position_embeddings": config.max_positions + config.position_offset,
        "hidden_act": activation_name(config.activation),
        **write_head(config, heads),
    }


def has_pooler(config: EncoderConfig, names: Collection[str], pooler: str) -> EncoderConfig:
    """A bare encoder is published with its pooler or without: the weights tell."""
    found = config.head == "none" and any(name.endswith(pooler) for name in names)
    return config.model_copy(update={"pooler": found})


def linear(ours: str, theirs: str, *, bias: bool = True) -> Iterator[Link]:
    """Weight and bias, of a dense layer or a norm."""
    yield same(ours + ".weight", theirs + ".weight")
    if bias:
        yield same(ours + ".bias", theirs + ".bias")


def qkv(config: StackConfig, ours: str, theirs: Callable[[str], str]) -> Iterator[Link]:
    """Query, key and value, one under another; `theirs("query")` is the published name of a part."""
    size = config.heads * config.head_dim
    for kind in ["weight", "bias"] if config.qkv_bias else ["weight"]:
        yield rows(f"{ours}.{kind}", [(f"{theirs(part)}.{kind}", size) for part in ("query", "key", "value")])


def embedding_links(config: EncoderConfig, prefix: str) -> Iterator[Link]:
    """The embeddings in BERT's layout."""
    yield same("embedding", prefix + "embeddings.word_embeddings.weight")
    if config.positions == "learned":
        yield same("stack.positions", prefix + "embeddings.position_embeddings.weight")
    if config.token_types:
        yield same("types", prefix + "embeddings.token_type_embeddings.weight")
    yield from linear("stack.embedding_norm", prefix + "embeddings.LayerNorm")


def layer_links(config: EncoderConfig, prefix: str, *, part: str = "{}") -> Iterator[Link]:
    """The blocks in BERT's layout; `part` is how query, key and value are called, such as `{}_proj`."""
    for layer in range(config.blocks):
        ours, theirs = f"stack.blocks.{layer}.", f"{prefix}encoder.layer.{layer}."
        yield from qkv(
            config, ours + "attention.qkv", lambda name, at=theirs: f"{at}attention.self.{part.format(name)}"
        )
        yield from linear(ours + "attention.out", theirs + "attention.output.dense")
        yield from linear(ours + "attention_norm", theirs + "attention.output.LayerNorm")
        yield from linear(ours + "mlp.up", theirs + "intermediate.dense")
        yield from linear(ours + "mlp.down", theirs + "output.dense")
        yield from linear(ours + "mlp_norm", theirs + "output.LayerNorm")


def label_links(config: EncoderConfig, name: str = "classifier") -> Iterator[Link]:
    """The last layer of heads that label tokens."""
    if config.token_outputs:
        answer = config.head == "question_answering"
        yield from linear("token_labels.out", "qa_outputs" if answer else name)
