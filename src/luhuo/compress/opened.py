"""Opening a whole model to change it: in the numbers it is stored in, which its result is written in, too."""

from __future__ import annotations

from pathlib import Path

import torch

from luhuo.adapter.open import open_decoder
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.model.factorised import METHOD as LOW_RANK
from luhuo.model.load import read_values
from luhuo.model.quantised_files import METHODS

STORED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def open_stored(reference: str | Path) -> tuple[Decoder, torch.dtype]:
    """A decoder on the CPU, and the dtype its files have. fp16 is widened for computing, which changes no number.

    Raises `LuhuoError` for weights in few bits or in factors: what is changed now would have to be made so again.
    """
    folder = resolve(str(reference)).path
    values = read_values(folder) if (folder / "config.json").is_file() else {}
    method = (values.get("quantization_config") or {}).get("quant_method")
    if method in (*METHODS, LOW_RANK):
        raise LuhuoError(
            tr("This model is quantised or factorised already.", "该模型已经量化或分解。"),
            found=method,
            where=folder,
            fix=tr("Start from the model it was made of.", "请从其原始模型开始。"),
        )
    stored = STORED.get(str(values.get("dtype") or values.get("torch_dtype")), torch.float32)
    return open_decoder(reference, dtype="bf16" if stored == torch.bfloat16 else "fp32", device="cpu"), stored
