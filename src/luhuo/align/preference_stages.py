"""The stages `dpo`, `kto`, `orpo`, `simpo`, `cpo` and `rrhf`: preference data to a better policy, without sampling."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from luhuo.align.preference.config import SMOOTHED, DpoLoss, PreferenceConfig, ReferenceConfig
from luhuo.core.config import field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.align.preference.kto import KTO
    from luhuo.align.preference.objective import AsBefore, PairObjective
    from luhuo.align.preference.rrhf import RRHF
    from luhuo.core.artifact import Workspace


class PreferenceStage(Stage, PreferenceConfig):
    """The base of the stages of this file."""

    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    @abc.abstractmethod
    def objective(self, reference: AsBefore | None) -> PairObjective | KTO | RRHF:
        """The loss."""

    def run(self, out: Workspace) -> None:
        """Train, resuming from the last checkpoint if there is one, and write a model directory or an adapter."""
        from luhuo.align.preference.run import run_preference
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            run_preference(self, out, device)

    def disk_bytes(self) -> int:
        """The model, and two checkpoints with the optimiser's state."""
        folder = Path(self.model)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 20_000_000
        return 8 * weights + 10_000_000


class DpoStage(ReferenceConfig, PreferenceStage):
    """Direct preference optimisation and its kin: pairs of answers."""

    loss: DpoLoss = field(
        "sigmoid",
        "sigmoid (DPO; cDPO with label_smoothing), robust, hinge, ipo, exo, apo_zero or apo_down.",
        "sigmoid（DPO；配 label_smoothing 即 cDPO）、robust、hinge、ipo、exo、apo_zero 或 apo_down。",
    )
    label_smoothing: float = field(0.0, "Share of labels taken to be wrong.", "认为标错的标签比例。", ge=0, lt=0.5)
    sft_weight: float = field(
        0.0,
        "Weight of the chosen answers' own loss beside the preferences (RPO's alpha).",
        "在偏好损失之外加上所选回答自身损失的权重（RPO 的 alpha）。",
        ge=0,
    )
    normalise: bool = field(
        False, "Means over an answer's tokens instead of sums (ipo always).", "用回答词元的均值代替求和（ipo 总是）。"
    )
    margin_weight: float = field(
        0.0,
        "An answer that the data call better by m must lead by this times m more (ODPO).",
        "数据标明优出 m 的回答须多领先此值乘 m（ODPO）。",
        ge=0,
    )

    @model_validator(mode="after")
    def _smoothing_is_used(self) -> Self:
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise ValueError(f"label_smoothing has no effect on loss={self.loss}: it goes with {', '.join(SMOOTHED)}")
        return self

    def objective(self, reference: AsBefore | None) -> PairObjective:
        """DPO of the wanted kind."""
        from luhuo.align.preference.dpo import DPO

        options: dict[str, Any] = {
            name: getattr(self, name) for name in ("beta", "label_smoothing", "normalise", "margin_weight")
        }
        return DPO(self.loss, sft=self.sft_weight, reference=reference, **options)


class KtoStage(ReferenceConfig, PreferenceStage):
    """Kahneman-Tversky optimisation: single answers judged good or bad (a file of pairs gives two a row)."""

    desirable: float = field(1.0, "Weight of good answers.", "好回答的权重。", ge=0)
    undesirable: float = field(1.0, "Weight of bad answers.", "差回答的权重。", ge=0)
    batch: int = field(64, "Answers per optimiser step.", "每个优化步的回答数。", ge=2)

    def objective(self, reference: AsBefore | None) -> KTO:
        """KTO."""
        from luhuo.align.preference.kto import KTO

        return KTO(beta=self.beta, desirable=self.desirable, undesirable=self.undesirable, reference=reference)


class OrpoStage(PreferenceStage):
    """Odds-ratio preference optimisation: fine-tuning and preferences in one step, from a base model."""

    odds_weight: float = field(
        0.1, "Weight of the odds ratio (the paper's lambda).", "胜率比的权重（论文的 λ）。", gt=0
    )
    learn_prompt: bool = field(
        False,
        "The likelihood term counts the prompt's tokens too, as in the authors' code.",
        "似然项同时计入提示的词元，与作者代码一致。",
    )
    learning_rate: float = field(8e-6, "Peak learning rate.", "峰值学习率。", gt=0)

    def objective(self, reference: AsBefore | None) -> PairObjective:
        """ORPO."""
        from luhuo.align.preference.orpo import ORPO

        return ORPO(weight_of_odds=self.odds_weight)


class SimpoStage(PreferenceStage):
    """Simple preference optimisation: mean log-probabilities as rewards, no reference."""

    beta: float = field(2.0, "Scale of the rewards.", "奖励的尺度。", gt=0)
    margin: float = field(1.0, "Lead a chosen answer must have (gamma).", "所选回答必须领先的差距（γ）。", ge=0)
    label_smoothing: float = field(0.0, "Share of labels taken to be wrong.", "认为标错的标签比例。", ge=0, lt=0.5)
    sft_weight: float = field(
        0.0, "Weight of the chosen answers' own loss (CPO-SimPO).", "所选回答自身损失的权重（CPO-SimPO）。", ge=0
    )

    def objective(self, reference: AsBefore | None) -> PairObjective:
        """SimPO."""
        from luhuo.align.preference.simpo import SimPO

        smoothing = self.label_smoothing
        return SimPO(beta=self.beta, margin=self.margin, label_smoothing=smoothing, sft=self.sft_weight)


class CpoStage(PreferenceStage):
    """Contrastive preference optimisation: DPO without a reference, held back by fine-tuning."""

    beta: float = field(0.1, "Scale of the log-probabilities.", "对数概率的尺度。", gt=0)
    label_smoothing: float = field(0.0, "Share of labels taken to be wrong.", "认为标错的标签比例。", ge=0, lt=0.5)
    sft_weight: float = field(1.0, "Weight of the chosen answers' own loss.", "所选回答自身损失的权重。", ge=0)

    def objective(self, reference: AsBefore | None) -> PairObjective:
        """CPO."""
        from luhuo.align.preference.cpo import CPO

        return CPO(beta=self.beta, label_smoothing=self.label_smoothing, sft=self.sft_weight)


class RrhfStage(PreferenceStage):
    """Rank responses to align with human feedback: several scored answers a prompt, the better the likelier."""

    sft_weight: float = field(1.0, "Weight of the best answer's own loss.", "最佳回答自身损失的权重。", ge=0)
    batch: int = field(16, "Prompts per optimiser step.", "每个优化步的提示数。", ge=1)
    learning_rate: float = field(2e-6, "Peak learning rate.", "峰值学习率。", gt=0)

    def objective(self, reference: AsBefore | None) -> RRHF:
        """RRHF."""
        from luhuo.align.preference.rrhf import RRHF

        return RRHF(sft=self.sft_weight)
