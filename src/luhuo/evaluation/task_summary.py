"""From the rows of a task to its scores: each with n, standard error, 95% interval and chance, and by subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from luhuo.core.seeds import derive_seed
from luhuo.evaluation.item_scores import FLAGS, Row
from luhuo.evaluation.metrics.calibration import Calibration, calibration, chosen_probability
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.verify.statistics import bootstrap_macro, bootstrap_mean, near_chance, wilson

Score = dict[str, Any]
RESAMPLES = 1000


def summarise(task: Task, rows: Sequence[Row], seed: int, corpus: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{"n", "metrics": {name: score}, "flags": {name: count}, "subjects", "groups", "languages"} of a task's rows.

    A score is {"value", "stderr", "low", "high", "chance", "n"}. The value of a task is the mean over its items
    (micro); with several subjects `macro` is the mean of the subjects' means. `corpus` are scores of the whole set.
    Of choices also "calibration": the expected error of the model's confidence, with its bins.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["scores"] if name != "logprob"))
    metrics = {name: mean_score(_values(rows, name), _chance(rows, name), derive_seed(seed, name)) for name in names}
    if task.spec.kind in ("text", "continuation"):
        metrics |= perplexities(rows, seed, text=task.spec.kind == "text")
    metrics |= {name: value if isinstance(value, dict) else {"value": value} for name, value in (corpus or {}).items()}
    known = _calibrated(rows) if task.spec.kind == "choice" else None
    if known is not None:
        metrics["ece"] = {"value": known.ece, "n": len(rows), "chance": None, "stderr": None}
    found: dict[str, Any] = {
        "n": len(rows),
        "headline": task.spec.metrics[0],
        "metrics": metrics,
        "flags": {flag: sum(bool(row["flags"].get(flag)) for row in rows) for flag in FLAGS},
        "shots": _shots(rows),
    }
    for key, plural in (("subject", "subjects"), ("group", "groups"), ("lang", "languages")):
        parts = sorted({row[key] for row in rows if row[key]})
        if len(parts) > 1:
            found[plural] = {p: _part([row for row in rows if row[key] == p], names, seed, p) for p in parts}
    if known is not None:
        found["calibration"] = asdict(known)
    if "subjects" in found:
        for name in names:
            by = [_values([r for r in rows if r["subject"] == part], name) for part in found["subjects"]]
            macro = bootstrap_macro(by, derive_seed(seed, name, "macro"), resamples=RESAMPLES)
            spread = min(map(len, by)) > 1 and macro.low < macro.high  # of one item a subject, none can be drawn
            ends = {"low": macro.low, "high": macro.high} if spread else {"low": None, "high": None}
            metrics[name]["macro"] = {"value": macro.mean, **ends}
    return found


def _calibrated(rows: Sequence[Row]) -> Calibration:
    """How sure the model is of the choice it finds likeliest, and how often that is right."""
    sure = [chosen_probability(row["logprobs"]) for row in rows]
    return calibration(sure, [row["right"][row["picked"]] for row in rows])


def mean_score(values: Sequence[float], chance: float | None, seed: int) -> Score:
    """The mean with its standard error (sd / √n) and interval: Wilson's for right or wrong, else a bootstrap."""
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan
    score: Score = {"value": mean, "stderr": spread / math.sqrt(n) if n > 1 else None, "chance": chance, "n": n}
    if set(values) <= {0.0, 1.0}:
        score["low"], score["high"] = wilson(int(sum(values)), n)
        score["near_chance"] = chance is not None and near_chance(int(sum(values)), n, chance)
        return score
    estimate = bootstrap_mean(values, seed, resamples=RESAMPLES)
    low = estimate.low if n > 1 else None
    return score | {
        "low": low,
        "high": estimate.high if n > 1 else None,
        "near_chance": bool(chance and low is not None and low <= chance),
    }


def perplexities(rows: Sequence[Row], seed: int, *, text: bool) -> dict[str, Score]:
    """Of continuations their `perplexity` exp(-mean log p); of texts those by word and byte, and bits per byte.

    Intervals are bootstrapped over items, their counts with them.
    """
    totals = np.array([row["scores"]["logprob"] for row in rows])
    if not text:
        return {"perplexity": _ratio(totals, np.ones(len(rows)), lambda x: math.exp(min(-x, 700.0)), seed)}
    words, size, tokens = (np.array([row[key] for row in rows], dtype=float) for key in ("words", "bytes", "tokens"))
    return {
        "word_perplexity": _ratio(totals, words, lambda x: math.exp(min(-x, 700.0)), seed),
        "byte_perplexity": _ratio(totals, size, lambda x: math.exp(-x), seed),
        "bits_per_byte": _ratio(totals, size, lambda x: -x / math.log(2), seed),
        "token_perplexity": _ratio(totals, tokens, lambda x: math.exp(min(-x, 700.0)), seed),
    }


def _ratio(totals: np.ndarray, counts: np.ndarray, of: Callable[[float], float], seed: int) -> Score:
    value = of(float(totals.sum() / counts.sum()))
    score: Score = {"value": value, "n": len(totals), "chance": None, "stderr": None, "low": None, "high": None}
    if len(totals) < 2:
        return score
    random = np.random.default_rng(derive_seed(seed, "perplexity"))
    drawn = []
    for _ in range(RESAMPLES):
        index = random.integers(0, len(totals), len(totals))
        drawn.append(of(float(totals[index].sum() / counts[index].sum())))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return score | {"stderr": float(np.std(drawn, ddof=1)), "low": float(low), "high": float(high)}


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row["scores"].get(name, 0.0)) for row in rows]


def _chance(rows: Sequence[Row], name: str) -> float | None:
    """Of guessing, the mean over items; of a choice it is the share of right choices."""
    known = [row["chance"] for row in rows if row["chance"] is not None]
    return math.fsum(known) / len(known) if known else None


def _part(rows: Sequence[Row], names: Sequence[str], seed: int, part: str) -> dict[str, Any]:
    scores = {n: mean_score(_values(rows, n), _chance(rows, n), derive_seed(seed, n, part)) for n in names}
    return {"n": len(rows), "metrics": scores}


def _shots(rows: Sequence[Row]) -> dict[str, int]:
    """The most examples in front of an item, and how many items have fewer."""
    most = max(row["shots"] for row in rows)
    return {"count": most, "items_with_fewer": sum(row["shots"] < most for row in rows)}


def grouped(tasks: Mapping[str, Mapping[str, Any]], members: Sequence[str]) -> dict[str, Any] | None:
    """A group's headline: `micro` weighs items equally, `macro` tasks. None unless all its tasks have a score."""
    there = [tasks[name] for name in members if name in tasks]
    if len(there) < len(members) or not there:
        return None
    scores = [(one["n"], one["metrics"][one["headline"]]) for one in there]
    n = sum(count for count, _ in scores)
    return {
        "tasks": list(members),
        "n": n,
        "micro": {"value": sum(c * s["value"] for c, s in scores) / n, "stderr": _pooled(scores)},
        "macro": {"value": sum(s["value"] for _, s in scores) / len(scores), "stderr": _averaged(scores)},
    }


def _pooled(scores: Sequence[tuple[int, Score]]) -> float | None:
    """Standard error of the mean over all items of independent sets."""
    if any(score.get("stderr") is None for _, score in scores):
        return None
    n = sum(count for count, _ in scores)
    return math.sqrt(sum((count * score["stderr"]) ** 2 for count, score in scores)) / n


def _averaged(scores: Sequence[tuple[int, Score]]) -> float | None:
    if any(score.get("stderr") is None for _, score in scores):
        return None
    return math.sqrt(sum(score["stderr"] ** 2 for _, score in scores)) / len(scores)
