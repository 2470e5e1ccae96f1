"""The encoder of a T5 by itself, as sentence encoders and image generators use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.links import Link, same
from luhuo.model.families.t5 import read_stack, stack_links, write_stack

CONFIG = EncoderConfig
ARCHITECTURES = ("T5EncoderModel",)
IGNORED = r"^encoder\.embed_tokens\.weight$|^decoder\.|^lm_head\."


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. A whole T5's files will do: its decoder is passed over."""
    fields = {"vocab_size": values["vocab_size"], "layers": values["num_layers"]}
    return {**read_stack(values, "relu"), **fields, "pad_id": values.get("pad_token_id", 0)}


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "t5",
        "vocab_size": config.vocab_size,
        **write_stack(config),
        "is_encoder_decoder": False,
        "use_cache": False,
    }


def links(config: EncoderConfig) -> Iterator[Link]:
    """Tensors."""
    yield same("embedding", "shared.weight")
    yield from stack_links(config, "stack.", "encoder.")
