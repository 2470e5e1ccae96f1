"""`report.md` and `report.html` of an evaluation of tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luhuo.core.atomic import write_text
from luhuo.core.language import language, tr
from luhuo.core.pages import templates
from luhuo.evaluation.task_report import table

SAMPLES = 100
"""Items of each task in the page; all of them are in the folder `tasks`."""
LONGEST = 4000
"""Characters of a text in the page."""
RADIUS = 150.0


def write_reports(folder: Path, scores: Mapping[str, Any]) -> None:
    """Write both reports beside the scores, in the user's language. Text of models and data is escaped."""
    write_text(folder / "report.md", table.markdown(scores))
    environment = templates("luhuo.evaluation.task_report")
    page = environment.get_template("report.html.jinja").render(
        tr=tr,
        language="zh-CN" if language() == "zh" else "en",
        version=version("luhuo"),
        scores=scores,
        header=table.header(),
        rows=list(table.rows(scores)),
        radar=radar(scores),
        heat=heat(scores),
        samples=embedded({name: list(samples(folder, name)) for name in scores["tasks"]}),
    )
    write_text(folder / "report.html", page)


def samples(folder: Path, task: str) -> Iterator[dict[str, Any]]:
    """Items spread evenly over a task, with texts cut to a length that a page can hold."""
    path = folder / "tasks" / f"{task}.jsonl"
    with path.open(encoding="utf-8") as handle:
        count = sum(1 for _ in handle)
    step = max(1, math.ceil(count / SAMPLES))
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle):
            if number % step == 0:
                yield {key: _cut(value) for key, value in json.loads(line).items()}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"…{value[-LONGEST:]}"
    if isinstance(value, list):
        return [_cut(one) for one in value]
    if isinstance(value, dict):
        return {key: _cut(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def embedded(value: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def radar(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """Points of a radar of the tasks whose headline is a share; from chance (the centre) to 1. None below three."""
    shares = []
    for name, task in scores["tasks"].items():
        score = task["metrics"].get(task["headline"])
        if score is not None and score.get("chance") is not None and 0 <= score["value"] <= 1:
            above = max(0.0, (score["value"] - score["chance"]) / max(1e-9, 1 - score["chance"]))
            shares.append((name, above, score["value"]))
    if len(shares) < 3:
        return None
    axes = []
    for number, (name, above, value) in enumerate(shares):
        angle = 2 * math.pi * number / len(shares) - math.pi / 2
        across, down = math.cos(angle), math.sin(angle)
        axes.append(
            {
                "name": name,
                "value": value,
                "end": (RADIUS * across, RADIUS * down),
                "label": ((RADIUS + 14) * across, (RADIUS + 14) * down),
                "anchor": "middle" if abs(across) < 0.3 else "start" if across > 0 else "end",
                "point": (RADIUS * above * across, RADIUS * above * down),
            }
        )
    return {"axes": axes, "points": " ".join(f"{a['point'][0]:.1f},{a['point'][1]:.1f}" for a in axes)}


def heat(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each task with subjects: their headline with n and interval, best first, and a hue from red to green."""
    found = []
    for name, task in scores["tasks"].items():
        for kind in ("subjects", "groups", "languages"):
            if kind not in task or task["headline"] not in task["metrics"]:
                continue
            cells = []
            for part, entry in task[kind].items():
                score = entry["metrics"].get(task["headline"])
                if score is None:
                    continue
                chance = score["chance"] or 0.0
                above = max(0.0, min(1.0, (score["value"] - chance) / max(1e-9, 1 - chance)))
                cells.append({"name": part, "n": entry["n"], "score": score, "hue": round(120 * above)})
            found.append({"task": name, "kind": kind, "cells": sorted(cells, key=lambda c: -c["score"]["value"])})
    return found
