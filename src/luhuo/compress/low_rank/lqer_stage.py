"""The stage `lqer`: what rounding took from a quantised model, as an adapter of low rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from luhuo.compress.calibrated_stage import CalibratedStage
from luhuo.core.config import Input, field
from luhuo.core.language import tr

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class LqerStage(CalibratedStage):
    """Approximate the rounding error of each matrix of a quantised model by a product of low rank (LQER, Zhang et al.
    2024), and write it as a LoRA adapter on the quantised directory, in the layout that peft and vLLM load."""

    quantised: Input = field(..., "The same model, quantised by any method.", "同一模型的量化版本（任意方法）。")
    rank: int = field(32, "Rank of each matrix' correction.", "每个矩阵的修正秩。", ge=1)
    scaling: Literal["none", "activation", "moment"] = field(
        "moment",
        "none: nearest error (LQER); activation: columns count by the size of their inputs (L²QER); moment: least "
        "error of the outputs.",
        "none：最接近误差（LQER）；activation：按输入大小加权（L²QER）；moment：输出误差最小。",
    )

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.data is None:
            raise ValueError(tr("lqer needs calibration text: data=…", "lqer 需要校准文本：data=…"))
        return self

    def run(self, out: Workspace) -> None:
        """Write the adapter and `report.json`, a row for each published matrix."""
        from luhuo.compress.low_rank.lqer import correct
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        correct(self, out)
