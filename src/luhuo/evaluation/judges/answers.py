"""Models' answers as they come to be judged: by id or by prompt, turn by turn.

Rows may be MT-Bench's (`question_id`, `choices: [{"turns"}]`, with a file of questions), AlpacaEval's (`instruction`,
`output`), a prompt with an answer (`prompt` or `question`, `answer` or `response`), or whole conversations
(`messages`, ending with the assistant).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.rows import unpacked
from luhuo.evaluation.judges.pairwise import Pair
from luhuo.evaluation.judges.verdict import Shown
from luhuo.files.readers import list_files
from luhuo.files.records import Broken
from luhuo.files.references import resolve
from luhuo.files.structured import read_rows

T = TypeVar("T")
PROMPTS = ("prompt", "question", "instruction")
ANSWERS = ("answer", "response", "output", "completion")


def spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` items (0: all), evenly over all of them: the first ones of a set are often of one kind."""
    if not limit or limit >= len(items):
        return list(items)
    return [items[place * len(items) // limit] for place in range(limit)]


@dataclass(frozen=True)
class Answered:
    """A model's answers to one conversation."""

    id: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    reference: tuple[str, ...]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question of a set, with its reference answers."""

    turns: tuple[str, ...]
    reference: tuple[str, ...]
    category: str | None


def read_questions(questions: str | None, references: str | None) -> dict[str, Asked]:
    """Questions by id, of MT-Bench's files `question.jsonl` and `reference_answer/….jsonl`. Raises `LuhuoError`."""
    if questions is None:
        return {}
    known = {str(row["question_id"]): _turns(row) for row in _rows(references)} if references else {}
    found = {}
    for row in _rows(questions):
        if "question_id" not in row or not isinstance(row.get("turns"), list):
            raise _unknown(row, questions, "question_id, turns")
        name = str(row["question_id"])
        reference = known.get(name) or tuple(map(str, row.get("reference") or ()))
        found[name] = Asked(tuple(map(str, row["turns"])), reference, row.get("category"))
    return found


def read_answers(reference: str, asked: Mapping[str, Asked]) -> dict[str, Answered]:
    """Answers by id (or by what was asked). Raises `LuhuoError` for rows of no known layout, and for a file without
    rows."""
    found = {}
    for row in _rows(reference):
        one = _answered(row, asked, reference)
        found[one.id] = one
    if not found:
        raise LuhuoError(tr("There are no answers.", "没有回答。"), where=reference)
    return found


def turns_of(one: Answered) -> Iterator[tuple[int, Shown]]:
    """What is judged of a conversation: each turn with all before it, as MT-Bench does."""
    for turn in range(1, len(one.answers) + 1):
        yield turn, Shown(one.questions[:turn], one.answers[:turn], (), one.reference[:turn], one.meta)


def pairs_of(
    answers: Mapping[str, Mapping[str, Answered]], baseline: str = "", limit: int = 0
) -> tuple[list[Pair], dict[str, int]]:
    """Every two models (or each with the baseline) on what both answered, turn by turn; and how many ids only some
    models have."""
    shared = sorted(set.intersection(*(set(one) for one in answers.values())))
    every = set().union(*answers.values())
    duels = [(name, baseline) for name in answers if name != baseline] if baseline else list(combinations(answers, 2))
    pairs = []
    for name in spread(shared, limit):
        for a, b in duels:
            first, second = answers[a][name], answers[b][name]
            for turn in range(1, min(len(first.answers), len(second.answers)) + 1):
                shown = Shown(
                    first.questions[:turn],
                    first.answers[:turn],
                    second.answers[:turn],
                    first.reference[:turn],
                    first.meta,
                )
                pairs.append(Pair(f"{name}#{turn}" if len(first.answers) > 1 else name, a, b, shown))
    return pairs, {"shared": len(shared), "left_out": len(every) - len(shared)}


def _answered(row: Mapping[str, Any], asked: Mapping[str, Asked], where: str) -> Answered:
    if "choices" in row and "question_id" in row:
        name = str(row["question_id"])
        if name not in asked:
            raise LuhuoError(
                tr("The question of this answer is not there.", "找不到该回答对应的问题。"),
                expected=tr(
                    "questions=question.jsonl with its question_id", "含该 question_id 的 questions=question.jsonl"
                ),
                found=name,
                where=where,
            )
        known = asked[name]
        return Answered(name, known.turns, _turns(row), known.reference, {"category": known.category})
    meta = {"category": row.get("category")}
    reference = (str(row["reference"]),) if row.get("reference") else ()
    if isinstance(row.get("messages"), list):
        said = [(m.get("role"), str(m.get("content") or "")) for m in row["messages"] if isinstance(m, Mapping)]
        questions, answers = (tuple(t for r, t in said if r == role) for role in ("user", "assistant"))
        if len(questions) == len(answers) > 0:
            return Answered(str(row.get("id", "\x1f".join(questions))), questions, answers, reference, meta)
    prompt = next((row[key] for key in PROMPTS if isinstance(row.get(key), str)), None)
    answer = next((row[key] for key in ANSWERS if isinstance(row.get(key), str)), None)
    if prompt is None or answer is None:
        raise _unknown(row, where, "prompt, answer; messages; question_id, choices")
    return Answered(str(row.get("id", prompt)), (prompt,), (answer,), reference, meta)


def _turns(row: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(str(turn) for turn in row["choices"][0]["turns"])
    except (KeyError, IndexError, TypeError):
        raise _unknown(row, "choices", 'choices: [{"turns": […]}]') from None


def _rows(reference: str) -> Iterator[dict[str, Any]]:
    path = Path(reference)
    for file in list_files(path if path.exists() else resolve(reference).path):
        for row in read_rows(file):
            if isinstance(row, Broken):
                raise LuhuoError(tr("This row cannot be read.", "该行无法读取。"), found=row.reason, where=file)
            if not isinstance(row.value, Mapping):
                raise _unknown({}, str(file), "{…}")
            yield {
                name: unpacked(value) if name in ("messages", "choices", "turns") else value
                for name, value in row.value.items()
            }


def _unknown(row: Mapping[str, Any], where: str, expected: str) -> LuhuoError:
    return LuhuoError(
        tr("This row has no known layout.", "该行不是已知的格式。"),
        expected=expected,
        found=", ".join(map(str, list(row)[:12])),
        where=where,
    )
