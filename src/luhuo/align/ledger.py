"""A file of JSON lines that grows while a stage runs, and tells a stage that was cut off where to go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Ledger:
    """Lines of one file. What a kill left half-written is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        """Lines that stand there."""
        whole = 0
        if path.exists():
            with path.open("r+b") as handle:
                for line in handle:
                    if not line.endswith(b"\n"):
                        break
                    whole += len(line)
                    self.count += 1
                handle.truncate(whole)

    def append(self, rows: Iterable[Any]) -> None:
        """Write rows; the system has them when this returns."""
        lines = [json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows]
        with self.path.open("ab") as handle:
            handle.writelines(lines)
        self.count += len(lines)

    def __iter__(self) -> Iterator[Any]:
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            for line in handle:
                yield json.loads(line)


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, `size` at a time: what is worked on together, and kept when it is done."""
    left = iter(items)
    while group := list(islice(left, size)):
        yield group
