"""What a model takes on disk, and what compressing it takes in memory, before anything is done."""

from __future__ import annotations

from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr


def directory_bytes(reference: str) -> int:
    """Bytes of the weights of a local model directory; 0 where it is not there yet."""
    path = Path(reference)
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) if path.is_dir() else 0


def check_memory(needed: int, *, what: str) -> None:
    """Raise `LuhuoError` if so many bytes cannot be had."""
    from luhuo.train.plan.machine import available_memory

    free = available_memory()
    if needed > free:
        raise LuhuoError(
            tr(f"There is not enough memory for {what}.", f"内存不足以进行{what}。"),
            expected=tr(f"{needed / 1e9:.1f} GB", f"{needed / 1e9:.1f} GB"),
            found=tr(f"{free / 1e9:.1f} GB free", f"可用 {free / 1e9:.1f} GB"),
            fix=tr("Use fewer or shorter sequences.", "请减少序列数或缩短序列。"),
        )
