"""Settings of zeros in training."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import field_validator, model_validator

from luhuo.core.config import Config, field


def pattern_text(value: Any) -> Any:
    """A pattern as it was written: YAML takes 2:4 without quotes for the number 2 · 60 + 4."""
    return f"{value // 60}:{value % 60}" if isinstance(value, int) and value >= 60 else value


class Sparsity(Config):
    """What training does with zeros in the blocks' matrices: keeps those that are there, makes more, or neither."""

    keep: bool = field(False, "Weights that are zero at the start stay zero.", "开始时为零的权重始终保持为零。")
    final: float = field(
        0.0,
        "Share of zeros to reach while training, by magnitude along a cubic schedule; 0: no more than there are.",
        "训练中按幅值、沿三次曲线逐步达到的零权重比例；0 为不再增加。",
        ge=0,
        lt=1,
    )
    pattern: str = field(
        "",
        "In place of final: N of M neighbours stay (2:4), reached one by one along the same schedule.",
        "代替 final：每 M 个相邻权重保留 N 个（如 2:4），沿同样的曲线逐个达到。",
    )
    begin: float = field(0.0, "Share of the steps before the first zeros.", "出现第一批零之前的步数比例。", ge=0, lt=1)
    end: float = field(0.5, "Share of the steps after which none are added.", "之后不再增加零的步数比例。", gt=0, le=1)
    every: int = field(10, "Steps between two choices of zeros.", "两次选零之间的步数。", ge=1)

    @field_validator("pattern", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return pattern_text(value)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.end <= self.begin:
            raise ValueError(f"end ({self.end}) must lie behind begin ({self.begin})")
        if self.pattern and not re.fullmatch(r"\d+:\d+", self.pattern):
            raise ValueError(f"pattern is written N:M, as 2:4 (found {self.pattern!r})")
        if self.pattern and self.final:
            raise ValueError("give final or pattern, not both: a pattern says how many zeros there are")
        return self

    @property
    def grows(self) -> bool:
        """Whether zeros are added."""
        return bool(self.final or self.pattern)
