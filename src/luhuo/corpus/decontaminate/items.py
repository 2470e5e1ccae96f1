"""Items of benchmarks: the parts of each that would be a leak, read from files in whatever layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.fields import CONTENT
from luhuo.files.readers import list_files
from luhuo.files.streams import format_of
from luhuo.files.structured import Row, read_rows

TABLES = ("json", "jsonl", "ndjson", "csv", "tsv", "parquet")
CONTEXT = ("context", "passage", "article", "ctx", "support", "story", "paragraph", "document", "材料", "文章", "背景")
QUESTION = (
    "question", "question_stem", "problem", "prompt", "query", "instruction", "goal", "sentence", "text", "input",
    "premise", "startphrase", "activity_label", "问题", "题目", "题干",
)  # fmt: skip
OPTIONS = (
    "choices", "options", "endings", "a", "b", "c", "d", "e", "f", "choice1", "choice2", "sol1", "sol2", "answera",
    "answerb", "answerc", "option1", "option2", "distractor1", "distractor2", "distractor3", "correct_answer", "选项",
)  # fmt: skip
ANSWER = (
    "answer", "solution", "output", "response", "target", "completion", "canonical_solution", "reference",
    "explanation", "best_answer", "code", "analysis", "答案", "解析",
)  # fmt: skip
NAMES = ("id", "task_id", "qid", "question_id", "item_id", "idx", "index")
TRAINING = re.compile(r"(?:^|[._\-/])train(?:ing)?(?:[._\-/]|$)", re.IGNORECASE)
TESTING = re.compile(r"(?:^|[._\-/])(?:test|dev|valid|validation|val|eval)(?:[._\-/]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One item. Each of its parts alone is a leak, if it is long enough to be told from chance."""

    id: str
    question: str = ""
    answer: str = ""
    context: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fields:
    """Names of the fields that hold the parts of an item; None means those that are usual. Dots go deeper."""

    question: tuple[str, ...] | None = None
    answer: tuple[str, ...] | None = None
    context: tuple[str, ...] | None = None
    options: tuple[str, ...] | None = None
    id: tuple[str, ...] | None = None


def read_items(path: str | Path, fields: Fields | None = None) -> Iterator[Item]:
    """The items of a file, or of the tables of a folder; its files for training are passed over where there are others
    for testing. Raises `LuhuoError` where there is no item.
    """
    fields = fields or Fields()
    files = [file for file in list_files(path) if format_of(file) in TABLES]
    root = Path(path)
    inside = {file: file.relative_to(root).as_posix() if root.is_dir() else file.name for file in files}
    if any(TESTING.search(name) for name in inside.values()):
        files = [file for file in files if not TRAINING.search(inside[file])]
    found = 0
    for file in files:
        for item in _of_file(file, inside[file], fields):
            found += 1
            yield item
    if not found:
        raise LuhuoError(
            tr("There is no item of a benchmark here.", "这里没有评测题目。"),
            expected=", ".join(TABLES),
            where=path,
            fix=tr("Name the field of the question.", "请指定题目所在的字段。"),
        )


def _of_file(file: Path, name: str, fields: Fields) -> Iterator[Item]:
    for row in read_rows(file):
        if isinstance(row, Row):
            for number, value in enumerate(_rows(row.value)):
                place = f"{name}:{row.line}" + (f".{number}" if number else "")
                item = item_of(value, place, fields)
                if item is not None:
                    yield item


def _rows(value: Any) -> list[Any]:
    """The items of one value of a file: itself, or those of the list that it wraps."""
    if isinstance(value, Mapping):
        lists = [
            v for v in value.values() if isinstance(v, list) and len(v) > 1 and all(isinstance(x, Mapping) for x in v)
        ]
        plain = {name.lower() for name in value} & {*QUESTION, *CONTEXT}
        if len(lists) == 1 and not plain:
            return lists[0]
    return [value]


def item_of(row: Any, place: str, fields: Fields) -> Item | None:
    """The item that a row is, None without text. A row of unknown fields is one question with all it says."""
    if isinstance(row, str):
        return Item(place, question=row) if row.strip() else None
    if not isinstance(row, Mapping):
        return None
    low = {str(name).lower(): value for name, value in row.items()}

    def part(names: tuple[str, ...] | None, usual: tuple[str, ...]) -> list[str]:
        wanted = names if names is not None else usual
        return [text for name in wanted for text in _texts(_deep(low, name.lower()))]

    question, context = part(fields.question, QUESTION), part(fields.context, CONTEXT)
    answer = part(fields.answer, ANSWER)
    options = [text for text in part(fields.options, OPTIONS) if len(text) > 1 or not text.isascii() or text.isdigit()]
    known = next((str(low[name]) for name in fields.id or NAMES if low.get(name.lower()) not in (None, "")), None)
    if fields == Fields() and not (question or context or answer):
        question = list(_texts(row))
    if not (question or context or answer):
        return None
    return Item(
        f"{place}#{known}" if known else place,
        "\n".join(question),
        "\n".join(answer),
        "\n".join(context),
        tuple(options),
    )


def _deep(row: Mapping[str, Any], name: str) -> Any:
    found: Any = row
    for part in [name] if name in row else name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, however deep they lie, in order; of a message what was said, not by whom."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, Mapping):
        said = [value[name] for name in CONTENT if name in value and ("role" in value or "from" in value)]
        for inner in said or value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
