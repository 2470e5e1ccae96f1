"""Evaluations of tasks side by side: paired differences on the same items, and why two results may differ.

The first evaluation is the one that the others are compared with. A difference is taken over items that both have; it
comes with its interval, a two-sided p-value, and the smallest difference that so many items would show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.evaluation.benchmark import read_rows, read_scores
from luhuo.evaluation.metrics.significance import minimum_detectable
from luhuo.verify.statistics import paired_difference

LEVEL = 0.05
REASONS = {
    "version": ("another version of the task", "任务版本不同"),
    "definition": ("another definition of the task", "任务定义不同"),
    "split": ("another split", "划分不同"),
    "data": ("other items, or the same ids with other content", "题目不同，或编号相同而内容不同"),
    "examples": ("other examples", "示例不同"),
    "shots": ("another number of examples", "示例数不同"),
    "limit": ("another number of items", "题数不同"),
    "seed": ("another seed", "种子不同"),
    "mode": ("plain text against chat template", "纯文本与对话模板之别"),
    "shots_as": ("examples as text against as turns", "示例的放置方式不同"),
    "system": ("another system message", "系统消息不同"),
    "generation": ("other settings of generation", "生成设置不同"),
    "context": ("another context length", "上下文长度不同"),
    "dtype": ("another number format", "数值格式不同"),
    "device": ("another device", "设备不同"),
    "tokenizer": ("another tokenizer", "分词器不同"),
    "template": ("another chat template", "对话模板不同"),
    "versions": ("other versions of the software", "软件版本不同"),
}
"""What of a recipe can move a score, and how it is said; in the order in which it is worth looking."""


def compare(folders: Sequence[str | Path], seed: int = 0) -> dict[str, Any]:
    """{"runs": names, "tasks": {task: {"metric", "values", "differences", "reasons"}}} of two or more evaluations.

    Raises `LuhuoError` if one is no evaluation of tasks, or they share no task.
    """
    if len(folders) < 2:
        raise LuhuoError(tr("Comparing takes two evaluations.", "比较需要两个评测。"), expected="DIR DIR …")
    runs = [read_scores(folder) for folder in folders]
    names = _labels(folders)
    shared = [task for task in runs[0]["tasks"] if any(task in run["tasks"] for run in runs[1:])]
    if not shared:
        raise LuhuoError(
            tr("The evaluations share no task.", "这些评测没有共同的任务。"),
            found="; ".join(f"{name}: {', '.join(run['tasks'])}" for name, run in zip(names, runs, strict=True)),
        )
    tasks = {task: _compared(task, folders, runs, names, seed) for task in shared}
    return {"runs": names, "models": [run["model"] for run in runs], "tasks": tasks}


def _labels(folders: Sequence[str | Path]) -> list[str]:
    """The folders' names, with as much of their paths as tells them apart."""
    parts = [Path(folder).absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(one[-count:]) for one in parts]
        if len(set(found)) == len(found):
            return found
    return [f"{'/'.join(one[-1:])} ({number})" for number, one in enumerate(parts, 1)]


def _compared(
    task: str, folders: Sequence[str | Path], runs: Sequence[Mapping[str, Any]], names: Sequence[str], seed: int
) -> dict[str, Any]:
    first = runs[0]["tasks"][task]
    metric = first["headline"]
    found: dict[str, Any] = {"metric": metric, "values": {}, "differences": {}, "reasons": {}}
    found["lower_is_better"] = metric in first["lower_is_better"]
    mine = _values(folders[0], task, metric)
    for folder, run, name in zip(folders, runs, names, strict=True):
        if task not in run["tasks"]:
            continue
        other = run["tasks"][task]
        found["values"][name] = other["metrics"].get(metric)
        if run is not runs[0]:
            theirs = _values(folder, task, metric)
            found["differences"][name] = _difference(mine, theirs, derive_seed(seed, task, metric))
            found["reasons"][name] = why(first, other, mine, theirs)
    return found


def _values(folder: str | Path, task: str, metric: str) -> dict[str, float]:
    """What each item adds to the metric; of perplexities its log-likelihood by unit."""
    values = {}
    for row in read_rows(folder, task):
        if metric in row["scores"]:
            values[row["id"]] = row["scores"][metric]
        elif "logprob" in row["scores"]:
            units = row.get("bytes", 1) if metric != "word_perplexity" else row.get("words", 1)
            values[row["id"]] = -row["scores"]["logprob"] / units
    return values


def _difference(mine: Mapping[str, float], theirs: Mapping[str, float], seed: int) -> dict[str, Any] | None:
    """theirs - mine over shared items. None where there are none."""
    shared = sorted(mine.keys() & theirs.keys())
    if not shared:
        return None
    a, b = [mine[key] for key in shared], [theirs[key] for key in shared]
    paired = paired_difference(a, b, seed)
    return {
        "difference": paired.difference,
        "low": paired.low,
        "high": paired.high,
        "p_value": paired.p_value,
        "n": paired.n,
        "only_in_one": len(mine.keys() ^ theirs.keys()),
        "detectable": minimum_detectable([y - x for x, y in zip(a, b, strict=True)]) if len(a) > 1 else None,
    }


def why(
    first: Mapping[str, Any], other: Mapping[str, Any], mine: Mapping[str, float], theirs: Mapping[str, float]
) -> list[str]:
    """What of two recipes differs, what was counted apart, and how many items moved, one line each."""
    one, two = first["recipe"], other["recipe"]
    lines = []
    for key, (en, zh) in REASONS.items():
        if one.get(key) != two.get(key):
            lines.append(f"{tr(en, zh)} ({key}): {_short(one.get(key))} → {_short(two.get(key))}")
    if one.get("first_prompt") != two.get("first_prompt"):
        lines.append(_prompts_differ(one.get("first_prompt"), two.get("first_prompt")))
    for flag, count in first["flags"].items():
        if count != other["flags"].get(flag):
            lines.append(f"{flag}: {count} → {other['flags'].get(flag)} ({tr('items', '题')})")
    shared = mine.keys() & theirs.keys()
    if len(shared) < max(len(mine), len(theirs)):
        lines.append(tr(f"only {len(shared)} items are in both", f"只有 {len(shared)} 题两边都有"))
    moved = [key for key in shared if not math.isclose(mine[key], theirs[key], abs_tol=1e-12)]
    better = sum(theirs[key] > mine[key] for key in moved)
    lines.append(
        tr(
            f"{len(moved)} of {len(shared)} items moved: {better} up, {len(moved) - better} down",
            f"{len(shared)} 题中 {len(moved)} 题有变化：{better} 题升，{len(moved) - better} 题降",
        )
    )
    return lines


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:24]}…"


def _prompts_differ(one: Any, two: Any) -> str:
    """Where two first prompts part."""
    a, b = str(one), str(two)
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    place = tr(f"the first prompt differs from character {at} on", f"第一个提示从第 {at} 个字符起不同")
    return f"{place}: {a[max(0, at - 20) : at + 30]!r} → {b[max(0, at - 20) : at + 30]!r}"


def markdown(found: Mapping[str, Any]) -> str:
    """A table of the values, differences with interval and p, and the reasons below it."""
    names = found["runs"]
    head = [tr("task", "任务"), tr("metric", "指标"), names[0]]
    for name in names[1:]:
        head += [name, tr("difference (95% interval), p", "差异（95% 区间），p")]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for task, entry in found["tasks"].items():
        cells = [task, entry["metric"], _value(entry["values"].get(names[0]))]
        for name in names[1:]:
            cells += [_value(entry["values"].get(name)), _said(entry["differences"].get(name))]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        tr(
            "Values are shares in per cent or as they are; ✓ marks p < 0.05; MDE is the smallest difference "
            "that these items would show four times out of five.",
            "数值为百分数或原值；✓ 表示 p < 0.05；MDE 为这些题目有八成把握检出的最小差异。",
        ),
        "",
    ]
    for task, entry in found["tasks"].items():
        for name, reasons in entry["reasons"].items():
            lines += [f"**{task}**: {names[0]} → {name}", *(f"- {reason}" for reason in reasons), ""]
    return "\n".join(lines)


def _value(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "–"
    scale = 100 if score.get("chance") is not None and abs(score["value"]) <= 1 else 1
    error = "" if score.get("stderr") is None else f" ± {scale * score['stderr']:.2f}"
    return f"{scale * score['value']:.2f}{error}"


def _said(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "–"
    scale = 100 if abs(difference["difference"]) <= 1 else 1
    mark = " ✓" if difference["p_value"] < LEVEL else ""
    small = "" if difference["detectable"] is None else f", MDE {scale * difference['detectable']:.2f}"
    low, high = scale * difference["low"], scale * difference["high"]
    middle = scale * difference["difference"]
    return f"{middle:+.2f} ({low:+.2f} … {high:+.2f}), p = {difference['p_value']:.3f}{mark}{small}"
