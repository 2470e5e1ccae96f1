"""Verdicts kept by what was asked: a rerun costs nothing, a run that was cut off goes on, and costs are counted.

One SQLite file, shared by all judges. The key is a digest of the judge (model and its digest, rubric, settings) and of
everything it was shown; neither names nor folders are in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.judges.verdict import Verdict

APPLICATION = 0x4C48_4A43
"""Marks the file as ours (`PRAGMA application_id`)."""
SCHEMA = """CREATE TABLE IF NOT EXISTS call (
  key TEXT PRIMARY KEY, value REAL, reason TEXT NOT NULL, text TEXT NOT NULL,
  prompt_tokens REAL NOT NULL, tokens REAL NOT NULL, seconds REAL NOT NULL
)"""


@dataclass
class Cost:
    """What verdicts cost when they were first given, and how many of them were given now."""

    asked: int = 0
    kept: int = 0
    """Verdicts that were there already."""
    prompt_tokens: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    price: float = 0.0

    def add(self, other: Cost) -> None:
        """Count another cost too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(frozen=True)
class Call:
    """A verdict with its share of what its batch cost."""

    verdict: Verdict
    prompt_tokens: float
    tokens: float
    seconds: float


class Calls:
    """The file of verdicts; None keeps them in memory."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None)
        try:
            mark = self._base.execute("PRAGMA application_id").fetchone()[0]
            known = self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if known and mark != APPLICATION:
                raise sqlite3.DatabaseError(f"application_id {mark:#x}")
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute(f"PRAGMA application_id={APPLICATION}")
            self._base.execute(SCHEMA)
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise LuhuoError(
                tr("This file holds no judges' verdicts.", "该文件不是评判缓存。"),
                found=error,
                where=path,
                fix=tr("Choose another file as cache.", "请换一个缓存文件。"),
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def find(self, keys: Sequence[str]) -> dict[str, Call]:
        """What is known of these keys."""
        found = {}
        for key in keys:
            row = self._base.execute(
                "SELECT value, reason, text, prompt_tokens, tokens, seconds FROM call WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                found[key] = Call(Verdict(*row[:3]), *row[3:])
        return found

    def keep(self, calls: Mapping[str, Call]) -> None:
        """Keep verdicts, all of them or none."""
        rows = []
        for key, call in calls.items():
            values = asdict(call.verdict)
            rows.append(
                (key, values["value"], values["reason"], values["text"], call.prompt_tokens, call.tokens, call.seconds)
            )
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._base.executemany("INSERT OR REPLACE INTO call VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")
