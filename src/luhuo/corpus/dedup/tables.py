"""Columns of numbers between the steps of deduplication: one file, mapped, named by the algorithm that made it.

Layout: one line of JSON ({"algorithm", "bytes", "columns": {name: [dtype, shape, offset]}}), then the columns, each
at a multiple of 64 bytes. A file that is shorter than its header says, or made by another algorithm, is an error:
numbers of two kinds must not be compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

ALIGNMENT = 64
LONGEST_HEADER = 65_536
SUFFIX = ".columns"

Column = NDArray[Any]


def write_columns(path: Path, algorithm: str, columns: Mapping[str, Column]) -> None:
    """Write columns atomically; equal columns give equal bytes."""
    places: dict[str, list[object]] = {}
    offset = 0
    for name, column in columns.items():
        places[name] = [column.dtype.str, list(column.shape), offset]
        offset += -(-column.nbytes // ALIGNMENT) * ALIGNMENT
    header = json.dumps({"algorithm": algorithm, "bytes": offset, "columns": places}).encode()
    header += b" " * (-(len(header) + 1) % ALIGNMENT) + b"\n"
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(header)
        for column in columns.values():
            handle.write(np.ascontiguousarray(column).data)
            handle.write(bytes(-column.nbytes % ALIGNMENT))


def read_columns(path: Path, algorithm: str) -> dict[str, Column]:
    """The columns of a file, mapped into memory. Raises `LuhuoError` if it is damaged or of another algorithm."""
    try:
        with path.open("rb") as handle:
            line = handle.readline(LONGEST_HEADER)
        header = json.loads(line)
        found, size, places = header["algorithm"], header["bytes"], header["columns"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if found != algorithm:
        raise LuhuoError(
            tr("These signatures were made by another algorithm.", "这些签名由另一种算法生成。"),
            expected=algorithm,
            found=found,
            where=path,
            fix=tr("Run the stage that wrote them again with --force.", "请用 --force 重新运行写出它们的阶段。"),
        )
    if path.stat().st_size != len(line) + size:
        raise _damaged(path, tr(f"{path.stat().st_size} bytes", f"{path.stat().st_size} 字节"), len(line) + size)
    whole = np.memmap(path, np.uint8, "r")  # one mapping a file: the system allows only so many
    columns: dict[str, Column] = {}
    for name, (kind, shape, offset) in places.items():
        begin = len(line) + offset
        count = math.prod(shape) * np.dtype(kind).itemsize
        columns[name] = whole[begin : begin + count].view(np.dtype(kind)).reshape(shape)
    return columns


def _damaged(path: Path, found: str, expected: int | None = None) -> LuhuoError:
    return LuhuoError(
        tr("An intermediate file of the deduplication is damaged.", "去重的中间文件已损坏。"),
        expected=None if expected is None else tr(f"{expected} bytes", f"{expected} 字节"),
        found=found,
        where=path,
        fix=tr("Run the same command again: it is made anew.", "请重新运行同一命令：该文件会重新生成。"),
    )
