"""A small model, text to calibrate on, and the same model with planted outliers, for the tests of room compress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luhuo.compress.quantise_stage import QuantizeStage
from luhuo.core.artifact import produce
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from tests.small_chat import small_model

OUTLIERS = (3, 17)
"""Columns of the planted outliers."""


def calibration_text(folder: Path) -> Path:
    file = folder / "text.txt"
    lines = (f"hello world {n}, how are you today? 你好，世界 {n * n}。the answer is {n} 和 苹果" for n in range(300))
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def small_directory(folder: Path, size: float = 1.0, **changes: Any) -> Path:
    """A model directory; in the inputs of its blocks two columns may be `size` times as large as the others.

    These two are always equal, and their weights opposite: as in large models, little depends on their exact numbers.
    """
    model = small_model(**changes)
    first, second = OUTLIERS
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if size == 1:
                break
            if name.endswith((".attention_norm.weight", ".mlp_norm.weight")):
                parameter[[first, second]] = size
            elif name.endswith(("attention.out.weight", "mlp.down.weight")):
                parameter[second] = parameter[first]
            elif name.endswith(("attention.qkv.weight", "mlp.gate_up.weight")):
                parameter[:, second] = -parameter[:, first]
            elif name == "embedding":
                parameter[:, second] = parameter[:, first]
    save(model, folder)
    return folder


def quantised(model: Path, out: Path, **fields: Any) -> Path:
    """What stage `quantize` makes of a model."""
    text = calibration_text(out.parent)
    settings: dict[str, Any] = {
        "model": str(model),
        "data": str(text),
        "sequences": 6,
        "length": 48,
        "threads": 1,
    } | fields
    produce("quantize", QuantizeStage(**settings), out)
    return out


def report_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def log_probs(folder: Path, dtype: str) -> Tensor:
    model = load_decoder(folder, dtype, "cpu")
    ids = torch.randint(10, 300, (2, 32), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model(ids).float().log_softmax(-1)


def divergence(folder: Path, original: Path) -> float:
    """Mean KL divergence in nats a token of a directory, kept as it is published, from the original in fp32."""
    before, after = log_probs(original, "fp32"), log_probs(folder, "auto")
    return float((before.exp() * (before - after)).sum(-1).mean())
