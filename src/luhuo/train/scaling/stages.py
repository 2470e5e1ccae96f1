"""Stages `scaling-run` (one size at several token counts) and `scaling-law` (the law of many such runs)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage
from luhuo.train.stages import PretrainStage, _check_shards

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace

DECIDED = ("steps", "tokens", "schedule", "model", "keep_best", "batch_warmup", "eval_every")
"""Fields of `pretrain` that the rungs decide, or that make no sense over several of them."""


class ScalingRunStage(PretrainStage):
    """Train one size once at a constant rate, and branch a decay off for each number of tokens to be measured.

    A branch is, bit for bit, the run of that length with schedule wsd and the same warm-up (Hu et al. 2024, MiniCPM,
    section 4.3), at the cost of its decay alone.
    """

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = False

    rungs: list[int] = field(
        ..., "Token counts to measure, rising.", "要测量的词元数，递增。", min_length=1, max_length=32
    )
    length: int | None = field(256, "Tokens a row, equal for all sizes.", "每行词元数，各规模须一致。", ge=2)
    warmup: float = field(
        0.05,
        "Warm-up, as a share of the steps of the shortest rung (one trunk serves all rungs).",
        "预热步数占最短一级步数的比例（各级共用同一主干）。",
        ge=0,
        le=1,
    )

    @model_validator(mode="after")
    def _rungs_decide(self) -> Self:
        if sorted(set(self.rungs)) != list(self.rungs) or self.rungs[0] < 1:
            raise ValueError("rungs must be positive and rise")
        given = [name for name in DECIDED if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            raise ValueError(f"the rungs decide {', '.join(given)}: leave it out")
        if self.objective != "causal" or self.replay is not None or self.shape.moe is not None:
            raise ValueError("scaling runs are of dense decoders with objective causal, without replay")
        if self.length is None:
            raise ValueError("length must be given: losses at different lengths do not compare")
        return self

    def disk_bytes(self) -> int:
        """Trunk and branch each hold three checkpoints of weights and two optimiser states."""
        return 2 * super().disk_bytes()

    def run(self, out: Workspace) -> None:
        """Climb the rungs, going on where an earlier call was cut off, and write `points.json`."""
        from luhuo.core.device import pick_device, use_threads
        from luhuo.tokenizer.tokenizer import Tokenizer
        from luhuo.train.scaling.ladder import climb

        use_threads(self.threads)
        tokenizer = Tokenizer.load(self.tokenizer)
        _check_shards(self.shards, tokenizer)
        climb(self, tokenizer, out, pick_device(self.device))


class ScalingLawStage(Stage):
    """Fit L(N, D) = E + A/N^α + B/D^β to scaling runs, and recommend size and tokens for budgets."""

    version: ClassVar[int] = 1

    runs: list[Input] = field(..., "Outputs of scaling-run to fit.", "用于拟合的 scaling-run 输出。", min_length=1)
    held_out: list[Input] = field(
        [], "Outputs of scaling-run to predict, not to fit.", "只用于检验预测、不参与拟合的 scaling-run 输出。"
    )
    targets: list[str] = field(
        [],
        "Budgets to recommend for: FLOPs (1e18) or time (30m, 12h, 3d).",
        "要给出建议的预算：FLOPs（1e18）或时间（30m、12h、3d）。",
    )
    machine: str = field(
        "",
        "What a time budget is spent on: empty for this machine at the measured rate, a rate in FLOP/s such as 4e14, "
        "or GPUs such as 8xH100.",
        "时间预算所用的机器：留空为本机（实测速率），或 FLOP/s 速率（如 4e14），或 GPU（如 8xH100）。",
    )
    count: Literal["auto", "all", "body"] = field(
        "auto",
        "What N counts: all parameters, the body without embeddings, or whichever fits better.",
        "N 的口径：all 全部参数，body 不含嵌入，auto 取拟合更好者。",
    )
    resamples: int = field(
        400, "Bootstrap resamples behind the intervals.", "区间所用的自助重抽样次数。", ge=100, le=20000
    )

    def run(self, out: Workspace) -> None:
        """Write `law.json` (everything, all points) and `report.html`."""
        from luhuo.train.scaling.analyse import analyse

        analyse(self, out)


def options_of(stage: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `pretrain` entry that hold for its scaling runs too: not what belongs to its own size."""
    dropped = {*DECIDED, "size", "warmup", "learning_rate"}
    return {name: value for name, value in stage.items() if name not in dropped and value is not None}
