"""Digests of files and folders: what a cache key and a manifest are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WATCH = "watch"
"""Folder of an artifact with what is only looked at: events, samples, trackers' files."""
NOT_PAYLOAD = ("manifest.json", "metrics.jsonl", "README.md", "curve.html", WATCH)
"""Files and folders of an artifact that carry times, so that equal results have equal digests without them."""


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # names of files can hold halves


def payload_files(root: Path) -> Iterable[Path]:
    """The files of a folder that count for its digest, sorted by path; logs, locks and hidden files do not."""
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        seen_only = relative.parts[0] in NOT_PAYLOAD and (len(relative.parts) == 1 or relative.parts[0] == WATCH)
        if path.is_file() and not hidden and not seen_only and path.suffix != ".log":
            yield path


def file_table(root: Path) -> dict[str, dict[str, Any]]:
    """{relative path: {"sha256", "bytes"}} of a folder's payload."""
    return {
        path.relative_to(root).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
        for path in payload_files(root)
    }


def table_digest(files: dict[str, dict[str, Any]]) -> str:
    """The digest of an artifact: SHA-256 over the sorted (path, sha256) of its payload."""
    return value_digest(sorted((name, entry["sha256"]) for name, entry in files.items()))


def path_digest(path: Path) -> str:
    """Digest of a plain file, or of a plain folder."""
    return file_digest(path) if path.is_file() else table_digest(file_table(path))
