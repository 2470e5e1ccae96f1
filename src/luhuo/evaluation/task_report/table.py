"""The scores of an evaluation as rows of a table, for the terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from luhuo.core.language import tr
from luhuo.evaluation.item_scores import FLAGS

Cells = list[str]


def header() -> Cells:
    """Names of the columns."""
    flags = {
        "unparsed": tr("unparsed", "未解析"),
        "truncated": tr("truncated", "截断"),
        "refused": tr("refused", "拒答"),
        "timed_out": tr("timed out", "超时"),
    }
    return [
        tr("task", "任务"),
        tr("version", "版本"),
        tr("shots", "示例"),
        tr("metric", "指标"),
        tr("value", "数值"),
        "±",
        tr("95% interval", "95% 区间"),
        tr("chance", "随机"),
        "n",
        *(flags[flag] for flag in FLAGS),
    ]


def rows(scores: Mapping[str, Any]) -> Iterator[Cells]:
    """A row for each task and metric that it shows, and two for each group: micro weighs items, macro tasks."""
    for name, task in scores["tasks"].items():
        shown = [metric for metric in task["metrics_shown"] if metric in task["metrics"]]
        shown += [m for m in task["metrics"] if m not in shown and m == "acc_mutual_info"]
        for number, metric in enumerate(shown):
            score = task["metrics"][metric]
            first = [name, str(task["version"]), str(task["shots"]["count"])] if not number else ["", "", ""]
            counts = [str(task["flags"][flag]) for flag in FLAGS] if not number else [""] * len(FLAGS)
            yield [*first, metric, *numbers(score, metric), str(task["n"]) if not number else "", *counts]
            if "macro" in score and not number:
                macro = {**score["macro"], "stderr": None, "chance": score["chance"]}
                label = tr("mean of subjects", "学科平均")
                yield ["", "", "", f"{metric} ({label})", *numbers(macro, metric), "", *[""] * len(FLAGS)]
    for name, group in scores["groups"].items():
        for kind, label in (
            ("micro", tr("micro: items equal", "微平均：题目等权")),
            ("macro", tr("macro: tasks equal", "宏平均：任务等权")),
        ):
            first = name if kind == "micro" else ""
            n = str(group["n"]) if kind == "micro" else ""
            yield [first, "", "", label, *numbers(group[kind], "acc"), n, *[""] * len(FLAGS)]


def short(scores: Mapping[str, Any]) -> tuple[Cells, list[Cells]]:
    """Header and rows for a terminal: without version and examples, and without counts that are all zero."""
    head, body = header(), list(rows(scores))
    first_flag = len(head) - len(FLAGS)
    counted = [i for i in range(first_flag, len(head)) if any(row[i] not in ("", "0") for row in body)]
    kept = [0, *range(3, first_flag), *counted]
    return [head[i] for i in kept], [[row[i] for i in kept] for row in body]


def numbers(score: Mapping[str, Any], metric: str) -> Cells:
    """Value, standard error, interval and chance; shares in per cent."""
    scale = 1.0 if "perplexity" in metric or metric == "bits_per_byte" or abs(score["value"]) > 1.5 else 100.0

    def shown(value: float | None, digits: int = 2) -> str:
        return "" if value is None else f"{value * scale:.{digits}f}"

    low, high = score.get("low"), score.get("high")
    interval = "" if low is None or high is None else f"{shown(low, 1)} – {shown(high, 1)}"
    mark = " ≈" if score.get("near_chance") else ""
    digits = 2 if scale == 100 else 4
    return [shown(score["value"], digits) + mark, shown(score.get("stderr")), interval, shown(score.get("chance"), 1)]


def markdown(scores: Mapping[str, Any]) -> str:
    """The table for a model card, with what was asked and how below it."""
    lines = [f"# {tr('Evaluation', '评测')}: {_safe(scores['model'])}", ""] if scores["model"] else []
    head = header()
    lines += ["| " + " | ".join(head) + " |", "|" + "|".join("---" for _ in head) + "|"]
    lines += ["| " + " | ".join(map(_safe, row)) + " |" for row in rows(scores)]
    lines += [
        "",
        tr(
            "Shares in per cent; ± is the standard error; ≈ marks what is not shown to be above chance.",
            "比例以百分数表示；± 为标准误；≈ 表示未显著高于随机水平。",
        ),
        "",
    ]
    for name, task in scores["tasks"].items():
        said = tr(task["summary"]["en"], task["summary"]["zh"])
        recipe = task["recipe"]
        lines.append(
            f"- **{name}** v{task['version']}: {said} {task['source']}. {tr('Data', '数据')}: {task['licence']}. "
            f"{recipe['mode']}, {recipe['dtype']}, seed {recipe['seed']}."
        )
    for name, error in scores["failed"].items():
        lines.append(f"- **{name}**: {tr('failed', '失败')}: {_safe(error)}")
    return "\n".join(lines) + "\n"


def _safe(text: object) -> str:
    """Text of strangers in a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
