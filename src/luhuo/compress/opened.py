"""Opening a whole model to change it: in the numbers it is stored in, which its result is written in, too."""

from __future__ import annotations

from pathlib import Path

import torch

from luhuo.adapter.open import open_decoder
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.model.load import read_values
from luhuo.model.packed import METHODS

STORED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def open_stored(reference: str | Path) -> tuple[Decoder, torch.dtype]:
    """A decoder on the CPU, and the dtype its files have. fp16 is widened for computing, which changes no number.

    Raises `LuhuoError` for weights in few bits: what is changed now would have to be rounded again.
    """
    folder = resolve(str(reference)).path
    values = read_values(folder) if (folder / "config.json").is_file() else {}
    method = (values.get("quantization_config") or {}).get("quant_method")
    if method in METHODS:
        raise LuhuoError(
            tr("This model is quantised already.", "该模型已经量化。"),
            found=method,
            where=folder,
            fix=tr("Start from the model in full precision; quantise last.", "请从全精度模型开始，最后再量化。"),
        )
    stored = STORED.get(str(values.get("dtype") or values.get("torch_dtype")), torch.float32)
    return open_decoder(reference, dtype="bf16" if stored == torch.bfloat16 else "fp32", device="cpu"), stored
