"""Running the stages `contamination` and `membership`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.config import unknown_key
from luhuo.core.device import use_threads
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress, say
from luhuo.core.seeds import derive_seed
from luhuo.evaluation.contamination import Finding, Overlap, counts
from luhuo.evaluation.contamination_sources import items_of, training_documents
from luhuo.evaluation.contamination_stages import ContaminationStage, MembershipStage
from luhuo.evaluation.tasks import catalogue
from luhuo.verify.statistics import bootstrap_mean

WAYS = {"clean": ("clean", "too_short"), "partly": ("partly",), "dirty": ("dirty",)}
"""The parts of a task that scores are told for; what is too short to be looked for counts as clean."""


def check(stage: ContaminationStage, out: Workspace) -> None:
    """See `ContaminationStage`. Raises `LuhuoError` where there is no training text, or a task cannot be read."""
    tasks, groups = catalogue.expand(stage.tasks)
    known = [*(task.name for task in tasks), *(group.group for group in groups)]
    for name in stage.data:
        if name not in known:
            raise unknown_key(name, known, "data", tr("task", "任务"))
    places = {name: stage.data[g.group] for g in groups if g.group in stage.data for name in catalogue.members(g)}
    places |= stage.data
    items = [item for task in tasks for item in items_of(task, places.get(task.name), stage.limit, stage.seed)]
    index = Overlap(items, stage.words, stage.han, stage.common)
    with Progress(tr("training documents", "训练文档"), None, tr("documents", "篇")) as progress:
        for name, text in training_documents(stage.train, stage.tokenizer):
            index.show(name, text)
            progress.advance()
    if not index.documents:
        raise LuhuoError(tr("There is no training text here.", "这里没有训练文本。"), where=stage.train)
    findings = index.findings()
    report: dict[str, Any] = {"documents": index.documents, "tasks": {}}
    for task in tasks:
        mine = [finding for finding in findings if finding.item.task == task.name]
        found: dict[str, Any] = {"n": len(mine), **counts(mine)}
        if stage.evaluation is not None:
            found["scores"] = _scores(Path(stage.evaluation), task, mine, stage.seed)
        report["tasks"][task.name] = found
        out.results |= {f"{task.name}.{verdict}": count / len(mine) for verdict, count in counts(mine).items()}
        say(
            tr(
                f"{task.name}: {found['dirty']} of {len(mine)} items stand in the text, {found['partly']} partly",
                f"{task.name}：{len(mine)} 题中有 {found['dirty']} 题出现在训练文本中，{found['partly']} 题部分出现",
            )
        )
    write_json(out.path / "contamination.json", report)
    _write_items(out.path / "items.jsonl", (one for one in findings if one.verdict in ("partly", "dirty")))


def _write_items(path: Path, findings: Iterable[Finding]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for finding in findings:
            row = {"id": finding.item.id, "task": finding.item.task} | asdict(finding)
            handle.write(json.dumps({k: v for k, v in row.items() if k != "item"}, ensure_ascii=False) + "\n")


def _scores(folder: Path, task: catalogue.Task, findings: Sequence[Finding], seed: int) -> dict[str, Any]:
    """The task's headline on its clean and on its other items. Raises `LuhuoError` without its rows."""
    file = folder / "tasks" / f"{task.name}.jsonl"
    if not file.is_file():
        raise LuhuoError(
            tr(f"This evaluation has no rows of {task.name}.", f"该评测没有 {task.name} 的逐题结果。"), where=file
        )
    with file.open(encoding="utf-8") as handle:
        rows = {row["id"]: row["scores"] for row in map(json.loads, handle)}
    metric = next((m for m in task.spec.metrics if all(m in scores for scores in rows.values())), None)
    if metric is None:
        return {}
    found: dict[str, Any] = {"metric": metric}
    for name, verdicts in WAYS.items():
        mine = [rows[one.item.id][metric] for one in findings if one.verdict in verdicts and one.item.id in rows]
        if mine:
            found[name] = asdict(bootstrap_mean(mine, derive_seed(seed, "contamination", name)))
    return found


def tell_apart(stage: MembershipStage, out: Workspace) -> None:
    """See `MembershipStage`. Raises `LuhuoError` where one of the sets is empty."""
    from luhuo.adapter.open import open_decoder
    from luhuo.evaluation.membership import compare

    use_threads()
    members, twins = (
        [text for _, text in islice(_some(training_documents(path)), stage.limit)]
        for path in (stage.members, stage.twins)
    )
    model = open_decoder(stage.model, dtype=stage.dtype, device=stage.device)
    found = compare(model, members, twins, stage.share, stage.seed)
    write_json(out.path / "membership.json", {name: asdict(one) for name, one in found.items()})
    for name, one in found.items():
        out.results |= {f"auc.{name}": one.auc, f"auc.{name}.low": one.low, f"auc.{name}.high": one.high}
        out.results[f"p.{name}"] = one.p_value


def _some(documents: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return ((name, text) for name, text in documents if text.strip())
