"""Rows of conversation files: objects of jsonl, or of a json list, also compressed; one at a time."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr


@dataclass(frozen=True)
class GoodRow:
    """An object and its place in the file, counted from 1."""

    number: int
    value: dict[str, Any]


@dataclass(frozen=True)
class BrokenRow:
    """A row that could not be used; the fields are the line of a quarantine file."""

    source: str
    line: int
    reason: str
    excerpt: str


def read_rows(path: Path) -> Iterator[GoodRow | BrokenRow]:
    """Stream the rows of a .jsonl or .json file, plain, .gz or .zst. Raises `LuhuoError` if there is no such file."""
    if not path.is_file():
        inside = ", ".join(sorted(p.name for p in path.glob("*.json*"))) if path.is_dir() else None
        raise LuhuoError(
            tr("A file of conversations is needed here.", "这里需要一个对话文件。"),
            expected=".jsonl, .json (.gz, .zst)",
            found=tr(f"a folder with {inside}", f"目录，内含 {inside}") if inside else None,
            where=path,
        )
    with _open(path) as handle:
        start = handle.peek(64)[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
        texts = _array_items(handle) if start.startswith(b"[") else enumerate(handle, 1)
        for number, text in texts:
            if text.strip():
                yield _parse(path.name, number, text)


def _parse(source: str, number: int, text: bytes) -> GoodRow | BrokenRow:
    excerpt = text[:200].decode("utf-8", errors="replace")
    try:
        value = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BrokenRow(source, number, tr("not UTF-8", "不是 UTF-8"), excerpt)
    except (json.JSONDecodeError, RecursionError) as error:
        return BrokenRow(source, number, tr(f"not JSON: {error}", f"不是 JSON：{error}"), excerpt)
    if not isinstance(value, dict):
        return BrokenRow(source, number, tr("not an object", "不是对象"), excerpt)
    return GoodRow(number, value)


def _array_items(handle: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """(number, text) of the items of a JSON list, found by counting brackets outside strings."""
    number, depth, quoted, escaped = 0, 0, False, False
    item = bytearray()
    while block := handle.read(1 << 16):
        for byte in block:
            if depth > 1 or (depth == 1 and byte in b"{["):
                item.append(byte)
            if quoted:
                quoted = escaped or byte != 0x22
                escaped = byte == 0x5C and not escaped
            elif byte == 0x22:
                quoted = True
            elif byte in b"{[":
                depth += 1
            elif byte in b"}]":
                depth -= 1
                if depth == 1:
                    number += 1
                    yield number, bytes(item)
                    item.clear()


def _open(path: Path) -> io.BufferedReader:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path, "rb"))  # type: ignore[arg-type]
    if path.suffix == ".zst":
        import zstandard

        return io.BufferedReader(zstandard.open(path, "rb"))  # type: ignore[arg-type]
    return path.open("rb")
