"""The stage `share-layers`: several layers of a decoder around the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class ShareLayersStage(Stage):
    """Let layers share their weights (ALBERT, Lan et al. 2020). The model has to be trained on afterwards
    (`luhuo pretrain model=…`, or any other training stage), where what is shared stays shared."""

    model: Input = field(..., "Model directory or reference.", "模型目录或引用。")
    weights: int = field(..., "How many layers' weights are left.", "保留几层的权重。", ge=1)
    pattern: Literal["neighbours", "cycle", "similar"] = field(
        "neighbours",
        "Which layers share: neighbours (1 1 2 2), every so many (1 2 1 2), or neighbours whose weights are nearest.",
        "哪些层共享：相邻层（1 1 2 2）、循环（1 2 1 2）或权重最接近的相邻层。",
    )
    ends: bool = field(False, "The first and the last layer keep weights of their own.", "首层与末层保留各自的权重。")
    start: Literal["mean", "first"] = field(
        "mean", "Shared weights begin as the mean of the layers', or as the first's.", "共享权重取各层均值或首层。"
    )

    def run(self, out: Workspace) -> None:
        """Write the model directory, all layers written out, and `sharing.json`."""
        from luhuo.compress.layer_sharing import share_stage

        share_stage(self, out)
