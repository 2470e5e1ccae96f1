"""Training text mixed from sources and languages in stated shares, phase by phase: the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import model_validator

from luhuo.core.config import Config, field, unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Group = tuple[str, str]
"""Source and language."""
LANGUAGE = "lang:"
"""Before a language in weights: its text of all sources."""


class Phase(Config):
    """A part of the run with shares of its own: a step of a curriculum, the annealing at the end."""

    until: float = field(1.0, "Where it ends, as a share of the run.", "结束位置，占整个训练的比例。", gt=0, le=1)
    weights: dict[str, float] = field(
        {},
        "Shares of tokens by source, source/language or lang:language; what is not named is left out. None: by size.",
        "各来源、来源/语言或 lang:语言 的词元份额；未列出者不用。留空：按大小。",
    )

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if any(weight < 0 for weight in self.weights.values()) or (self.weights and not sum(self.weights.values())):
            raise ValueError("weights are positive numbers")
        return self


class Mixture(Config):
    """How training text is mixed."""

    phases: list[Phase] = field([Phase()], "One after another.", "按先后排列的阶段。", min_length=1)
    temperature: float = field(
        1.0,
        "Sources of one weight share it by size to the power 1/temperature: 1 by size, large evenly.",
        "同一权重下的各来源按大小的 1/temperature 次方分配：1 为按大小，越大越平均。",
        gt=0,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError("phases end one after another, the last at 1")
        return self


def shares(phase: Phase, tokens: Mapping[Group, int], temperature: float = 1.0) -> dict[Group, float]:
    """The share of each group in a phase; they sum to 1. Raises `LuhuoError` for a name that fits no group."""
    held = {group: float(count) ** (1 / temperature) for group, count in tokens.items() if count > 1}
    if not phase.weights:
        return {group: size / sum(held.values()) for group, size in held.items()}
    found: dict[Group, float] = {}
    total = sum(phase.weights.values())
    for name, weight in phase.weights.items():
        groups = [group for group in held if _fits(name, group)]
        if not groups:
            known = sorted({source for source, _ in held} | {f"{LANGUAGE}{lang}" for _, lang in held})
            raise unknown_key(name, known, "mixture.weights", tr("source", "来源"))
        if twice := [group for group in groups if group in found]:
            raise LuhuoError(
                tr("Two weights name the same text.", "两个权重指向同一部分文本。"),
                found="/".join(twice[0]),
                where=f"mixture.weights.{name}",
            )
        size = sum(held[group] for group in groups)
        found |= {group: weight / total * held[group] / size for group in groups}
    return {group: share for group, share in found.items() if share > 0}


def _fits(name: str, group: Group) -> bool:
    source, lang = group
    return name in (source, f"{source}/{lang}", f"{LANGUAGE}{lang}")


def schedule(weights: Sequence[float], rows: int) -> np.ndarray:
    """Which group each of `rows` rows is of: whole numbers nearest to the shares, each evenly spaced. (rows,) int16"""
    exact = np.asarray(weights, np.float64) / np.sum(weights) * rows
    counts = np.floor(exact).astype(np.int64)
    for group in np.argsort(-(exact - counts), kind="stable")[: rows - counts.sum()]:
        counts[group] += 1
    places = [(np.arange(count) + 0.5) / count for count in counts if count]
    groups = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
    return groups[np.argsort(np.concatenate(places), kind="stable")] if places else groups
