"""How good a reward model is on unseen judgements: accuracy, calibration, and what length has to do with it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from luhuo.align.reward_data import META, Comparison, Kind, RewardData, by_length
from luhuo.align.reward_model import AnyRewardModel
from luhuo.verify.statistics import paired_difference, wilson

PASS_TOKENS = {"cpu": 16_384, "cuda": 131_072}
"""Tokens of one forward pass without gradient, by device."""
BINS = 10
"""Bins of confidence from 0.5 to 1 (Guo et al. 2017, section 2)."""
GROUPS = tuple(name for name in META if name != "id")

Scores = list[np.ndarray]
"""For each comparison the scores (fp64) of its texts; of process data those of its steps."""


@torch.no_grad()
def score(model: AnyRewardModel, items: Sequence[Comparison], *, pad_id: int) -> Scores:
    """Scores of all texts, each in a row of its own, similar lengths together."""
    found: dict[int, np.ndarray] = {}
    limit = PASS_TOKENS.get(model.device.type, PASS_TOKENS["cpu"])
    for numbers in by_length(items, limit):
        texts = [ids for number in numbers for ids in items[number].ids]
        shape = (len(texts), max(map(len, texts)))
        ids, segments = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int32)
        for row, text in enumerate(texts):
            ids[row, : len(text)], segments[row, : len(text)] = text, 1
        batch = {
            "ids": torch.from_numpy(ids).to(model.device),
            "segments": torch.from_numpy(segments).to(model.device),
        }
        if any(items[number].steps for number in numbers):
            tokens = model.token_scores(batch).double().cpu().numpy()
            found |= {n: row[list(items[n].steps)] for n, row in zip(numbers, tokens, strict=True)}
            continue
        scores, at = model.scores(batch)[:, 0].double().cpu().numpy(), 0
        for number in numbers:
            found[number] = scores[at : at + len(items[number].ids)]
            at += len(items[number].ids)
    return [found[number] for number in range(len(items))]


def held_out(data: RewardData, *, pad_id: int) -> Callable[[AnyRewardModel], dict[str, float]]:
    """A scorer for the trainer: loss and accuracy on these judgements."""

    def evaluate(model: AnyRewardModel) -> dict[str, float]:
        judged = judge(data.items, data.kind, score(model, data.items, pad_id=pad_id))
        return {f"valid.{name}": float(judged[name]) for name in ("loss", "accuracy", "error") if name in judged}

    return evaluate


def judge(items: Sequence[Comparison], kind: Kind, scores: Scores) -> dict[str, Any]:
    """What `reward.json` holds of one set of judgements.

    Of comparisons: `accuracy` with its 95% interval, in all and by each field the rows say (`by.defect.…`), `loss`
    (nats), `calibration`, `length`. Of labels: `accuracy`, `loss`, `calibration`; of scores `error` (root mean
    square) and `correlation`.
    """
    if kind == "pairwise":
        return _pairwise(items, scores)
    given = np.array([label for item in items for label in item.labels])
    flat = np.concatenate(scores)
    if kind == "regression":
        error = float(np.sqrt(np.mean((flat - given) ** 2)))
        return {"n": len(given), "error": error, "correlation": _correlation(flat, given)} | _length(items, scores)
    right = (flat > 0) == (given > 0.5)
    loss = np.logaddexp(0, flat) - given * flat
    told = _share(right) | {"loss": float(loss.mean()), "calibration": calibration(np.abs(flat), right)}
    if kind == "process":
        # A solution is as good as its worst step (Lightman et al. 2023, appendix F).
        whole = [(mine.min() > 0) == (min(item.labels) > 0.5) for item, mine in zip(items, scores, strict=True)]
        return told | {"solutions": _share(np.array(whole))}
    return told | _length(items, scores)


def leads(items: Sequence[Comparison], scores: Scores) -> np.ndarray:
    """Score of the better minus that of the worse text, for every pair in order."""
    return np.array(
        [mine[a] - mine[b] for item, mine in zip(items, scores, strict=True) for a, b, _ in item.pairs],
        dtype=np.float64,
    )


def _pairwise(items: Sequence[Comparison], scores: Scores) -> dict[str, Any]:
    lead = leads(items, scores)
    right = lead > 0
    told = _share(right) | {"loss": float(np.logaddexp(0, -lead).mean()), "by": {}}
    for name in GROUPS:
        members = defaultdict[str, list[int]](list)
        labels = [item.meta.get(name) for item in items for _ in item.pairs]
        for place, label in enumerate(labels):
            if label is not None:
                members[str(label)].append(place)
        if members:
            told["by"][name] = {label: _share(right[places]) for label, places in sorted(members.items())}
    return told | {"calibration": calibration(np.abs(lead), right)} | _length(items, scores, lead)


def calibration(leads: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Expected calibration error, and for each bin of confidence σ(|lead|) its mean, the share right and the number.

    A lead of nothing is a confidence of one half.
    """
    confidence = 1 / (1 + np.exp(-np.abs(leads)))
    place = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        if inside.any():
            share, sure = float(right[inside].mean()), float(confidence[inside].mean())
            bins.append({"confidence": sure, "accuracy": share, "n": int(inside.sum())})
    error = sum(abs(one["accuracy"] - one["confidence"]) * one["n"] for one in bins) / max(1, len(leads))
    return {"ece": float(error), "bins": bins}


def _length(items: Sequence[Comparison], scores: Scores, lead: np.ndarray | None = None) -> dict[str, Any]:
    """Correlation of scores with the answers' lengths in tokens; of pairs also that of the differences."""
    lengths = np.array([answer for item in items for answer in item.answers], dtype=np.float64)
    told = {"score": _correlation(np.concatenate(scores), lengths)}
    if lead is not None:
        longer = np.array([i.answers[a] - i.answers[b] for i in items for a, b, _ in i.pairs], dtype=np.float64)
        # The better side is put first at random: else a set whose better answers are longer would look like a bias.
        side = np.where(np.arange(len(lead)) % 2 == 0, 1.0, -1.0)
        told["lead"] = _correlation(lead * side, longer * side)
    return {"length": told}


def _correlation(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Pearson's r with its 95% interval (Fisher's z)."""
    if len(a) < 4 or a.std() == 0 or b.std() == 0:
        return {"r": 0.0, "low": -1.0, "high": 1.0}
    r = float(np.corrcoef(a, b)[0, 1])
    z, half = math.atanh(max(-0.999999, min(0.999999, r))), 1.959964 / math.sqrt(len(a) - 3)
    return {"r": r, "low": math.tanh(z - half), "high": math.tanh(z + half)}


def _share(right: np.ndarray) -> dict[str, Any]:
    low, high = wilson(int(right.sum()), len(right))
    return {"accuracy": float(right.mean()), "low": low, "high": high, "n": len(right)}


def against(right: np.ndarray, other: np.ndarray, seed: int) -> dict[str, float]:
    """By how much the model is right more often than another judge on the same pairs, with a 95% interval."""
    found = paired_difference(other.astype(float), right.astype(float), seed)
    return {"difference": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value}
