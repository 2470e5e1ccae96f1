"""Several tasks on one model, written to a folder as they finish: rows, scores, and the pages that show them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.item_scores import Row
from luhuo.evaluation.runner import Runner, Subject, TaskResult
from luhuo.evaluation.task_summary import grouped
from luhuo.evaluation.tasks import catalogue

SCORES = "tasks.json"
"""The scores of all tasks, with their recipes."""
ROWS = "tasks"
"""Folder with the rows of each task, one JSON line an item."""


def benchmark(
    subject: Subject,
    names: Sequence[str],
    data: Mapping[str, str],
    ask: AskSettings,
    *,
    seed: int = 0,
    folder: Path,
    model: str = "",
) -> dict[str, Any]:
    """Scores of the named tasks and groups, also written to `folder` with every row and the reports.

    `data` gives folders or references by task, or by group for all of its tasks. A task that cannot be run is told of
    and listed under "failed"; the others go on. Raises `LuhuoError` for an unknown name, `RunFailed` when no task ran.
    """
    from luhuo.evaluation.task_report import write_reports

    tasks, groups = catalogue.expand(names)
    known = [*(task.name for task in tasks), *(group.group for group in groups)]
    for name in data:
        if name not in known:
            raise unknown_key(name, known, "data", tr("task", "任务"))
    places = {name: data[group.group] for group in groups if group.group in data for name in catalogue.members(group)}
    places |= {name: value for name, value in data.items() if name in {task.name for task in tasks}}
    runner = Runner(subject, ask, seed)
    scores: dict[str, Any] = {"model": model, "settings": ask.model_dump(mode="json"), "seed": seed, "tasks": {}}
    scores |= {"groups": {}, "failed": {}}
    for task in tasks:
        try:
            result = runner.run(task, places.get(task.name))
        except LuhuoError as error:
            scores["failed"][task.name] = str(error)
            say(tr(f"{task.name} failed: {error}", f"{task.name} 失败：{error}"))
            continue
        write_rows(folder / ROWS / f"{task.name}.jsonl", result.rows)
        scores["tasks"][task.name] = described(result)
        scores["groups"] = _groups(groups, scores["tasks"])
        write_json(folder / SCORES, scores)
    if not scores["tasks"]:
        raise RunFailed(tr("No task could be run.", "没有任务能够运行。"), found="\n".join(scores["failed"].values()))
    write_json(folder / SCORES, scores)
    write_reports(folder, scores)
    return scores


def described(result: TaskResult) -> dict[str, Any]:
    """The scores of a task with what a reader needs to understand them."""
    spec = result.task.spec
    said = {"summary": spec.summary.model_dump(), "licence": spec.licence, "source": spec.source}
    said |= {"metrics_shown": spec.metrics, "lower_is_better": spec.lower_is_better, "kind": spec.kind}
    return {"version": spec.version, **said, **result.summary}


def _groups(groups: Iterable[catalogue.Group], tasks: Mapping[str, Any]) -> dict[str, Any]:
    found = {group.group: grouped(tasks, catalogue.members(group)) for group in groups}
    return {name: scores for name, scores in found.items() if scores is not None}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Rows as JSON lines, atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_scores(folder: str | Path) -> dict[str, Any]:
    """The scores of an evaluation of tasks. Raises `LuhuoError` if there is none in the folder."""
    path = Path(folder) / SCORES
    if not path.is_file():
        raise LuhuoError(
            tr("This is no evaluation of tasks.", "这不是任务评测的产物。"), expected=SCORES, where=folder
        )
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(folder: str | Path, task: str) -> list[Row]:
    """The rows of one task of an evaluation."""
    with (Path(folder) / ROWS / f"{task}.jsonl").open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def flat(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Results with dotted keys for a manifest: TASK.METRIC with its interval, and GROUP.micro and .macro."""
    results: dict[str, Any] = {}
    for name, task in scores["tasks"].items():
        for metric, score in task["metrics"].items():
            results[f"{name}.{metric}"] = score["value"]
            results |= {f"{name}.{metric}.{end}": score[end] for end in ("low", "high") if score.get(end) is not None}
        results[f"{name}.n"] = task["n"]
    for name, group in scores["groups"].items():
        results |= {f"{name}.{kind}": group[kind]["value"] for kind in ("micro", "macro")}
    return results
