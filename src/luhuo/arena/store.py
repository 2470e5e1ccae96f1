"""Battles and votes: one SQLite file. A vote is complete or absent, and a battle is voted on once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.votes import SCORES, Vote, Winner
from luhuo.rank.database import Base
from luhuo.verify.script import language_of


@dataclass(frozen=True)
class Turn:
    """What was asked and what both sides answered. `error_a`, `error_b`: why there is no answer."""

    prompt: str
    answer_a: str
    answer_b: str
    error_a: str = ""
    error_b: str = ""

    @property
    def failed(self) -> bool:
        """Whether a side has no answer."""
        return bool(self.error_a or self.error_b)


@dataclass(frozen=True)
class Battle:
    """Two models side by side, for one person."""

    id: str
    judge: str
    model_a: str
    model_b: str
    turns: tuple[Turn, ...]
    winner: Winner | None
    at: float

    def messages(self, side: str, prompt: str) -> list[dict[str, str]]:
        """The conversation of a side ("a" or "b") up to a new prompt."""
        found = []
        for turn in self.turns:
            found.append({"role": "user", "content": turn.prompt})
            found.append({"role": "assistant", "content": turn.answer_a if side == "a" else turn.answer_b})
        return [*found, {"role": "user", "content": prompt}]


class Store(Base):
    """The file of an arena."""

    application = 0x4C48_4152
    kind = ("list of votes", "投票记录")
    made_by = "luhuo arena MODEL MODEL --votes FILE"
    schema = """
CREATE TABLE battle (
  id TEXT PRIMARY KEY, judge TEXT NOT NULL, model_a TEXT NOT NULL, model_b TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE turn (
  battle TEXT NOT NULL REFERENCES battle, number INTEGER NOT NULL, prompt TEXT NOT NULL, answer_a TEXT NOT NULL,
  answer_b TEXT NOT NULL, error_a TEXT NOT NULL, error_b TEXT NOT NULL, PRIMARY KEY (battle, number)
);
CREATE TABLE vote (
  battle TEXT PRIMARY KEY REFERENCES battle, winner TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL
);
"""

    def begin(self, judge: str, model_a: str, model_b: str) -> str:
        """A new battle; its name cannot be guessed."""
        name = secrets.token_urlsafe(12)
        with self.writing() as base:
            base.execute("INSERT INTO battle VALUES (?, ?, ?, ?, ?)", (name, judge, model_a, model_b, time.time()))
        return name

    def battle(self, name: str) -> Battle:
        """A battle by its name. Raises `LuhuoError` if there is none."""
        row = self._base.execute("SELECT judge, model_a, model_b, at FROM battle WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise LuhuoError(tr("There is no such battle.", "没有这场对战。"), found=name[:40])
        turns = self._base.execute(
            "SELECT prompt, answer_a, answer_b, error_a, error_b FROM turn WHERE battle = ? ORDER BY number", (name,)
        )
        voted = self._base.execute("SELECT winner FROM vote WHERE battle = ?", (name,)).fetchone()
        kept = tuple(Turn(*turn) for turn in turns)
        return Battle(name, row[0], row[1], row[2], kept, voted[0] if voted else None, row[3])

    def add_turn(self, name: str, turn: Turn) -> None:
        """Keep a turn; one that failed is replaced by the next. Raises `LuhuoError` once the battle is voted on."""
        battle = self.battle(name)
        if battle.winner is not None:
            raise _over()
        values = (turn.prompt, turn.answer_a, turn.answer_b, turn.error_a, turn.error_b)
        failed = bool(battle.turns) and battle.turns[-1].failed
        number = len(battle.turns) - 1 if failed else len(battle.turns)
        with self.writing() as base:
            base.execute("INSERT OR REPLACE INTO turn VALUES (?, ?, ?, ?, ?, ?, ?)", (name, number, *values))

    def vote(self, name: str, winner: Winner, seconds: float) -> Battle:
        """Keep a vote; returns the battle, whose models may be named now. Raises `LuhuoError` for a second vote, and
        for a battle without two whole answers."""
        if winner not in SCORES:
            raise LuhuoError(tr("This is no vote.", "这不是有效的投票。"), expected=", ".join(SCORES), found=winner)
        with self.writing() as base:
            battle = self.battle(name)
            if battle.winner is not None:
                raise _over()
            if not battle.turns or any(turn.failed for turn in battle.turns):
                raise LuhuoError(tr("There are no two answers to compare yet.", "还没有两个可供比较的回答。"))
            base.execute("INSERT INTO vote VALUES (?, ?, ?, ?)", (name, winner, seconds, time.time()))
        return self.battle(name)

    def counts(self) -> dict[frozenset[str], int]:
        """Votes by pair of models."""
        rows = self._base.execute(
            "SELECT model_a, model_b, COUNT(*) FROM vote JOIN battle ON battle = id GROUP BY model_a, model_b"
        )
        found: dict[frozenset[str], int] = {}
        for a, b, number in rows:
            found[frozenset((a, b))] = found.get(frozenset((a, b)), 0) + number
        return found

    def votes(self) -> Iterator[Vote]:
        """All votes in order of time, with what was said."""
        names = [row[0] for row in self._base.execute("SELECT battle FROM vote ORDER BY at, battle")]
        for name in names:
            battle = self.battle(name)
            assert battle.winner is not None
            sides = tuple(turn.answer_a for turn in battle.turns), tuple(turn.answer_b for turn in battle.turns)
            language = language_of(battle.turns[0].prompt) or ""
            yield Vote(battle.model_a, battle.model_b, battle.winner, battle.judge, language, battle.at, sides)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Voted battles in the public arenas' layout."""
        winners = {"a": "model_a", "b": "model_b", "tie": "tie", "bad": "tie (bothbad)"}
        names = [row[0] for row in self._base.execute("SELECT battle FROM vote ORDER BY at, battle")]
        for name in names:
            one = self.battle(name)
            assert one.winner is not None
            row: dict[str, Any] = {"question_id": name, "model_a": one.model_a, "model_b": one.model_b}
            row |= {"winner": winners[one.winner], "judge": one.judge, "turn": len(one.turns), "anony": True}
            row |= {"language": language_of(one.turns[0].prompt) or "", "tstamp": one.at}
            for side in "ab":
                *before, last = one.turns
                answer = last.answer_a if side == "a" else last.answer_b
                said = Battle(name, "", "", "", tuple(before), None, 0).messages(side, last.prompt)
                row[f"conversation_{side}"] = [*said, {"role": "assistant", "content": answer}]
            yield row


def _over() -> LuhuoError:
    return LuhuoError(tr("This battle is over: it was voted on.", "这场对战已结束：已投过票。"))
