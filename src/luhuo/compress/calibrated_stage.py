"""What the stages have in common that show a model calibration text."""

from __future__ import annotations

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage


class CalibratedStage(Stage):
    """A stage that looks at what the matrices of a decoder multiply."""

    model: Input = field(..., "The model: a directory or a reference.", "模型：目录或引用。")
    data: list[Input] | Input | None = field(
        None,
        "Calibration text: shards, a corpus, text files or conversations.",
        "校准文本：分片、语料、文本文件或对话。",
    )
    sequences: int = field(128, "Calibration sequences.", "校准序列数。", ge=1)
    length: int = field(512, "Tokens of a sequence.", "每个序列的词元数。", ge=2)
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)
