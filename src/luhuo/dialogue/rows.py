"""Rows of data files with a layout: detected from the first row that has one, converted as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import RoleOrder
from luhuo.files.readers import DAMAGED
from luhuo.files.records import Broken, broken
from luhuo.files.structured import Row as FileRow
from luhuo.files.structured import read_rows

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Row = Mapping[str, Any]
Reject = Callable[[Broken], None]
LOOK_AT = 100
"""Rows in which a layout is looked for."""


@dataclass(frozen=True)
class Layout(Generic[T_co]):
    """One way to write a row. `keys` tells a person what it looks like."""

    name: str
    keys: str
    fits: Callable[[Row], bool]
    """Whether a row of a file of this layout is one."""
    convert: Callable[[Row], T_co]
    """Raises `LuhuoError`, or whatever plain types raise, for a row that is none after all."""
    means: Callable[[Row], bool] | None = None
    """Whether a first row means this layout, where more than `fits` is needed to tell."""

    def meant_by(self, row: Row) -> bool:
        """Whether a file that begins with this row has this layout."""
        return self.fits(row) and (self.means is None or self.means(row))


@dataclass(frozen=True)
class Found(Generic[T_co]):
    """A converted row and the line it stands in."""

    line: int
    value: T_co


def read_layout(
    path: str | Path, layouts: Sequence[Layout[T]], what: str, reject: Reject | None = None, hint: str | None = None
) -> tuple[str, Iterator[Found[T]]]:
    """The layout's name and the converted rows of a jsonl, json, csv or parquet file (also .gz, .zst), as a stream.

    A row that cannot be converted goes to `reject`; without it, the first such row raises `LuhuoError`, as does a
    file that holds no row of these layouts; `what` names in that error what was looked for, `hint` what to do.
    """
    file = Path(path)
    layout = _detect(file, layouts, what, hint)
    return layout.name, _stream(file, layout, what, reject)


def first_row(file: Path) -> Row | None:
    """The first row that is an object, None without one among the first rows. `LuhuoError` if there is no file."""
    for count, row in enumerate(_rows(file)):
        if isinstance(row, FileRow) and isinstance(row.value, Mapping):
            return row.value
        if count > LOOK_AT:
            break
    return None


def dictionaries(values: Any) -> list[Row]:
    """A list of objects, also written as JSON text (as CSV and Parquet files hold it). Raises `LuhuoError`."""
    values = unpacked(values)
    if not isinstance(values, list) or not all(isinstance(v, Mapping) for v in values):
        raise LuhuoError(
            tr("Messages must be a list of objects.", "消息必须是对象的列表。"), found=type(values).__name__
        )
    return values


def unpacked(value: Any) -> Any:
    """A list or object that is written as JSON text, read; everything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _detect(file: Path, layouts: Sequence[Layout[T]], what: str, hint: str | None) -> Layout[T]:
    """The layout of the first row that has one."""
    seen = None
    for count, row in enumerate(_rows(file)):
        if isinstance(row, FileRow) and isinstance(row.value, Mapping):
            for layout in layouts:
                if layout.meant_by(row.value):
                    return layout
            seen = seen or sorted(map(str, row.value))
        if count > LOOK_AT:
            break
    raise LuhuoError(
        tr(f"This file has no known layout of a {what}.", f"未识别出{what}的格式。"),
        expected="; ".join(f"{layout.name}: {layout.keys}" for layout in layouts),
        found=tr("no readable row", "没有可读的行") if seen is None else ", ".join(seen),
        where=file,
        fix=hint,
    )


def _stream(file: Path, layout: Layout[T], what: str, reject: Reject | None) -> Iterator[Found[T]]:
    for row in _rows(file):
        result = row if isinstance(row, Broken) else _convert(file, layout, what, row)
        if isinstance(result, Found):
            yield result
        elif reject is not None:
            reject(result)
        else:
            raise LuhuoError(
                tr(f"This row is no {what}.", f"该行不是{what}。"),
                found=result.reason,
                where=tr(f"{file}, line {result.line}", f"{file} 第 {result.line} 行"),
            )


def _convert(file: Path, layout: Layout[T], what: str, row: FileRow) -> Found[T] | Broken:
    reason = f"other_layout: {layout.name} = {layout.keys}"
    if isinstance(row.value, Mapping) and layout.fits(row.value):
        try:
            return Found(row.line, layout.convert(row.value))
        except (LuhuoError, KeyError, TypeError, ValueError, AttributeError) as error:
            code = "role_order" if isinstance(error, RoleOrder) else "bad_conversation"
            reason = f"{code}: {' '.join(str(error).split())}"
    return broken(file.as_posix(), row.line, reason, json.dumps(row.value, ensure_ascii=False, default=str))


def _rows(file: Path) -> Iterator[FileRow | Broken]:
    """The rows of one file. Raises `LuhuoError` if it is none; a damaged archive is a broken row."""
    if not file.is_file():
        inside = ", ".join(sorted(p.name for p in file.glob("*.json*"))) if file.is_dir() else None
        raise LuhuoError(
            tr("A file of conversations is needed here.", "这里需要一个对话文件。"),
            expected=".jsonl, .json, .csv, .parquet (.gz, .zst)",
            found=tr(f"a folder with {inside}", f"目录，内含 {inside}") if inside else None,
            where=file,
        )
    try:
        yield from read_rows(file)
    except DAMAGED as error:
        yield broken(file.as_posix(), 0, "bad_compression", error)
