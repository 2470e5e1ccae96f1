"""The commands about evaluations: `luhuo evaluate`, `luhuo compare` and `luhuo tasks`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luhuo.core.errors import EXIT_FAILED, LuhuoError
from luhuo.core.language import tr

if TYPE_CHECKING:
    from luhuo.core.artifact import Done

RunStage = Callable[..., "Done"]
Out = Annotated[Path | None, typer.Option("--out", help=tr("Directory to write.", "输出目录。"))]
Config = Annotated[Path | None, typer.Option("--config", help=tr("YAML file of fields.", "字段的 YAML 文件。"))]
Force = Annotated[
    bool, typer.Option("--force", help=tr("Make it anew even if nothing changed.", "即使没有变化也重做。"))
]


def add(app: typer.Typer, run_stage: RunStage, panel: str) -> None:
    """Put the commands into the command line. `run_stage` runs a stage from `key=value` words."""
    _add_evaluate(app, run_stage, panel)
    _add_compare(app, run_stage, panel)
    app.add_typer(_tasks(), name="tasks")


def _add_evaluate(app: typer.Typer, run_stage: RunStage, panel: str) -> None:
    summary = tr(
        "Measure a model: benchmarks, bits per byte, accuracy. Fields: luhuo explain evaluate.",
        "评测模型：基准任务、每字节比特数、准确率。字段说明：luhuo explain evaluate。",
    )

    @app.command(help=summary, rich_help_panel=panel)
    def evaluate(
        words: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[MODEL] [KEY=VALUE…]", help=tr("Model, and fields to set.", "模型与要设置的字段。")
            ),
        ] = None,
        tasks: Annotated[
            list[str] | None,
            typer.Option(
                "--tasks", help=tr("Names or files, with commas (luhuo tasks).", "任务名或文件，以逗号分隔。")
            ),
        ] = None,
        data: Annotated[
            list[str] | None,
            typer.Option("--data", metavar="TASK=DIR", help=tr("Where a task's data lie.", "任务数据的位置。")),
        ] = None,
        limit: Annotated[int | None, typer.Option(min=1, help=tr("Most items a task.", "每个任务最多题数。"))] = None,
        shots: Annotated[int | None, typer.Option(min=0, help=tr("Examples.", "示例数。"))] = None,
        chat: Annotated[bool, typer.Option("--chat", help=tr("Through the chat template.", "使用对话模板。"))] = False,
        samples: Annotated[int | None, typer.Option(min=1, help=tr("Replies an item.", "每题回复数。"))] = None,
        max_tokens: Annotated[
            int | None, typer.Option(min=1, help=tr("Most tokens of a reply.", "回复的最多词元数。"))
        ] = None,
        weak_sandbox: Annotated[
            bool,
            typer.Option(
                "--weak-sandbox",
                help=tr("Run models' programs even where they cannot be held.", "无法隔离时仍运行模型编写的程序。"),
            ),
        ] = False,
        seed: Annotated[int | None, typer.Option(help=tr("Chooses items and replies.", "选题与采样的种子。"))] = None,
        dtype: Annotated[str | None, typer.Option(help="auto | fp32 | bf16 | fp16")] = None,
        device: Annotated[str | None, typer.Option(help="auto | cpu | cuda | mps")] = None,
        config: Config = None,
        out: Out = None,
        force: Force = False,
    ) -> None:
        given = {"limit": limit, "shots": shots, "samples": samples, "max_tokens": max_tokens}
        ask: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        ask |= (
            ({"weak": True} if weak_sandbox else {})
            | ({"mode": "chat"} if chat else {})
            | ({"reuse": False} if force else {})
        )
        pairs = stage_pairs(
            words or [], tasks or [], data or [], ask, {"seed": seed, "dtype": dtype, "device": device}
        )
        if not tasks:
            run_stage("evaluate", pairs, config, out, force)
            return
        target = out or Path("runs") / "evaluate"
        done = run_stage("evaluate", pairs, config, target, force or _had_failures(target), show=False)
        raise typer.Exit(show_scores(done))


def _add_compare(app: typer.Typer, run_stage: RunStage, panel: str) -> None:
    @app.command(
        help=tr(
            "Compare evaluations item by item: luhuo compare A B … for tasks, before=A after=B for the rest.",
            "逐题比较评测：任务评测用 luhuo compare A B …，其余用 before=A after=B。",
        ),
        rich_help_panel=panel,
    )
    def compare(
        words: Annotated[
            list[str] | None,
            typer.Argument(metavar="DIR… | KEY=VALUE…", help=tr("Evaluations, or fields.", "评测目录，或字段。")),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help=tr("Print JSON.", "输出 JSON。"))] = False,
        config: Config = None,
        out: Out = None,
        force: Force = False,
    ) -> None:
        words = words or []
        if config is not None or not words or all("=" in word and not Path(word).exists() for word in words):
            run_stage("compare", words, config, out, force)
            return
        from luhuo.core.atomic import write_json, write_text
        from luhuo.evaluation import task_compare

        found = task_compare.compare(words)
        if out is not None:
            write_json(out / "comparison.json", found)
            write_text(out / "comparison.md", task_compare.markdown(found))
        print(json.dumps(found, ensure_ascii=False, indent=2) if as_json else task_compare.markdown(found))


def stage_pairs(
    words: Sequence[str], tasks: Sequence[str], data: Sequence[str], ask: dict[str, Any], others: dict[str, Any]
) -> list[str]:
    """`key=value` words of the stage `evaluate` for what stands on the command line. Raises `LuhuoError`."""
    from luhuo.evaluation.stages import EvaluateStage

    words, pairs = list(words), []
    if words and words[0].partition("=")[0] not in EvaluateStage.model_fields:
        pairs.append(f"model={json.dumps(words.pop(0), ensure_ascii=False)}")
    pairs += words
    names = separated(tasks)
    if names:
        pairs += [f"tasks={json.dumps(names)}", "on_failure=continue"]
    places = task_places(data, "--data")
    pairs += [f"data={json.dumps(places, ensure_ascii=False)}"] if places else []
    pairs += [f"ask={json.dumps(ask)}"] if ask else []
    return pairs + [f"{name}={json.dumps(value)}" for name, value in others.items() if value is not None]


def separated(texts: Sequence[str]) -> list[str]:
    """What stands between the commas of all texts."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def task_places(words: Sequence[str], option: str) -> dict[str, str]:
    """Where the data of each task lie, out of words TASK=DIR given to an option. Raises `LuhuoError`."""
    places = {}
    for text in words:
        name, equals, place = text.partition("=")
        if not equals or not place:
            raise LuhuoError(
                tr("This does not say where a task's data lie.", "这里没有说明任务数据的位置。"),
                expected=f"{option} TASK=DIR",
                found=text,
            )
        places[name] = place
    return places


def _had_failures(target: Path) -> bool:
    """Whether an earlier evaluation could not run some of its tasks: then they are tried again."""
    manifest = target / "manifest.json"
    return manifest.is_file() and bool(json.loads(manifest.read_text(encoding="utf-8"))["metrics"].get("failed"))


def show_scores(done: Done) -> int:
    """Print the table of a finished evaluation; the exit code says whether all tasks could be run."""
    from luhuo.evaluation.benchmark import read_scores
    from luhuo.evaluation.task_report import table
    from luhuo.recipe.table import print_cells

    scores = read_scores(done.path)
    print_cells(*table.short(scores))
    print(f"{done.path / 'report.html'}{tr(' (unchanged)', '（未变）') if done.reused else ''}")
    for name, error in scores["failed"].items():
        print(f"✗ {name}: {error}")
    return EXIT_FAILED if scores["failed"] else 0


def _tasks() -> typer.Typer:
    app = typer.Typer(help=tr("List benchmarks, or show one.", "列出评测任务，或显示其中一个。"))

    @app.callback(invoke_without_command=True)
    def listing(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            from luhuo.evaluation.tasks import catalogue

            for entry in catalogue.entries():
                name = getattr(entry, "task", None) or getattr(entry, "group", "")
                kind = getattr(entry, "kind", tr("group", "组"))
                print(f"{name:24} {kind:13} {entry.summary.text}")

    @app.command(help=tr("Print prompt and scoring of a task, with an example.", "打印任务的提示与评分，附一个例子。"))
    def show(
        name: Annotated[str, typer.Argument(help=tr("Name or file.", "任务名或文件。"))],
        data: Annotated[
            str | None, typer.Option(help=tr("Its data, to show a real item.", "任务数据，用于显示真实题目。"))
        ] = None,
        shots: Annotated[int | None, typer.Option(min=0, help=tr("Examples.", "示例数。"))] = None,
    ) -> None:
        from luhuo.evaluation.tasks import catalogue
        from luhuo.evaluation.tasks.show import described

        found = catalogue.find(name)
        if isinstance(found, catalogue.Group):
            print(f"{found.group} v{found.version}: {found.summary.text}")
            print("\n".join(f"  {member}" for member in catalogue.members(found)))
            return
        print(described(found, data, shots))

    return app
