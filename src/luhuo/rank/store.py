"""A ranking project: one SQLite file with prompts, answers and what people judged.

Write-ahead logging lets several people judge while somebody exports. A judgement is complete or absent: the page can
be closed at any time, and goes on where it stood.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

VERSION = 1
APPLICATION = 0x4C48_524B
"""Marks the file as ours (`PRAGMA application_id`)."""
Verdict = Literal["ranked", "bad", "skipped"]
"""ranked: `ranks` says how; bad: all answers are bad; skipped: cannot be judged."""

SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
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


class Store:
    """The file of a project. Every thread opens its own."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise LuhuoError(
                tr("There is no ranking project here.", "这里没有排序项目。"),
                where=self.path,
                fix="luhuo rank new PROJECT.db --answers FILE",
            )
        self._base = _connect(self.path)
        _check(self._base, self.path)

    @classmethod
    def create(cls, path: str | Path, settings: Mapping[str, Any]) -> Store:
        """A new project. Raises `LuhuoError` if there is a file already."""
        file = Path(path)
        if file.exists():
            raise LuhuoError(
                tr("There is a file of this name already.", "已有同名文件。"),
                where=file,
                fix=tr("Choose another name, or remove it.", "换一个名字，或先删除它。"),
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        base = _connect(file)
        with base:
            base.executescript(f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};{SCHEMA}")
            rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in settings.items()]
            base.executemany("INSERT INTO setting VALUES (?, ?)", rows)
        base.close()
        return cls(file)

    def close(self) -> None:
        """Close the file; the log is written back into it."""
        self._base.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setting(self, name: str, default: Any = None) -> Any:
        """A value given when the project was made."""
        found = self._base.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])

    def add(
        self, items: Iterable[tuple[Sequence[Mapping[str, str]], Sequence[tuple[str, str]], Mapping[str, Any]]]
    ) -> int:
        """Add (prompt, [(text, model)], meta) of new items, all or none; returns how many."""
        count = 0
        with self._writing():
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
        with self._writing():
            self._base.execute(
                "INSERT OR REPLACE INTO judgement VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, judgement.seconds, judgement.at or time.time()),
            )

    def forget(self, item: int, annotator: str) -> bool:
        """Take a judgement back; whether there was one."""
        with self._writing():
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

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that holds the file from its beginning, so that two who write wait for each other."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute("PRAGMA foreign_keys=ON")
    except sqlite3.DatabaseError as error:
        base.close()
        raise _foreign(path, error) from None
    return base


def _check(base: sqlite3.Connection, path: Path) -> None:
    mark, version = (base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if mark != APPLICATION:
        raise _foreign(path, f"application_id {mark:#x}")
    if version > VERSION:
        raise LuhuoError(
            tr("The project is from a newer version of Luhuo.", "该项目来自更新版本的炉火。"),
            expected=f"version <= {VERSION}",
            found=version,
            where=path,
            fix="pip install --upgrade luhuo",
        )


def _foreign(path: Path, found: object) -> LuhuoError:
    return LuhuoError(tr("This file is no ranking project.", "该文件不是排序项目。"), found=found, where=path)


def _dense(ranks: Mapping[int, int]) -> dict[int, int]:
    """The same order with ranks 1, 2, … without gaps."""
    place = {rank: number for number, rank in enumerate(sorted(set(ranks.values())), 1)}
    return {number: place[rank] for number, rank in ranks.items()}
