"""Figures of a compressed model, from the artifacts that measured it and its original."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from luhuo.core.digest import WATCH
from luhuo.evaluation.benchmark import SCORES, read_rows, read_scores
from luhuo.evaluation.compression_stages import MEASURES, SPEED
from luhuo.verify.statistics import bootstrap_macro, paired_difference

Figures = dict[str, Any]
SPEED_FILE = f"{WATCH}/{SPEED}"
"""Times, in an artifact that measured a model."""


def figures_of(measured: Path, base: Path, seed: int = 0) -> Figures:
    """What `compress.report.front` and the page look at, of one measured model; `base` is the original, measured."""
    found = json.loads((measured / MEASURES).read_text(encoding="utf-8"))
    original = json.loads((base / MEASURES).read_text(encoding="utf-8"))
    whole = found["all"]
    figures: Figures = {name: whole[name] for name in ("loss", "kl", "kl_tail", "agreement")}
    figures |= {
        "perplexity": {lang: one["perplexity"] for lang, one in found["languages"].items()},
        "loss_by_language": {lang: one["loss"] for lang, one in found["languages"].items()},
        "size": found["size"]["directory"],
        "size_ratio": found["size"]["directory"] / original["size"]["directory"],
        "read": found["size"]["read"],
        "read_ratio": found["size"]["read"] / original["size"]["read"],
        "computed_in": found["computed_in"],
    }
    return figures | _timed(measured) | _tasks(measured, base, seed)


def _timed(measured: Path) -> Figures:
    """Memory and speed; None what was not measured."""
    names = ("memory", "loading", "decode", "prefill", "decode_ratio", "prefill_ratio", "decode_ratios", "other_work")
    figures: Figures = dict.fromkeys(names)
    path = measured / SPEED_FILE
    timed = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if timed.get("memory"):
        figures |= {"memory": timed["memory"]["writing"], "loading": timed["memory"]["loading"]}
        figures["process"] = timed["memory"]["process"]
    if timed.get("speed"):
        own = timed["speed"]["models"]["model"]
        figures |= {
            "decode": own["decode"],
            "prefill": own["prefill"],
            "decode_ratio": statistics.median(own["decode_ratios"]),
            "prefill_ratio": statistics.median(own["prefill_ratios"]),
            "decode_ratios": [min(own["decode_ratios"]), max(own["decode_ratios"])],
            "other_work": timed["speed"]["beside_other_work"],
            "other_share": timed["speed"]["other_share"],
            "turns": len(own["decode_ratios"]),
        }
    return figures


def _tasks(measured: Path, base: Path, seed: int) -> Figures:
    """Each task's first metric with its interval, and the difference to the original over the same items."""
    if not ((measured / SCORES).is_file() and (base / SCORES).is_file()):
        return {"tasks": {}, "accuracy": None}
    scores, before = read_scores(measured)["tasks"], read_scores(base)["tasks"]
    tasks, differences = dict[str, Any](), []
    for name in (name for name in scores if name in before):
        metric = scores[name]["headline"]
        rows = {row["id"]: row["scores"].get(metric) for row in read_rows(measured, name)}
        others = {row["id"]: row["scores"].get(metric) for row in read_rows(base, name)}
        ids = [i for i in rows if rows[i] is not None and others.get(i) is not None]
        if not ids:
            continue
        pair = paired_difference([others[i] for i in ids], [rows[i] for i in ids], seed)
        sign = -1 if metric in scores[name]["lower_is_better"] else 1
        differences.append([sign * (rows[i] - others[i]) for i in ids])
        score = scores[name]["metrics"][metric]
        tasks[name] = {"metric": metric, **{end: score.get(end) for end in ("value", "low", "high")}, "n": len(ids)}
        tasks[name]["original"] = before[name]["metrics"][metric]["value"]
        tasks[name]["difference"] = {"mean": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p_value}
    if not differences:
        return {"tasks": tasks, "accuracy": None}
    change = bootstrap_macro(differences, seed)
    return {"tasks": tasks, "accuracy": {"mean": change.mean, "low": change.low, "high": change.high}}
