"""mBART and mBART-50 (Liu et al. 2020): BART in many languages, norms in front of each branch."""

from __future__ import annotations

from typing import Any

from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.families.bart import IGNORED, ONLY, PREFIX, fit, links, read_fields, write_fields
from luhuo.model.families.common import Values, check

__all__ = ["ARCHITECTURES", "CONFIG", "IGNORED", "MODEL_TYPE", "PREFIX", "fit", "links", "read", "write"]

CONFIG = EncoderDecoderConfig
ARCHITECTURES = ("MBartForConditionalGeneration", "MBartModel")
MODEL_TYPE = "mbart"


def read(values: Values) -> dict[str, Any]:
    """Fields of our config. Which language starts a translation is the user's choice (`start_id`)."""
    check(values, {**ONLY, "normalize_before": True, "add_final_layer_norm": True}, "mBART")
    return read_fields(values, block="pre")


def write(config: EncoderDecoderConfig) -> dict[str, Any]:
    """`config.json`."""
    return {"model_type": MODEL_TYPE, **write_fields(config)}
