"""Votes between two models: what they are, the public arenas' layouts of them, and how such votes are cleaned.

Two layouts are read. The published tables (`model_a`, `model_b`, `winner`, with `anony`, `tstamp`, conversations or
`conv_metadata`), and the servers' raw logs (`type` "leftvote" …, `models`, `states`). Rows may be JSON lines, a JSON
list, CSV or parquet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.rows import unpacked
from luhuo.files.records import Broken
from luhuo.files.structured import read_rows

Winner = Literal["a", "b", "tie", "bad"]
WINNERS: dict[str, Winner] = {
    "model_a": "a",
    "model_b": "b",
    "a": "a",
    "b": "b",
    "tie": "tie",
    "tie (bothbad)": "bad",
    "both_bad": "bad",
    "bothbad": "bad",
    "bad": "bad",
    "leftvote": "a",
    "rightvote": "b",
    "tievote": "tie",
    "bothbad_vote": "bad",
}
SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5, "bad": 0.5}
IDENTITIES = (
    *("openai", "chatgpt", "gpt-4", "gpt-3.5", "anthropic", "claude", "google", "gemini", "bard", "palm", "lamda"),
    *("vicuna", "lmsys", "llama", "alpaca", "koala", "dolly", "mistral", "mixtral", "bigscience", "fastchat"),
    *(
        "deepseek",
        "qwen",
        "tongyi",
        "通义",
        "chatglm",
        "智谱",
        "ernie",
        "文心",
        "baichuan",
        "百川",
        "internlm",
        "书生",
    ),
    *("doubao", "豆包", "kimi", "moonshot", "hunyuan", "混元", "luhuo", "炉火"),
)
"""Names of models and their makers: an answer that says one is no longer anonymous."""
_NAME = re.compile("|".join(rf"(?<![a-z0-9]){re.escape(name)}" for name in IDENTITIES))


@dataclass(frozen=True)
class Vote:
    """One person's or judge's verdict on the answers of two models."""

    model_a: str
    model_b: str
    winner: Winner
    judge: str = ""
    language: str = ""
    at: float = 0.0
    answers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """What each said, turn by turn; empty where the layout does not tell."""
    style: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Features of style (length, headers, lists, bold) of both sides, where they are told."""

    @property
    def score(self) -> float:
        """Of model a: 1, 0.5 (also where both are bad) or 0."""
        return SCORES[self.winner]


@dataclass(frozen=True)
class Cleaning:
    """Which votes count. Each rule's victims are counted by its name.

    `identity`: an answer names a model or a maker; `named`: the battle was not anonymous (`anony` false);
    `repeated`: the same person, models and conversation again; `banned`: the voter is in `banned_judges`;
    `one_model`: both sides are the same; `unknown`: no verdict that we know; `too_many`: beyond `per_judge` votes of
    one voter (0: no limit).
    """

    identity: bool = True
    anonymous_only: bool = True
    repeated: bool = True
    banned_judges: frozenset[str] = frozenset()
    per_judge: int = 0


def read_votes(path: str | Path, cleaning: Cleaning | None = None) -> tuple[list[Vote], Counter[str]]:
    """Votes of a file in order of time, and how many rows each rule of `cleaning` left out (`kept`: those that stay).

    Raises `LuhuoError` for a file that cannot be read, has no row of either layout, or no vote that stays.
    """
    told = Counter[str]()
    votes = clean(_parsed(_rows(path, told), told, path), cleaning or Cleaning(), told)
    votes.sort(key=lambda vote: vote.at)
    if not votes:
        raise LuhuoError(
            tr("No vote of this file counts.", "该文件中没有可用的投票。"),
            expected="model_a, model_b, winner",
            found=", ".join(f"{name} {number}" for name, number in sorted(told.items())) or tr("no rows", "没有行"),
            where=path,
        )
    return votes, told


@dataclass(frozen=True)
class _Row:
    """A vote with what only the cleaning looks at."""

    vote: Vote
    anonymous: bool
    conversation: str


def _rows(path: str | Path, told: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """Objects of a file; what cannot be read is counted."""
    file = Path(path)
    if not file.is_file():
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=path)
    for row in read_rows(file):
        if isinstance(row, Broken) or not isinstance(row.value, Mapping):
            told["unreadable"] += 1
        else:
            yield {name: unpacked(value) for name, value in row.value.items()}


def _parsed(rows: Iterable[Mapping[str, Any]], told: Counter[str], path: str | Path) -> Iterator[_Row]:
    for row in rows:
        layout = _table if "winner" in row else _log if "type" in row and "states" in row else None
        if layout is None:
            raise LuhuoError(
                tr("This is no vote.", "这不是一条投票记录。"),
                expected=tr(
                    "model_a, model_b, winner; or type, models, states",
                    "model_a、model_b、winner；或 type、models、states",
                ),
                found=", ".join(map(str, list(row)[:12])),
                where=path,
            )
        found = layout(row)
        if found is None:
            told["unknown"] += 1
        else:
            yield found


def clean(rows: Iterable[_Row], rules: Cleaning, told: Counter[str]) -> list[Vote]:
    """The votes that count."""
    seen: set[tuple[str, ...]] = set()
    by_judge = Counter[str]()
    kept = []
    for row in rows:
        vote = row.vote
        key = (vote.judge, vote.model_a, vote.model_b, row.conversation)
        reason = _reason(row, rules, key in seen, by_judge[vote.judge])
        if reason is None:
            kept.append(vote)
            by_judge[vote.judge] += 1
            if row.conversation:
                seen.add(key)
        told[reason or "kept"] += 1
    return kept


def _reason(row: _Row, rules: Cleaning, again: bool, cast: int) -> str | None:
    """Why a vote does not count; None if it does."""
    vote = row.vote
    if vote.model_a == vote.model_b:
        return "one_model"
    if rules.anonymous_only and not row.anonymous:
        return "named"
    if vote.judge in rules.banned_judges:
        return "banned"
    if rules.identity and reveals(text for side in vote.answers for text in side):
        return "identity"
    if rules.repeated and again:
        return "repeated"
    return "too_many" if rules.per_judge and cast >= rules.per_judge else None


def reveals(texts: Iterable[str]) -> bool:
    """Whether an answer names a model or a maker."""
    return any(_NAME.search(text.lower()) for text in texts)


def _table(row: Mapping[str, Any]) -> _Row | None:
    winner = WINNERS.get(str(row.get("winner", "")).strip().lower())
    names = [str(row.get(key) or "").strip() for key in ("model_a", "model_b")]
    if winner is None or not all(names):
        return None
    sides = [row.get(f"conversation_{side}") or () for side in "ab"]
    vote = Vote(
        *names,
        winner=winner,
        judge=str(row.get("judge") or row.get("judge_hash") or ""),
        language=str(row.get("language") or ""),
        at=_number(row.get("tstamp", row.get("timestamp"))),
        answers=(_said(sides[0]), _said(sides[1])),
        style=_style(row.get("conv_metadata")),
    )
    return _Row(vote, _truth(row.get("anony", True)), _asked(sides[0]) or str(row.get("question_id") or ""))


def _log(row: Mapping[str, Any]) -> _Row | None:
    """A line of the server's log: while a battle is anonymous, `models` are empty and the states tell them."""
    winner, states = WINNERS.get(str(row.get("type", "")).lower()), row.get("states")
    if winner is None or not isinstance(states, Sequence) or len(states) != 2:
        return None
    shown = [str(name or "") for name in row.get("models") or ("", "")][:2]
    names = [str(state.get("model_name") or name) for state, name in zip(states, shown, strict=True)]
    if not all(names) or (any(shown) and shown != names):
        return None
    sides = [state.get("messages") or () for state in states]
    vote = Vote(
        *names,
        winner=winner,
        judge=str(row.get("ip") or ""),
        language=str(row.get("language") or ""),
        at=_number(row.get("tstamp")),
        answers=(_said(sides[0]), _said(sides[1])),
    )
    return _Row(vote, not any(shown), _asked(sides[0]))


def _turns(messages: Any) -> Iterator[tuple[str, str]]:
    """(role, text) of messages as objects or as [role, text]."""
    for number, one in enumerate(messages if isinstance(messages, Sequence) and not isinstance(messages, str) else ()):
        if isinstance(one, Mapping):
            content = one.get("content")
            yield str(one.get("role") or ""), content if isinstance(content, str) else ""
        elif isinstance(one, Sequence) and len(one) >= 2:
            yield "user" if number % 2 == 0 else "assistant", str(one[1] or "")


def _said(messages: Any) -> tuple[str, ...]:
    return tuple(text for role, text in _turns(messages) if role == "assistant")


def _asked(messages: Any) -> str:
    return "\x1f".join(text for role, text in _turns(messages) if role == "user")


def _style(told: Any) -> dict[str, tuple[float, float]]:
    """Features of the published metadata: tokens, and headers, lists and bold texts summed over their kinds."""
    if not isinstance(told, Mapping):
        return {}
    names = {"length": "sum_assistant_{}_tokens", "headers": "header_count_{}", "lists": "list_count_{}"}
    found = {}
    for name, key in (names | {"bold": "bold_count_{}"}).items():
        values = [told.get(key.format(side)) for side in "ab"]
        if all(value is not None for value in values):
            a, b = (sum(map(_number, v.values())) if isinstance(v, Mapping) else _number(v) for v in values)
            found[name] = (a, b)
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _truth(value: Any) -> bool:
    return str(value).strip().lower() not in ("false", "0", "no", "none")
