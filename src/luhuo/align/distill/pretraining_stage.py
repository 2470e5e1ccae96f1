"""The stage `pretrain-distill`: pretraining with a teacher, of decoders and encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.align.distill.config import LessonConfig
from luhuo.core.config import field
from luhuo.core.language import tr
from luhuo.train.stages import PretrainStage

if TYPE_CHECKING:
    from luhuo.train.config import TrainerConfig
    from luhuo.train.objective import Objective


class PretrainDistillStage(LessonConfig, PretrainStage):
    """Pretraining on shards of text with a teacher beside it: a decoder learns what its teacher holds likely next, an
    encoder what its teacher takes masked tokens for; and, if asked, hidden states and attention."""

    version: ClassVar[int] = 1

    objective: Literal["causal", "masked"] = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        "causal", "causal (decoders) or masked (encoders).", "causal（解码器）或 masked（编码器）。"
    )

    @model_validator(mode="after")
    def _fits_text(self) -> Self:
        if self.stored is not None:
            raise ValueError(
                tr("stored logits are of conversations: give a teacher", "所存 logits 属于对话：请给出 teacher")
            )
        divided = [name for name in ("fsdp", "tp", "ep") if getattr(self.parallel, name) != 1]
        if divided and (self.states or self.attention):
            raise ValueError(
                tr(
                    f"parallel.{divided[0]}: states and attention are matched on whole models; use parallel.dp",
                    f"parallel.{divided[0]}：匹配隐藏状态与注意力需要完整的模型；请使用 parallel.dp",
                )
            )
        return self

    def _trainer_config(self, steps: int, learning_rate: float) -> TrainerConfig:
        found = super()._trainer_config(steps, learning_rate)
        return found.model_copy(update={"compile": "none"}) if self.attention else found

    def _objective(self, model: Any) -> Objective:
        from luhuo.align.distill.run import pretraining_objective

        return pretraining_objective(self, model)

    def _finish(self, model: Any) -> None:
        from luhuo.align.distill.run import without_bridge

        without_bridge(model)
