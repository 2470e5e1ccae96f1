"""Readers of preference data, in TRL's vocabulary: pairs of answers, single answers with a verdict, labelled steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from luhuo.core.language import tr
from luhuo.dialogue.judged import Judged, Preference, Stepwise, Unpaired
from luhuo.dialogue.preference_layouts import JUDGED, PREFERENCES, STEPWISE, UNPAIRED
from luhuo.dialogue.rows import Found, Reject, read_layout

__all__ = [
    "Judged",
    "Preference",
    "Stepwise",
    "Unpaired",
    "read_judged",
    "read_preferences",
    "read_stepwise",
    "read_unpaired",
]


def read_preferences(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Preference]]:
    """The layout's name and the pairs of a jsonl, json, csv or parquet file (also .gz, .zst), as a stream.

    A row that is no pair, or whose two answers are equal, goes to `reject`; without it, the first such row raises
    `LuhuoError`, as does a file without a row of a known layout.
    """
    hint = tr(
        "Single answers with a label are for KTO or pointwise rewards; they are no pairs.",
        "带标签的单个回答用于 KTO 或逐点奖励，不是成对数据。",
    )
    name, found = read_layout(path, PREFERENCES, tr("preference pair", "偏好对"), reject, hint)
    return name, (one.value for one in found)


def read_unpaired(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Unpaired]]:
    """Like `read_preferences`, for single answers with a verdict. Of a file of pairs, each row gives two."""
    name, found = read_layout(path, UNPAIRED, tr("judged answer", "带评判的回答"), reject)
    return name, (one for row in found for one in row.value)


def read_stepwise(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Stepwise]]:
    """Like `read_preferences`, for answers in steps with a label each."""
    name, found = read_layout(path, STEPWISE, tr("labelled solution", "带标签的步骤"), reject)
    return name, (one.value for one in found)


def read_judged(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Found[Judged]]]:
    """Like `read_preferences`, for judgements of any kind (rankings and scores too), each with its line."""
    return read_layout(path, JUDGED, tr("judgement", "评判"), reject)
