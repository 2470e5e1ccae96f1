"""Prompts as they are read for asking, and files of what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.dialogue.prompts import read_prompts
from luhuo.dialogue.rows import Reject
from luhuo.files.readers import list_files
from luhuo.files.records import Broken
from luhuo.files.references import resolve

KEPT = ("id", "family", "lang")
"""Columns of a prompt that what comes of it keeps."""


def files_of(given: Sequence[str] | str) -> list[Path]:
    """The files that one or several inputs name."""
    return [file for one in ([given] if isinstance(given, str) else given) for file in list_files(resolve(one).path)]


def unheeded(row: Broken) -> None:
    """For passes over data whose broken rows another pass tells of."""


def prompts(given: Sequence[str] | str, limit: int, reject: Reject = unheeded) -> Iterator[dict[str, Any]]:
    """{"prompt": messages, and the columns kept} of each prompt, at most `limit` (0: all); what is none goes to
    `reject`."""
    found = (one for file in files_of(given) for one in read_prompts(file, reject)[1])
    for one in islice(found, limit or None):
        known = {name: one.item[name] for name in KEPT if isinstance(one.item.get(name), (str, int))}
        yield known | {"prompt": one.prompt.plain()}


class Outputs:
    """Files of JSON lines that appear whole, with how many rows each got and what went wrong how often."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names
        self.counts: dict[str, int] = dict.fromkeys(names, 0)
        self.reasons: dict[str, int] = {}

    def __enter__(self) -> Outputs:
        self._paths = [atomic_path(self._folder / f"{name}.jsonl") for name in self._names]
        self._files = {
            name: path.__enter__().open("w", encoding="utf-8")
            for name, path in zip(self._names, self._paths, strict=True)
        }
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._files.values():
            handle.close()
        for path in self._paths:
            path.__exit__(*error)

    def reject(self, row: Broken) -> None:
        """Keep a row that could not be read."""
        self.fail({"source": row.file, "line": row.line, "excerpt": row.excerpt}, row.reason)

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Write one row."""
        self._files[name].write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
        self.counts[name] += 1

    def fail(self, row: Mapping[str, Any], reason: str) -> None:
        """Keep a row that came to nothing, with the reason: a code, a colon, and more."""
        code = reason.partition(":")[0] if " " not in reason.partition(":")[0] else "no_reply"
        self.reasons[code] = self.reasons.get(code, 0) + 1
        self.add("failed", {**row, "reason": reason})

    def results(self, needed: str) -> dict[str, int]:
        """The counts, for the manifest. Raises `RunFailed` if nothing stands in the file that matters."""
        if not self.counts[needed]:
            raise RunFailed(
                tr("Nothing came of this that could be learned from.", "没有得到任何可供学习的数据。"),
                found=", ".join(f"{name} {count}" for name, count in sorted(self.reasons.items())) or None,
                where=self._folder / "failed.jsonl",
            )
        return self.counts | {f"failed.{name}": count for name, count in sorted(self.reasons.items())}
