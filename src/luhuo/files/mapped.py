"""Files in memory: mapped, so that only what is touched is read."""

from __future__ import annotations

import mmap
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr


def map_file(path: Path, expected: str) -> mmap.mmap:
    """The whole file, private: what is written to the bytes stays in memory. `expected` names the format in messages.

    Raises `LuhuoError` if it is missing, empty, or cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), expected=expected, where=path) from None
    except (ValueError, OSError) as error:  # ValueError: an empty file cannot be mapped
        raise LuhuoError(
            tr("This file cannot be read.", "无法读取该文件。"),
            expected=expected,
            found=error,
            where=path,
            fix=tr("Download the file again.", "请重新下载该文件。"),
        ) from None
