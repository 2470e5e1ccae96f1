"""The stage `factorise`: matrices of a decoder as products of two thin ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.compress.calibrated_stage import CalibratedStage
from luhuo.core.config import field
from luhuo.core.language import tr

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class FactoriseStage(CalibratedStage):
    """Keep the matrices of a decoder's blocks as two factors each, block by block. Our engine decodes from them;
    `luhuo export` multiplies them out for other programs."""

    resumable: ClassVar[bool] = True

    method: Literal["svd", "asvd", "svd-llm"] = field(
        "svd-llm",
        "svd: nearest matrix; asvd: columns count by the size of their inputs; svd-llm: least error of the outputs.",
        "svd：最接近的矩阵；asvd：按输入大小加权各列；svd-llm：输出误差最小。",
    )
    ratio: float = field(
        0.8, "Share of the numbers of the blocks' matrices that is kept.", "保留的块内矩阵参数比例。", gt=0, lt=1
    )
    allocation: Literal["uniform", "energy", "outputs"] = field(
        "outputs",
        "uniform: the same share of every matrix; energy: where least of the outputs' energy is lost; outputs: the "
        "same, weighed by how much the block's output suffers.",
        "uniform：各矩阵同比例；energy：使损失的输出能量最小；outputs：再按块输出受损程度加权。",
    )
    alpha: float = field(0.5, "asvd: power of the inputs' size.", "asvd：输入大小的幂。", ge=0, le=2)
    refit: bool = field(
        True,
        "svd, asvd: fit the second factor to the inputs by least squares (svd-llm is fitted already).",
        "svd、asvd：以最小二乘使第二个因子适应输入（svd-llm 本已如此）。",
    )
    multiple: int = field(8, "Ranks are multiples of this.", "秩是此数的倍数。", ge=1)

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        needs = self.method != "svd" or self.refit or self.allocation == "outputs"
        if needs and self.data is None:
            raise ValueError(
                tr("this needs calibration text: data=… (svd with refit=false does not)", "需要校准文本：data=…")
            )
        return self

    def disk_bytes(self) -> int:
        """The parts in fp32 and the directory: together less than the original in bf16, three times."""
        from luhuo.compress.sizes import directory_bytes

        return 3 * directory_bytes(self.model) + 50_000_000

    def run(self, out: Workspace) -> None:
        """Factorise, continuing what lies there; write the model directory and `report.json`, a row a matrix."""
        from luhuo.compress.low_rank.run import factorise
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        factorise(self, out)
