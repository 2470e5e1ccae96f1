"""A ranking project: one SQLite file with prompts, answers and what people judged.

A judgement is complete or absent: the page can be closed at any time, and goes on where it stood.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.rank.database import Base

Verdict = Literal["ranked", "bad", "skipped"]
"""ranked: `ranks` says how; bad: all answers are bad; skipped: cannot be judged."""

NewItem = tuple[Sequence[Mapping[str, str]], Sequence[tuple[str, str]], Mapping[str, Any]]
"""Messages of a prompt, (text, model) of its answers, and what else is known of it."""


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt. `model` is who wrote it, hidden from those who judge."""

    id: int
    text: str
    model: str


@dataclass(frozen=True)
class Item:
    """A prompt with its answers."""

    id: int
    prompt: list[dict[str, str]]
    """Messages, the user's turn last."""
    answers: tuple[Answer, ...]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Judgement:
    """What one person said of one item."""

    item: int
    annotator: str
    verdict: Verdict
    ranks: Mapping[int, int]
    """Answer id to rank, 1 the best; equal ranks are ties. Empty unless `verdict` is "ranked"."""
    comment: str = ""
    seconds: float = 0.0
    at: float = 0.0


class Store(Base):
    """The file of a project."""

    application = 0x4C48_524B
    kind = ("ranking project", "排序项目")
    made_by = "luhuo rank new PROJECT.db --answers FILE"
    schema = """
CREATE TABLE item (id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, meta TEXT NOT NULL);
CREATE TABLE answer (
  id INTEGER PRIMARY KEY, item INTEGER NOT NULL REFERENCES item, text TEXT NOT NULL, model TEXT NOT NULL,
  UNIQUE (item, text)
);
CREATE TABLE judgement (
  item INTEGER NOT NULL REFERENCES item, annotator TEXT NOT NULL, verdict TEXT NOT NULL, ranks TEXT NOT NULL,
  comment TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL, PRIMARY KEY (item, annotator)
);
CREATE INDEX answers_of ON answer (item);
"""

    def add(
        self, items: Iterable[tuple[Sequence[Mapping[str, str]], Sequence[tuple[str, str]], Mapping[str, Any]]]
    ) -> int:
        """Add (prompt, [(text, model)], meta) of new items, all or none; returns how many."""
        count = 0
        with self.writing():
            for prompt, answers, meta in items:
                values = (json.dumps(list(prompt), ensure_ascii=False), json.dumps(dict(meta), ensure_ascii=False))
                number = self._base.execute("INSERT INTO item (prompt, meta) VALUES (?, ?)", values).lastrowid
                rows = [(number, text, model) for text, model in answers]
                self._base.executemany("INSERT INTO answer (item, text, model) VALUES (?, ?, ?)", rows)
                count += 1
        return count

    def judge(self, judgement: Judgement) -> None:
        """Keep a judgement, in the place of an earlier one of the same person. Raises `LuhuoError` if it does not fit
        the item."""
        item = self.item(judgement.item)
        known = {answer.id for answer in item.answers}
        fits = set(judgement.ranks) == (known if judgement.verdict == "ranked" else set())
        if not fits or not judgement.annotator.strip() or any(rank < 1 for rank in judgement.ranks.values()):
            raise LuhuoError(
                tr("The judgement does not fit the item.", "评判与题目不符。"),
                expected=tr("a rank from 1 on for each answer", "每个回答一个从 1 起的名次"),
                found=str(dict(judgement.ranks))[:200],
            )
        ranks = json.dumps({str(number): rank for number, rank in _dense(judgement.ranks).items()})
        values = (judgement.item, judgement.annotator, judgement.verdict, ranks, judgement.comment)
        with self.writing():
            self._base.execute(
                "INSERT OR REPLACE INTO judgement VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, judgement.seconds, judgement.at or time.time()),
            )

    def forget(self, item: int, annotator: str) -> bool:
        """Take a judgement back; whether there was one."""
        with self.writing():
            deleted = self._base.execute("DELETE FROM judgement WHERE item = ? AND annotator = ?", (item, annotator))
            return deleted.rowcount > 0

    def item(self, number: int) -> Item:
        """One item. Raises `LuhuoError` if there is none of this number."""
        found = self._base.execute("SELECT prompt, meta FROM item WHERE id = ?", (number,)).fetchone()
        if found is None:
            raise LuhuoError(tr("There is no such item.", "没有这道题。"), found=number, where=self.path)
        rows = self._base.execute("SELECT id, text, model FROM answer WHERE item = ? ORDER BY id", (number,))
        return Item(number, json.loads(found[0]), tuple(Answer(*row) for row in rows), json.loads(found[1]))

    def items(self) -> Iterator[Item]:
        """All items in order, one at a time."""
        for number in self.numbers():
            yield self.item(number)

    def numbers(self) -> list[int]:
        """Numbers of all items, in order."""
        return [row[0] for row in self._base.execute("SELECT id FROM item ORDER BY id")]

    def judgements(self, annotator: str | None = None) -> list[Judgement]:
        """All judgements, or one person's, by item and name."""
        query = "SELECT item, annotator, verdict, ranks, comment, seconds, at FROM judgement"
        given: tuple[str, ...] = ()
        if annotator is not None:
            query, given = f"{query} WHERE annotator = ?", (annotator,)
        rows = self._base.execute(f"{query} ORDER BY item, annotator", given)
        return [
            Judgement(item, who, verdict, {int(n): r for n, r in json.loads(ranks).items()}, *rest)
            for item, who, verdict, ranks, *rest in rows
        ]

    def judgement(self, item: int, annotator: str) -> Judgement | None:
        """What a person said of an item, if anything."""
        return next((one for one in self.judgements(annotator) if one.item == item), None)

    def counts(self) -> dict[int, int]:
        """How many people have judged each item; items nobody has are not in it."""
        return dict(self._base.execute("SELECT item, COUNT(*) FROM judgement GROUP BY item"))


def _dense(ranks: Mapping[int, int]) -> dict[int, int]:
    """The same order with ranks 1, 2, … without gaps."""
    place = {rank: number for number, rank in enumerate(sorted(set(ranks.values())), 1)}
    return {number: place[rank] for number, rank in ranks.items()}
