"""mT5: T5 1.1 in a hundred languages (Xue et al. 2021)."""

from __future__ import annotations

from typing import Any

from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.families.common import Values
from luhuo.model.families.t5 import IGNORED, fit, links, read_fields, write_fields

__all__ = ["ARCHITECTURES", "CONFIG", "IGNORED", "MODEL_TYPE", "fit", "links", "read", "write"]

CONFIG = EncoderDecoderConfig
ARCHITECTURES = ("MT5ForConditionalGeneration", "MT5Model")
MODEL_TYPE = "mt5"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Logits are never scaled; an output embedding of its own is told by the weights."""
    return read_fields(values, "gated-gelu")


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": MODEL_TYPE, **write_fields(config), "tie_word_embeddings": config.tie_embeddings}
