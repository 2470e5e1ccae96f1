"""XLM-RoBERTa and what is published in its layout: multilingual E5, BGE-M3."""

from __future__ import annotations

from typing import Any

from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families import roberta
from luhuo.model.families.common import Values
from luhuo.model.families.encoders import COMMON_HEADS, architectures, write_bert
from luhuo.model.families.roberta import IGNORED, PREFIX, fit, links

__all__ = ["ARCHITECTURES", "CONFIG", "IGNORED", "MODEL_TYPE", "PREFIX", "fit", "links", "read", "write"]

CONFIG = EncoderConfig
HEADS = architectures("XLMRoberta", COMMON_HEADS)
ARCHITECTURES = tuple(HEADS)
MODEL_TYPE = "xlm-roberta"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    return roberta.read(values, HEADS, "XLM-RoBERTa")


def write(config: EncoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": MODEL_TYPE, **write_bert(config, HEADS)}
