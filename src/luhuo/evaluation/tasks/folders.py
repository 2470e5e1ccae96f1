"""Reading for tasks whose rows are more than the lines of one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.readers import DAMAGED
from luhuo.files.records import Broken
from luhuo.files.streams import open_text
from luhuo.files.structured import read_rows

Row = dict[str, Any]


def first_of(folder: Path | None, patterns: Sequence[str]) -> list[Path]:
    """The files of the first glob that finds any, sorted. Raises `LuhuoError` that lists what was looked for."""
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file()) if folder else []
        if found:
            return found
    there = sorted(path.name for path in folder.iterdir())[:12] if folder is not None and folder.is_dir() else []
    raise LuhuoError(
        tr("The data are not in this folder.", "此目录中没有所需的数据。"),
        expected=tr(" or ", " 或 ").join(patterns),
        found=", ".join(there) or tr("nothing", "空"),
        where=folder,
    )


def rows_of(files: Sequence[Path]) -> Iterator[Row]:
    """The objects of files of lines, lists or tables. Raises `LuhuoError` at a row that cannot be read."""
    for file in files:
        try:
            for row in read_rows(file):
                if isinstance(row, Broken) and row.reason == "empty" and row.line:
                    continue
                if isinstance(row, Broken):
                    raise unreadable(f"{file}:{row.line}", f"{row.reason}: {row.excerpt}")
                if not isinstance(row.value, dict):
                    raise unreadable(f"{file}:{row.line}", type(row.value).__name__)
                yield row.value
        except DAMAGED as error:
            raise unreadable(str(file), error) from None


def document_of(file: Path) -> Any:
    """The one JSON value of a file, packed or not. Raises `LuhuoError`."""
    try:
        with open_text(file, "utf-8") as handle:
            return json.load(handle)
    except (*DAMAGED, ValueError, RecursionError) as error:
        raise unreadable(str(file), error) from None


def unreadable(where: str, found: object) -> LuhuoError:
    """The error for data that are not what the task's layout says."""
    return LuhuoError(
        tr("These data cannot be read.", "无法读取这些数据。"),
        expected=tr("objects with the items' fields", "含题目字段的对象"),
        found=found,
        where=where,
        fix=tr(
            "A benchmark with holes gives no score: fetch the file again.", "残缺的评测集得不出分数：请重新获取文件。"
        ),
    )
