"""The stages `evaluate` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from luhuo.core.atomic import write_json, write_text
from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage
from luhuo.evaluation.asking import AskSettings

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class EvaluateStage(Stage):
    """Bits per byte on held-out text, accuracy on test items, and benchmarks."""

    model: Input = field(..., "Model directory.", "模型目录。")
    corpus: Input | None = field(
        None, "Corpus whose test split is scored in bits per byte.", "语料；用其测试部分计算每字节比特数。"
    )
    items: Input | None = field(
        None, "Test items (jsonl), as the world writes them.", "测试题目（jsonl），如 world 所写。"
    )
    shots_from: Input | None = field(None, "Training items from which examples are taken.", "取示例用的训练题目。")
    shots: int = field(
        4, "Examples before each question, in completion mode.", "续写模式下每题之前的示例数。", ge=0, le=64
    )
    mode: Literal["chat", "completion"] = field(
        "chat",
        "Ask through the chat template, or as plain text with examples.",
        "用对话模板提问，或用带示例的纯文本。",
    )
    limit: int = field(200, "Most items per family.", "每类最多题数。", ge=1)
    max_text_kb: int = field(
        256, "Most text scored per source and language, in kB.", "每个来源和语言最多评测的文本（kB）。", ge=1
    )
    max_tokens: int = field(64, "Most tokens of an answer.", "回答的最多词元数。", ge=1)
    batch: int = field(64, "Answers generated at once.", "同时生成的回答数。", ge=1)
    dtype: str = field("auto", "Number format: auto, fp32, bf16 or fp16.", "数值格式：auto、fp32、bf16 或 fp16。")
    device: str = field("auto", "auto, cpu, cuda or mps.", "auto、cpu、cuda 或 mps。")
    tasks: list[str] = field([], "Benchmarks (luhuo tasks), or task files.", "评测任务（luhuo tasks），或任务文件。")
    data: dict[str, Input] = field(
        {},
        "Folder or reference with the data of each task, or group of tasks.",
        "每个任务（或任务组）的数据目录或引用。",
    )
    ask: AskSettings = field(AskSettings(), "How the tasks are asked.", "任务的提问方式。")
    on_failure: Literal["stop", "continue"] = field(
        "stop",
        "When a task could not be run: fail once the others are done, or list it in the report.",
        "有任务无法运行时：其余完成后报错，或仅在报告中列出。",
        watch=True,
    )

    def run(self, out: Workspace) -> None:
        """Write `scores.json`, with items also `items.jsonl` and `samples.jsonl`; of tasks `tasks.json`, the rows of
        each, `report.html` and `report.md`."""
        if self.corpus is None and self.items is None and not self.tasks:
            raise LuhuoError(
                tr("There is nothing to evaluate on.", "没有可评测的内容。"), expected="corpus=…, items=…, tasks=…"
            )
        from luhuo.adapter.open import open_decoder, open_model
        from luhuo.core.device import use_threads
        from luhuo.evaluation.run import evaluate_model

        use_threads()
        if self.corpus is None and self.items is None:  # retrieval and probes are for encoders too
            self._benchmark(open_model(self.model, self.dtype, self.device), out)
            return
        model = open_decoder(self.model, dtype=self.dtype, device=self.device)
        scores = evaluate_model(model, self, out.path)
        write_json(out.path / "scores.json", scores)
        out.results |= flat(scores)
        if self.tasks:
            self._benchmark(model, out)

    def _benchmark(self, model: Any, out: Workspace) -> None:
        from luhuo.core.errors import RunFailed
        from luhuo.evaluation.benchmark import benchmark
        from luhuo.evaluation.benchmark import flat as flat_tasks
        from luhuo.evaluation.runner import Subject, model_digest
        from luhuo.inference.engine import Engine

        subject = Subject(Engine(model, max_batch=self.batch), model_digest(self.model, model))
        scores = benchmark(subject, self.tasks, self.data, self.ask, seed=self.seed, folder=out.path, model=self.model)
        out.results |= flat_tasks(scores)
        if scores["failed"]:
            out.results["failed"] = sorted(scores["failed"])
            if self.on_failure == "stop":
                raise RunFailed(
                    tr("Some tasks could not be run; what is done is kept.", "部分任务无法运行；已完成的结果已保留。"),
                    found="\n".join(f"{name}: {error}" for name, error in scores["failed"].items()),
                    fix=tr("Mend it and run the same command again.", "修正后重新运行同一命令。"),
                )


class CompareStage(Stage):
    """Two evaluations of the same items: the difference in points, with its interval."""

    before: Input = field(..., "Evaluation to compare with.", "作为基准的评测产物。")
    after: Input = field(..., "Evaluation that should be better.", "应当更好的评测产物。")

    def run(self, out: Workspace) -> None:
        """Write `comparison.json`, of benchmarks `tasks.json` and `tasks.md`.

        Results are `difference.mean` (with `.low`, `.high`) and `difference.FAMILY`, or `difference.TASK`.
        """
        from luhuo.evaluation.benchmark import SCORES
        from luhuo.evaluation.compare import ITEMS, compare_runs, read_outcomes

        tasks = all((Path(folder) / SCORES).is_file() for folder in (self.before, self.after))
        if tasks:
            self._tasks(out)
        if tasks and not (Path(self.after) / ITEMS).is_file():
            return
        found = compare_runs(read_outcomes(self.before), read_outcomes(self.after), self.seed)
        write_json(out.path / "comparison.json", found)
        for end in ("", ".low", ".high"):
            out.results[f"difference.mean{end}"] = found["mean"][end.removeprefix(".") or "difference"]
        for name, row in found["families"].items():
            out.results |= {f"difference.{name}": row["difference"]}

    def _tasks(self, out: Workspace) -> None:
        from luhuo.evaluation import task_compare

        found = task_compare.compare([self.before, self.after], self.seed)
        write_json(out.path / "tasks.json", found)
        write_text(out.path / "tasks.md", task_compare.markdown(found))
        for name, entry in found["tasks"].items():
            for difference in entry["differences"].values():
                ends = {"": "difference", ".low": "low", ".high": "high", ".p": "p_value"}
                out.results |= {f"difference.{name}{end}": difference[key] for end, key in ends.items() if difference}


def flat(scores: dict[str, Any]) -> dict[str, Any]:
    """The headline results for the manifest, with dotted keys."""
    results: dict[str, Any] = {}
    text = scores.get("bits_per_byte", {"languages": {}, "sources": {}})
    for prefix, rows in (("", text["languages"]), ("source.", text["sources"])):
        for name, row in rows.items():
            results |= {f"bpb.{prefix}{name}": row["bits_per_byte"], f"xz.{prefix}{name}": row["xz"]}
    if "accuracy" in scores:
        for name, row in {"mean": scores["accuracy"]["mean"], **scores["accuracy"]["families"]}.items():
            results |= {f"accuracy.{name}": row["accuracy"]}
            results |= {f"accuracy.{name}.{key}": row[key] for key in ("low", "high", "chance", "n")}
        results["near_chance"] = scores["accuracy"]["near_chance"]
    return results
