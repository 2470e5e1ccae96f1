"""The stages `judge` and `judge-validation`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from luhuo.core.artifact import Workspace
from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage
from luhuo.evaluation.judges.config import JudgeConfig


class _Judging(Stage):
    """What both stages share."""

    resumable: ClassVar[bool] = True

    judges: list[JudgeConfig] = field(
        ..., "The judges: [{rule: longer}, {responder: {model: …}}, …].",
        "评判者列表：[{rule: longer}, {responder: {model: …}}, …]。", min_length=1,
    )  # fmt: skip
    tie: float = field(
        0.0,
        "A chance not further from one half than this is a tie.",
        "概率与 0.5 之差不超过此值即为平局。",
        ge=0,
        lt=0.5,
    )
    limit: int = field(0, "Items taken, evenly over all; 0: all.", "所取条目数（均匀抽取）；0 为全部。", ge=0)
    cache: str = field(
        "", "File of verdicts that all runs share; empty: one in Luhuo's cache folder.",
        "各次运行共用的评判缓存文件；空：缓存目录中的文件。", watch=True,
    )  # fmt: skip
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def cache_file(self) -> Path:
        """Where verdicts are kept."""
        from luhuo.files.cache import cache_folder

        return Path(self.cache) if self.cache else cache_folder() / "judges.db"


class JudgeStage(_Judging):
    """Which model answers better, by judges: pairs in both orders (disagreement is a tie), or ratings of single
    answers; win rates, also at equal length, by category, and a leaderboard of three models or more."""

    answers: dict[str, Input] = field(
        ..., "Files of answers by the model's name: {a: FILE, b: FILE}.", "各模型的回答文件：{a: 文件, b: 文件}。",
        min_length=1,
    )  # fmt: skip
    kind: Literal["pairwise", "single"] = field(
        "pairwise", "Compare two answers, or rate one.", "比较两个回答（pairwise），或为单个回答评分（single）。"
    )
    baseline: str = field(
        "", "Compare every model with this one; empty: every two.", "所有模型都与它比较；空：两两比较。"
    )
    questions: Input | None = field(None, "MT-Bench's question.jsonl.", "MT-Bench 的 question.jsonl。")
    references: Input | None = field(None, "Reference answers in MT-Bench's layout.", "MT-Bench 格式的参考答案。")
    validation: Input | None = field(
        None, "Result of judge-validation of these judges; its agreement stands in the report.",
        "这些评判者的 judge-validation 结果；其一致性会写入报告。",
    )  # fmt: skip
    min_kappa: float = field(
        0.0, "Least agreement with people (kappa) that a judge must have shown; 0: any.",
        "评判者须达到的与人一致性（κ）下限；0 为不限。", ge=0, le=1,
    )  # fmt: skip

    def run(self, out: Workspace) -> None:
        """Write `scores.json`, `judged.jsonl` and `report.html`; the cache makes a run that was cut off go on."""
        from luhuo.core.device import use_threads
        from luhuo.evaluation.judges.run import run_judge

        use_threads(self.threads)
        run_judge(self, out)


class HumanData(Config):
    """One set of answers that people judged."""

    name: str = field(
        ...,
        "pandalm, xstest, pyrit, gptfuzzer, or a name of one's own.",
        "pandalm、xstest、pyrit、gptfuzzer，或自定名称。",
    )
    path: Input = field(..., "Its folder, or a file of rows.", "其目录，或数据文件。")


class JudgeValidationStage(_Judging):
    """How far judges agree with people: kappa with its interval beside the people's own, favour for a place or for
    length, what could not be judged and why, and the cost. Validate a judge before it judges."""

    data: list[HumanData] = field(
        ..., "Sets that people judged: [{name: pandalm, path: DIR}].", "人工评判集：[{name: pandalm, path: 目录}]。",
        min_length=1,
    )  # fmt: skip

    def run(self, out: Workspace) -> None:
        """Write `validation.json`, `judged.jsonl` and `report.html`."""
        from luhuo.core.device import use_threads
        from luhuo.evaluation.judges.run import run_validation

        use_threads(self.threads)
        run_validation(self, out)
