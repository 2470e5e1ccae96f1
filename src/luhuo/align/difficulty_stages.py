"""The stage `difficulty`: how hard each instruction is for a model, for `clean-dialogue` to choose by."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class DifficultyStage(Stage):
    """Instruction-following difficulty (IFD, Li et al. 2023): the loss of the answer behind its question, divided by
    that of the answer alone. Near 0 the question says it all; near 1 it hardly helps; from 1 on it does not fit."""

    resumable: ClassVar[bool] = True

    model: Input = field(..., "Model directory or reference.", "模型目录或引用。")
    data: list[Input] = field(..., "Files of conversations.", "对话文件。", min_length=1)
    tokens: int = field(512, "Most tokens of an answer that are scored.", "每个回答最多计分的词元数。", ge=8)
    together: int = field(32, "Rows scored at a time, and kept when done.", "每批计分并保存的条数。", ge=1)
    dtype: str = field("auto", "Number format: auto, fp32, bf16 or fp16.", "数值格式：auto、fp32、bf16 或 fp16。")
    device: str = field("auto", "auto, cpu, cuda or mps.", "auto、cpu、cuda 或 mps。")

    def run(self, out: Workspace) -> None:
        """Write `difficulty.jsonl` ({"key", "ifd", "conditioned", "alone", "file", "line"}) and `report.json`."""
        from luhuo.align.difficulty import measure

        measure(self, out)
