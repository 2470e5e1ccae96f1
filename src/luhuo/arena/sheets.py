"""Rating sheets for experts: reference answers first, then the models' answers one by one and blind, on scales.

An expert writes what they would answer before they see any answer (`references`: each: every expert for every item;
any: one expert an item is enough; none), so that no answer leads them. Then the answers of an item come without
names, in an order of each expert's own, beside the references; each is rated on every criterion.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from luhuo.core.config import Config, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.rank.database import Base

References = Literal["each", "any", "none"]


class Criterion(Config):
    """One scale."""

    id: str = field(..., "Its name in exports.", "导出时的名称。", min_length=1, max_length=64)
    en: str = field("", "What is asked, in English.", "英文说明。")
    zh: str = field("", "What is asked, in Chinese.", "中文说明。")
    low: int = field(1, "Lowest value.", "最低值。")
    high: int = field(5, "Highest value, at most 9 above the lowest.", "最高值，最多比最低值大 9。")


class Criteria(Config):
    """The scales of a sheet, as they stand in a YAML file."""

    criteria: list[Criterion] = field(..., "The scales.", "量表列表。", min_length=1, max_length=12)


DEFAULT = Criteria.parse(
    {
        "criteria": [
            {
                "id": "semantic_consistency",
                "en": "Does it mean the same as the expert's answer?",
                "zh": "语义与专家答案是否一致？",
            },
            {"id": "logic", "en": "Is it sound and in good order?", "zh": "逻辑是否严密、条理是否清楚？"},
            {"id": "style", "en": "Does it read as an expert would write?", "zh": "文风是否像专家所写？"},
        ]
    }
)


def read_criteria(path: Path | None) -> Criteria:
    """The scales of a YAML file, or the three usual ones. Raises `LuhuoError`."""
    if path is None:
        return DEFAULT
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(type(values).__name__)
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise LuhuoError(
            tr("This is no file of criteria.", "这不是评分量表文件。"),
            expected="criteria: [{id, en, zh, low, high}]",
            found=str(error)[:200],
            where=path,
        ) from None
    found = Criteria.parse(values, str(path))
    names = [one.id for one in found.criteria]
    if len(set(names)) < len(names) or any(not 1 <= one.high - one.low <= 9 for one in found.criteria):
        raise LuhuoError(
            tr(
                "The criteria need names of their own and scales of 2 to 10 steps.",
                "量表名称须各不相同，且有 2 到 10 级。",
            ),
            found=", ".join(f"{one.id} {one.low}–{one.high}" for one in found.criteria),
            where=path,
        )
    return found


@dataclass(frozen=True)
class Task:
    """What an expert does next: write a reference for an item, or rate one answer."""

    item: int
    answer: int | None
    done: int
    total: int


class Sheet(Base):
    """The file of a rating sheet."""

    application = 0x4C48_5348
    kind = ("rating sheet", "评分表")
    made_by = "luhuo arena sheet new"
    schema = """
CREATE TABLE item (id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, meta TEXT NOT NULL);
CREATE TABLE answer (
  id INTEGER PRIMARY KEY, item INTEGER NOT NULL REFERENCES item, text TEXT NOT NULL, model TEXT NOT NULL
);
CREATE TABLE reference (
  item INTEGER NOT NULL REFERENCES item, expert TEXT NOT NULL, text TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (item, expert)
);
CREATE TABLE rating (
  answer INTEGER NOT NULL REFERENCES answer, expert TEXT NOT NULL, criterion TEXT NOT NULL, value INTEGER NOT NULL,
  comment TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (answer, expert, criterion)
);
"""

    @property
    def criteria(self) -> list[Criterion]:
        """The scales."""
        return Criteria.parse({"criteria": self.setting("criteria")}).criteria

    @property
    def references(self) -> References:
        """Who writes references before answers are seen."""
        return self.setting("references", "each")

    def add(
        self, items: Iterable[tuple[Sequence[Mapping[str, str]], Sequence[tuple[str, str]], Mapping[str, Any]]]
    ) -> int:
        """Add (prompt, [(text, model)], meta), all or none; returns how many. References that are there already, as
        `meta["reference"]`, are an expert's named "given"."""
        count = 0
        with self.writing() as base:
            for prompt, answers, meta in items:
                values = json.dumps(list(prompt), ensure_ascii=False), json.dumps(dict(meta), ensure_ascii=False)
                number = base.execute("INSERT INTO item (prompt, meta) VALUES (?, ?)", values).lastrowid
                rows = [(number, text, model) for text, model in answers]
                base.executemany("INSERT INTO answer (item, text, model) VALUES (?, ?, ?)", rows)
                if meta.get("reference"):
                    base.execute(
                        "INSERT INTO reference VALUES (?, 'given', ?, ?)",
                        (number, str(meta["reference"]), time.time()),
                    )
                count += 1
        return count

    def next(self, expert: str) -> Task | None:
        """What this expert does next; None when all is done. No answer is named while a reference is missing."""
        tasks = self._tasks(expert)
        done = self._done(expert)
        for item, answer in tasks:
            if (item, answer) not in done:
                return Task(item, answer, len(done & set(tasks)), len(tasks))
        return None

    def total(self, expert: str) -> int:
        """How much this expert has to do in all."""
        return len(self._tasks(expert))

    def _tasks(self, expert: str) -> list[tuple[int, int | None]]:
        items = [row[0] for row in self._base.execute("SELECT id FROM item ORDER BY id")]
        random.Random(derive_seed(int(self.setting("seed", 0)), "items")).shuffle(items)
        given = {item for item, who in self._references() if who != expert}
        mode = self.references
        wanted = [item for item in items if mode == "each" or (mode == "any" and item not in given)]
        tasks: list[tuple[int, int | None]] = [(item, None) for item in wanted]
        for item in items:
            tasks += [(item, answer) for answer in self._order(item, expert)]
        return tasks

    def _order(self, item: int, expert: str) -> list[int]:
        answers = [row[0] for row in self._base.execute("SELECT id FROM answer WHERE item = ? ORDER BY id", (item,))]
        random.Random(derive_seed(int(self.setting("seed", 0)), "answers", item, expert)).shuffle(answers)
        return answers

    def _done(self, expert: str) -> set[tuple[int, int | None]]:
        done: set[tuple[int, int | None]] = {(item, None) for item, who in self._references() if who == expert}
        query = (
            "SELECT answer.item, answer.id, COUNT(*) FROM rating JOIN answer ON answer.id = answer WHERE expert = ?"
        )
        for item, answer, count in self._base.execute(f"{query} GROUP BY answer.id", (expert,)):
            if count == len(self.criteria):
                done.add((item, answer))
        return done

    def _references(self) -> list[tuple[int, str]]:
        return self._base.execute("SELECT item, expert FROM reference").fetchall()

    def shown(self, task: Task, expert: str) -> dict[str, Any]:
        """What the page shows of a task; no model, and no answer while a reference is to be written."""
        prompt = self._base.execute("SELECT prompt FROM item WHERE id = ?", (task.item,)).fetchone()[0]
        told = {
            "item": task.item,
            "prompt": json.loads(prompt),
            "done": task.done,
            "total": task.total,
            "answer": None,
        }
        if task.answer is None:
            return told
        text = self._base.execute("SELECT text FROM answer WHERE id = ?", (task.answer,)).fetchone()[0]
        rows = self._base.execute(
            "SELECT text FROM reference WHERE item = ? ORDER BY expert != ?, expert", (task.item, expert)
        )
        return told | {"answer": {"id": task.answer, "text": text}, "references": [row[0] for row in rows]}

    def write_reference(self, item: int, expert: str, text: str) -> None:
        """Keep an expert's own answer. Raises `LuhuoError` once they have seen answers to the item."""
        if (item,) not in self._base.execute("SELECT id FROM item").fetchall() or not text.strip():
            raise LuhuoError(tr("There is no such item, or no answer.", "没有这道题，或答案为空。"), found=item)
        if any(one[0] == item and one[1] is not None for one in self._done(expert)):
            raise LuhuoError(tr("You have rated answers to this item already.", "你已评过该题的回答。"))
        with self.writing() as base:
            base.execute(
                "INSERT OR REPLACE INTO reference VALUES (?, ?, ?, ?)", (item, expert, text.strip(), time.time())
            )

    def rate(self, answer: int, expert: str, values: Mapping[str, int], comment: str = "") -> None:
        """Keep an expert's rating of an answer on all criteria, in the place of an earlier one. Raises `LuhuoError`
        where it is not the answer's turn, or the values do not fit the scales."""
        scales = {one.id: one for one in self.criteria}
        fits = set(values) == set(scales) and all(scales[n].low <= v <= scales[n].high for n, v in values.items())
        following = self.next(expert)
        known = (self._item_of(answer), answer) in self._done(expert)
        if not fits or not (known or (following is not None and following.answer == answer)):
            raise LuhuoError(
                tr("The rating does not fit.", "评分不符。"),
                expected=", ".join(f"{one.id} {one.low}–{one.high}" for one in scales.values()),
                found=str(dict(values))[:200],
            )
        rows = [(answer, expert, name, value, comment, time.time()) for name, value in values.items()]
        with self.writing() as base:
            base.executemany("INSERT OR REPLACE INTO rating VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _item_of(self, answer: int) -> int | None:
        found = self._base.execute("SELECT item FROM answer WHERE id = ?", (answer,)).fetchone()
        return found[0] if found else None

    def ratings(self) -> list[dict[str, Any]]:
        """All ratings: item, answer, model, expert, criterion, value, comment."""
        names = ("item", "answer", "model", "expert", "criterion", "value", "comment")
        rows = self._base.execute(
            "SELECT answer.item, answer.id, model, expert, criterion, value, comment FROM rating "
            "JOIN answer ON answer.id = rating.answer ORDER BY answer.item, answer.id, expert, criterion"
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row an answer: prompt, answer, model, references and ratings by expert."""
        found: dict[int, dict[str, dict[str, int]]] = {}
        comments: dict[int, dict[str, str]] = {}
        for one in self.ratings():
            found.setdefault(one["answer"], {}).setdefault(one["expert"], {})[one["criterion"]] = one["value"]
            if one["comment"]:
                comments.setdefault(one["answer"], {})[one["expert"]] = one["comment"]
        for number, item, prompt, text, model in self._base.execute(
            "SELECT answer.id, item.id, prompt, text, model FROM answer JOIN item ON item.id = item "
            "ORDER BY item.id, answer.id"
        ).fetchall():
            references = dict(self._base.execute("SELECT expert, text FROM reference WHERE item = ?", (item,)))
            yield {
                "item": item,
                "prompt": json.loads(prompt),
                "answer": text,
                "model": model,
                "references": references,
                "ratings": found.get(number, {}),
                "comments": comments.get(number, {}),
            }
