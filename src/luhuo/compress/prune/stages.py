"""The stage `prune`."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from luhuo.compress.calibrated_stage import CalibratedStage
from luhuo.compress.prune.config import SmallerShape
from luhuo.core.artifact import Workspace
from luhuo.core.config import field
from luhuo.core.language import tr
from luhuo.train.sparsity_config import pattern_text

Method = Literal["magnitude", "wanda", "sparsegpt", "structured"]
DEFAULT_SHARE = 0.5


class PruneStage(SmallerShape, CalibratedStage):
    """Take away what a decoder needs least: single weights, which become zero (magnitude, wanda, sparsegpt), or whole
    layers, heads, channels and features (structured), which gives a smaller dense model."""

    resumable: ClassVar[bool] = True

    method: Method = field("wanda", "How it is chosen what goes.", "选择剪去内容的方法。")
    sparsity: float | None = field(
        None,
        "Share of the blocks' weights that become zero; 0.5 by default.",
        "变为零的权重比例，默认 0.5。",
        gt=0,
        lt=1,
    )
    pattern: str = field(
        "",
        "N:M in place of a share: N of M neighbours stay, as in 2:4.",
        "以 N:M 代替比例：每 M 个相邻权重保留 N 个，如 2:4。",
    )
    scope: Literal["row", "matrix", "global"] = field(
        "row",
        "magnitude: the smallest of each row, matrix, or the model.",
        "magnitude：在每行、每个矩阵或全模型中取最小者。",
    )
    allocation: Literal["uniform", "owl"] = field(
        "uniform",
        "Zeros of each block: as many as of all others, or fewer where many weights stand out (OWL).",
        "各块的零：同样多，或在突出权重多的块中较少（OWL）。",
    )
    round: int = field(
        1, "Which of several rounds of pruning and training this is.", "多轮剪枝与训练中的第几轮。", ge=1
    )
    rounds: int = field(
        1,
        "Rounds in all: the share of zeros grows to `sparsity` along a cubic curve.",
        "总轮数：零的比例沿三次曲线增至 sparsity。",
        ge=1,
    )
    bits: Literal[8, 4, 3, 2] | None = field(
        None,
        "sparsegpt: round what stays to so many bits in the same pass.",
        "sparsegpt：同时把保留的权重量化到此位数。",
    )
    group: int | None = field(
        64, "bits: columns under one scale; null: whole rows.", "bits：共用一个缩放的列数；null 为整行。", ge=8
    )
    depth: Literal["influence", "contiguous", "loss"] = field(
        "influence",
        "structured: layers that stay: those that turn the states most; all but the run of neighbours that turns them "
        "least; by the loss without each (slow, the whole model in memory).",
        "structured：保留哪些层：对状态改变最大的；去掉改变最小的一段连续层；按去掉各层后的损失（慢，需整个模型入内存）。",
    )
    refit: bool = field(
        True,
        "structured: fit the weights that read what stays to the outputs of the whole.",
        "structured：重新拟合读取保留部分的权重，使输出接近原模型。",
    )
    damping: float = field(
        0.01,
        "sparsegpt: share of the mean diagonal added to the second moment; raised by itself where that is needed.",
        "sparsegpt：加到二阶矩上的平均对角线比例；需要时自动加大。",
        gt=0,
        le=1,
    )

    @property
    def share(self) -> float:
        """The share of zeros to reach in the last round."""
        return DEFAULT_SHARE if self.sparsity is None else self.sparsity

    @property
    def needs_data(self) -> bool:
        """Whether the method looks at activations."""
        return self.method != "magnitude" or self.allocation == "owl"

    @field_validator("pattern", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return pattern_text(value)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.needs_data and self.data is None:
            raise ValueError(
                tr(f"{self.method} needs calibration text: data=…", f"{self.method} 需要校准文本：data=…")
            )
        if (self.method == "structured") != bool(self.sizes):
            names = ", ".join(SmallerShape.model_fields)
            raise ValueError(
                tr(
                    f"method=structured needs at least one size, which other methods do not take: {names}",
                    f"method=structured 至少需要一项尺寸，其他方法不接受：{names}",
                )
            )
        if self.pattern and not re.fullmatch(r"\d+:\d+", self.pattern):
            raise ValueError(
                tr(
                    f"pattern is written N:M, as 2:4, not {self.pattern!r}",
                    f"pattern 写作 N:M，如 2:4，而非 {self.pattern!r}",
                )
            )
        if self.pattern and (self.sparsity is not None or self.allocation == "owl" or self.scope != "row"):
            raise ValueError(
                tr(
                    "a pattern says itself how many zeros there are and where: no sparsity, scope or owl",
                    "pattern 已规定零的数量与位置，不与 sparsity、scope、owl 同用",
                )
            )
        if self.scope != "row" and self.method != "magnitude":
            raise ValueError(tr("scope is for method=magnitude", "scope 仅用于 method=magnitude"))
        if self.scope == "global" and self.allocation == "owl":
            raise ValueError(
                tr("scope=global divides the zeros itself: no owl", "scope=global 自行分配零，不与 owl 同用")
            )
        if self.bits is not None and self.method != "sparsegpt":
            raise ValueError(tr("bits is for method=sparsegpt", "bits 仅用于 method=sparsegpt"))
        return self._rounds()

    def _rounds(self) -> Self:
        if self.round > self.rounds:
            raise ValueError(tr(f"round {self.round} of {self.rounds}", f"第 {self.round} 轮，共 {self.rounds} 轮"))
        if self.rounds > 1 and (self.pattern or self.method == "structured"):
            raise ValueError(tr("rounds need a share of zeros (sparsity)", "rounds 需要零的比例（sparsity）"))
        return self

    def disk_bytes(self) -> int:
        """The parts and the directory; smaller models are written up to three times."""
        from luhuo.compress.sizes import directory_bytes

        return 4 * directory_bytes(self.model) + 50_000_000

    def run(self, out: Workspace) -> None:
        """Prune, and write the model directory."""
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        if self.method == "structured":
            from luhuo.compress.prune.structured import prune_structures

            prune_structures(self, out)
        else:
            from luhuo.compress.prune.run import prune_weights

            prune_weights(self, out)
