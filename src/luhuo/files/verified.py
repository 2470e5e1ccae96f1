"""Remembering which large files were checked against their digest, so that loading does not hash them again."""

from __future__ import annotations

import contextlib
from pathlib import Path

from luhuo.core.atomic import write_text
from luhuo.core.digest import file_digest, value_digest
from luhuo.files.cache import cache_folder


def is_right(path: Path, sha256: str) -> bool:
    """Whether a file has this digest. It is read once; after that its size and time of change stand for it."""
    status = path.stat()
    key = value_digest([str(path.resolve()), sha256, status.st_size, status.st_mtime_ns])
    mark = cache_folder() / "verified" / key
    if mark.is_file():
        return True
    if file_digest(path) != sha256:
        return False
    with contextlib.suppress(OSError):  # a cache that cannot be written to costs time, not correctness
        write_text(mark, "")
    return True
