"""The items of a task: rows made ready, some of them chosen by seed, each with its examples."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.sources import Row, read
from luhuo.evaluation.tasks.template import valued


@dataclass(frozen=True)
class Document:
    """One item: its fields, and what scores are broken down by."""

    id: str
    fields: Row
    subject: str = ""
    group: str = ""
    language: str = ""
    examples: tuple[Row, ...] = field(default=())
    """Solved items to stand in front, in order."""


def documents(
    task: Task, folder: Path | None, *, limit: int | None, seed: int, shots: int | None = None
) -> list[Document]:
    """The items, in the data's order, at most `limit` of them (the same ones for equal seeds), with `shots` examples.

    Raises `LuhuoError` if there are none, or if there are too few examples.
    """
    rows = enumerate(prepared(task, read(task, folder, task.spec.split, seed)))
    if limit is not None:
        drawn = heapq.nsmallest(limit, rows, key=lambda entry: derive_seed(seed, task.name, "item", entry[0]))
        rows = iter(sorted(drawn, key=lambda entry: entry[0]))
    pool = Examples(task, folder, seed, task.spec.shots.count if shots is None else shots)
    found = [pool.given_to(document(task, number, row)) for number, row in rows]
    if not found:
        raise LuhuoError(
            tr(f"The task {task.name} has no items.", f"任务 {task.name} 没有题目。"),
            expected=tr("at least one row", "至少一行"),
            where=folder,
        )
    _refuse_repeated(found, folder)
    return found


def prepared(task: Task, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows as the task's Python file has them; those it leaves out are gone."""
    prepare = task.functions.find("prepare")
    for row in rows:
        made = row if prepare is None else prepare(dict(row))
        if made is not None:
            yield made


def document(task: Task, number: int, row: Row) -> Document:
    """The item of a prepared row. `number` stands in for an `id` that it does not have."""
    spec, where = task.spec, f"{task.file}: {row.get('id', number)}"

    def named(source: str | None, otherwise: str) -> str:
        return otherwise if source is None else str(valued(source, row, where))

    return Document(
        str(row.get("id", number)),
        row,
        named(spec.subject, ""),
        named(spec.group, ""),
        named(spec.language, spec.languages[0]),
    )


def _refuse_repeated(found: list[Document], folder: Path | None) -> None:
    seen: set[str] = set()
    for one in found:
        if one.id in seen:
            raise LuhuoError(tr("Two items have one id.", "两道题目的 id 相同。"), found=one.id, where=folder)
        seen.add(one.id)


class Examples:
    """Where examples come from: the first of their split, or drawn for each item; never the item itself."""

    def __init__(self, task: Task, folder: Path | None, seed: int, count: int) -> None:
        self.task, self.count, self.seed = task, count, seed
        self.by = task.spec.shots.by
        self._rows: dict[str, list[Row]] = {}
        if count == 0:
            return
        given = task.spec.shots.examples
        rows = given or read(task, folder, task.spec.shots.split, seed)
        random = task.spec.shots.order == "random"
        for row in prepared(task, rows):
            kept = self._rows.setdefault(self._key(row), [])
            if random or len(kept) < count + 1:  # one more, in case the item is among them
                kept.append(row)

    def _key(self, row: Row) -> str:
        return "" if self.by is None else str(valued(self.by, row, str(self.task.file)))

    def given_to(self, item: Document) -> Document:
        """The item with its examples. Raises `LuhuoError` where there are fewer than were asked for."""
        if self.count == 0:
            return item
        key = self._key(item.fields)
        pool = [row for row in self._rows.get(key, []) if row != item.fields]
        if self.task.spec.shots.order == "random":
            order = sorted(range(len(pool)), key=lambda i: derive_seed(self.seed, self.task.name, "shot", item.id, i))
            pool = [pool[i] for i in order]
        if len(pool) < self.count:
            raise LuhuoError(
                tr("There are fewer examples than shots.", "示例数少于要求。"),
                expected=self.count,
                found=len(pool),
                where=f"{self.task.name} {key}".strip(),
                fix=f"shots={len(pool)}",
            )
        return Document(item.id, item.fields, item.subject, item.group, item.language, tuple(pool[: self.count]))
