"""Budgets: FLOPs, or time on a machine whose rate is measured or described."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PEAKS = {
    "t4": 65e12,
    "v100": 125e12,
    "a10": 125e12,
    "a100": 312e12,
    "4090": 165e12,
    "5090": 210e12,
    "l40s": 362e12,
    "mi300x": 1307e12,
    "h20": 148e12,
    "h100": 989e12,
    "h200": 989e12,
    "b200": 2250e12,
}
"""Dense FLOP/s of 16-bit matrix products with 32-bit sums, from the makers' data sheets (T4 and V100: fp16)."""
SHARE = 0.4
"""Of the peak that a training step reaches on a described GPU; what good training loops report is 0.35 to 0.5."""


@dataclass(frozen=True)
class Budget:
    """What may be spent: `flops` or `seconds`, the other one None."""

    text: str
    flops: float | None
    seconds: float | None


def parse_budget(text: str, where: str = "--budget") -> Budget:
    """ "1e18" (FLOPs) or "90s", "30m", "12h", "3d" (time). Raises `LuhuoError` otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([smhd]?)", text.strip().lower())
    value = float(found[1]) if found else math.nan
    if not found or not 0 < value < math.inf:
        raise LuhuoError(
            tr("This is not a budget.", "这不是预算。"),
            expected=tr(
                "FLOPs such as 1e15, or time such as 30m, 12h, 3d", "FLOPs（如 1e15）或时间（如 30m、12h、3d）"
            ),
            found=text,
            where=where,
        )
    if found[2]:
        return Budget(text, None, value * SECONDS[found[2]])
    return Budget(text, value, None)


def parse_machine(text: str) -> float | None:
    """FLOP/s that training reaches on a described machine: "4e14" as given, "8xH100" as 40% of the peak; "" is None.

    Raises `LuhuoError` for a machine that is not known.
    """
    word = text.strip().lower()
    if not word:
        return None
    found = re.fullmatch(r"(?:(\d+)\s*x\s*)?([a-z]*\d+[a-z]*)", word)
    if found and found[2] in PEAKS:
        return int(found[1] or 1) * PEAKS[found[2]] * SHARE
    if re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?", word) and 1e6 <= float(word) < math.inf:
        return float(word)
    raise LuhuoError(
        tr("This machine is not known.", "未知的机器。"),
        expected=tr(
            f"a rate in FLOP/s such as 4e14, or a number of {', '.join(sorted(PEAKS))}, such as 8xH100",
            f"FLOP/s 速率（如 4e14），或若干块 {', '.join(sorted(PEAKS))}，如 8xH100",
        ),
        found=text,
    )
