"""GAOKAO-Bench's objective questions: several blanks an item, points a blank, half of them for half an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from luhuo.evaluation.metrics.significance import pooled_share
from luhuo.evaluation.tasks.folders import document_of, first_of, unreadable
from luhuo.verify.answers import split_reasoning

MARKER = "【答案】"
_LETTERS = re.compile(r"(?<![A-Za-z])[A-G](?:[\s,，、和]*[A-G])*(?![A-Za-z])")
_LETTER = re.compile(r"(?<![A-Za-z])[A-G](?![A-Za-z])")
_ANNOUNCED = re.compile(r"(?:答案|故选|应选|选择?)\s*[:：是为]?\s*")


def rows(folder: Path | None, split: str, seed: int) -> Iterator[dict[str, Any]]:
    """The questions of all files; the file's name is the subject."""
    for file in first_of(folder, ("Data/Objective_Questions/*.json*", "*_*.json*")):
        content, subject = document_of(file), file.name.partition(".")[0]
        if not isinstance(content, dict) or not isinstance(content.get("example"), list):
            raise unreadable(str(file), type(content).__name__)
        for number, row in enumerate(content["example"]):
            yield {**row, "id": f"{subject}/{row.get('index', number)}", "subject": subject}


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """`request` says what is to be written."""
    several = len(row["answer"]) > 1
    blank = "依次写出每一小题答案的字母，用空格隔开" if several else "写出正确答案的字母"
    more = "，若有多个正确选项请全部写出" if any(len(one) > 1 for one in row["answer"]) else ""
    return row | {"request": f"请做下面的高考题，在{MARKER}之后{blank}{more}。"}


def reference(document: dict[str, Any]) -> str:
    """The letters, blank by blank."""
    return " ".join(document["answer"])


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """`points`: the share of the item's points; `exact`: that of its blanks."""
    wanted = document["answer"]
    found = answers(outputs[0], len(wanted), multiple=any(len(one) > 1 for one in wanted))
    if found is None:
        return {"points": None, "exact": None}
    marks = [_points(one, other) for one, other in zip(found, wanted, strict=True)]
    return {"points": sum(marks) / len(marks), "exact": sum(mark == 1 for mark in marks) / len(marks)}


def corpus(documents: Sequence[dict[str, Any]], outputs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """`rate`: points reached of all points, as the examination counts."""
    worth = [float(document["score"]) * len(document["answer"]) for document in documents]
    pairs = zip(documents, outputs, strict=True)
    reached = [score(document, replies)["points"] or 0.0 for document, replies in pairs]
    return {"rate": pooled_share([a * b for a, b in zip(worth, reached, strict=True)], worth, seed=0)}


def answers(reply: str, count: int, *, multiple: bool = False) -> list[str] | None:
    """The letters of each blank: behind the last marker or announcement, else at the reply's beginning; None where
    there are fewer than blanks. `multiple`: one blank may hold several letters."""
    said = split_reasoning(reply)[1]
    places = [match.end() for match in _ANNOUNCED.finditer(said)] if MARKER not in said else []
    said = said.rpartition(MARKER)[2] if MARKER in said else said[places[-1] :] if places else said
    if multiple and count == 1:
        match = _LETTERS.search(said)
        return None if match is None else ["".join(sorted(set(re.findall(r"[A-G]", match[0]))))]
    run = re.search(rf"(?<![A-Za-z])[A-G]{{{count}}}(?![A-Za-z])", said) if count > 1 else None
    letters = list(run[0]) if run else _LETTER.findall(said)
    return letters[:count] if len(letters) >= count else None


def _points(found: str, wanted: str) -> float:
    if found == wanted:
        return 1.0
    return 0.5 if len(wanted) > 1 and set(found) < set(wanted) else 0.0
