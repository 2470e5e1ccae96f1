"""What a model gave for each request, kept by content: a rerun costs nothing, a run that was cut off continues.

One file of JSON lines a model and task; each line holds the digest of its request, and what came back. A line that
was cut off half-way is left out, and its request asked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luhuo.core.digest import value_digest
from luhuo.files.cache import cache_folder

Outcome = dict[str, Any]


class Outcomes:
    """The outcomes of one task on one model. Without a `model` digest they live as long as this object."""

    def __init__(self, model: str | None, task: str, *, reuse: bool = True) -> None:
        self.file: Path | None = None
        self._known: dict[str, Outcome] = {}
        if model is not None:
            self.file = cache_folder() / "evaluations" / model[:32] / f"{task}.jsonl"
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if reuse and self.file.is_file():
                self._read(self.file)
            else:
                self.file.unlink(missing_ok=True)

    def _read(self, file: Path) -> None:
        whole = True
        with file.open(encoding="utf-8", errors="replace") as handle:
            for line in handle:
                whole = line.endswith("\n")
                try:
                    row = json.loads(line)
                    self._known[row["key"]] = row["outcome"]
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue
        if not whole:
            with file.open("a", encoding="utf-8") as handle:
                handle.write("\n")

    def get(self, key: str) -> Outcome | None:
        """What is known of a request."""
        return self._known.get(key)

    def put(self, found: Mapping[str, Outcome]) -> None:
        """Keep outcomes by the keys of their requests, on the disk before this returns."""
        self._known |= found
        if self.file is None or not found:
            return
        lines = [json.dumps({"key": key, "outcome": found[key]}, ensure_ascii=False) + "\n" for key in found]
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write("".join(lines))


def request_key(task: str, version: int, request: Any) -> str:
    """The digest of a request: whatever is different in it makes it another one."""
    return value_digest([task, version, request])[:32]
