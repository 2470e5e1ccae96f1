"""The stage `lqer`: what rounding took from a quantised model, as an adapter of low rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class LqerStage(Stage):
    """Approximate the rounding error of each matrix of a quantised model by a product of low rank (LQER, Zhang et al.
    2024), and write it as a LoRA adapter on the quantised directory, in the layout that peft and vLLM load."""

    model: Input = field(..., "The model in full precision.", "全精度模型。")
    quantised: Input = field(..., "The same model, quantised by any method.", "同一模型的量化版本（任意方法）。")
    rank: int = field(32, "Rank of each matrix' correction.", "每个矩阵的修正秩。", ge=1)
    scaling: Literal["none", "activation", "moment"] = field(
        "moment",
        "none: nearest error (LQER); activation: columns count by the size of their inputs (L²QER); moment: least "
        "error of the outputs.",
        "none：最接近误差（LQER）；activation：按输入大小加权（L²QER）；moment：输出误差最小。",
    )
    data: list[Input] | Input = field(
        ...,
        "Calibration text: shards, a corpus, text files or conversations.",
        "校准文本：分片、语料、文本文件或对话。",
    )
    sequences: int = field(128, "Calibration sequences.", "校准序列数。", ge=1)
    length: int = field(512, "Tokens of a sequence.", "每个序列的词元数。", ge=2)
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def run(self, out: Workspace) -> None:
        """Write the adapter and `report.json`, a row for each published matrix."""
        from luhuo.compress.low_rank.lqer import correct
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        correct(self, out)
