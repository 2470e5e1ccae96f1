"""Records and signals of an annotate artifact: two files a unit, aligned line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.streams import open_text

UNITS = "units.json"
"""Names and sizes of the units, in order: {"units": [{"name", "records", "bytes"}]}."""

ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
LEVEL = 3
"""Zstandard's level: these files are read a few times and then thrown away."""


def records_path(artifact: str | Path, unit: str) -> Path:
    """The records of a unit."""
    return Path(artifact) / "records" / f"{unit}.jsonl.zst"


def signals_path(artifact: str | Path, unit: str) -> Path:
    """The signals of a unit."""
    return Path(artifact) / "signals" / f"{unit}.jsonl.zst"


def units(artifact: str | Path) -> list[dict[str, Any]]:
    """{"name", "records", "bytes"} of each unit. Raises `LuhuoError` if this is no annotate artifact."""
    file = Path(artifact) / UNITS
    if not file.is_file():
        raise LuhuoError(
            tr("This is not the result of an annotate stage.", "这不是 annotate 阶段的产物。"),
            expected=UNITS,
            where=artifact,
        )
    return json.loads(file.read_text(encoding="utf-8"))["units"]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a `.jsonl.zst` file. Raises `LuhuoError` if it is missing or damaged."""
    try:
        with open_text(path) as handle:
            for line in handle:
                yield json.loads(line)
    except (zstandard.ZstdError, json.JSONDecodeError, EOFError, FileNotFoundError) as error:
        raise LuhuoError(
            tr("A file of the corpus is damaged or missing.", "语料文件损坏或缺失。"),
            found=error,
            where=path,
            fix=tr("Run the stage that wrote it again.", "请重新运行写出它的阶段。"),
        ) from error


def read_records(artifact: str | Path, unit: str) -> Iterator[dict[str, Any]]:
    """The records of a unit: {"id", "text", "lang", "script", "source", "licence", "origin"}."""
    return read_lines(records_path(artifact, unit))


def read_signals(artifact: str | Path, unit: str) -> Iterator[dict[str, Any]]:
    """The signals of a unit: {"id", "lang", "script", "chars", "family.name": …}, in the order of its records."""
    return read_lines(signals_path(artifact, unit))


def to_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON; equal rows give equal bytes."""
    return ENCODE(row) + "\n"
