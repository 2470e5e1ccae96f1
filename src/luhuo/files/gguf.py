"""Reading GGUF, the container of llama.cpp: metadata, tensor infos, memory-mapped tensor data.

Layout (little endian): "GGUF", version u32, tensors u64, keys u64; then each key as string, type u32, value; then each
tensor as name, dimensions u32, sizes u64 (innermost first), type u32, offset u64; then padding to the alignment, and
the data, from whose start offsets count. A string is its length u64 and its UTF-8 bytes.

The file is not trusted. Every count and length is compared with the bytes that are left before it is used, and values
are decoded when they are asked for, not while parsing: what a parse keeps is charged against twice the file's size.
"""

from __future__ import annotations

import math
import mmap
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MOST_DIMENSIONS,
    SCALARS,
    VERSIONS,
    TensorType,
    ValueType,
)
from luhuo.files.mapped import map_file

LONGEST_NAME = 1024
"""Bytes of a tensor's name. The format says 64; files of image models have been seen with twice that."""
LONGEST_KEY = 65_535
DEEPEST_ARRAY = 4
FREE_BYTES = 16_384
"""What the index of any file may take, however small the file is."""
KEY_COST, TENSOR_COST = 200, 520
"""Upper bounds of what one key, and one tensor, take in memory beside their names."""


class TensorInfo(NamedTuple):
    """Where a tensor lies. `shape` is in torch's order, the outermost dimension first."""

    name: str
    shape: tuple[int, ...]
    kind: TensorType
    offset: int
    """Bytes from the start of the file."""
    bytes: int


class Metadata(Mapping[str, Any]):
    """The keys and values of a file, in the file's order. A value is decoded each time it is asked for.

    Numbers become int, float or bool, strings str, arrays lists. `LuhuoError` if a string is not UTF-8.
    """

    def __init__(self, scanner: _Scanner, places: dict[str, int]) -> None:
        self._scanner, self._places = scanner, places

    def __getitem__(self, key: str) -> Any:
        place = self._places[key]
        return self._scanner.value(self.kind(key), place + 4, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def kind(self, key: str) -> ValueType:
        """The type a value is stored in."""
        return ValueType(self._scanner.number("<I", self._places[key]))


class GGUF:
    """An opened file: `version`, `metadata`, `tensors` ({name: TensorInfo} in the file's order), `data(name)`.

    Opening checks everything but the strings' encoding and reads no tensor data. The file stays mapped as long as
    this object or an array from `data` lives. Raises `LuhuoError` for anything that is not a sound GGUF file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._map = map_file(self.path, "GGUF")
        scanner = _Scanner(self._map, self.path)
        self.version, tensors, keys = _header(scanner)
        places = _scan_metadata(scanner, keys)
        self.metadata: Metadata = Metadata(scanner, places)
        alignment = _alignment(scanner, self.metadata)
        self.tensors = _scan_tensors(scanner, tensors, alignment)

    def data(self, name: str) -> np.ndarray:
        """The raw bytes of a tensor: uint8, one dimension, read from the disk when touched.

        What is written to them stays in memory.
        """
        info = self.tensors[name]
        return np.frombuffer(self._map, np.uint8, info.bytes, info.offset)


class _Scanner:
    """A position in the mapped file that never leaves it, and a budget of memory that grows with the file."""

    def __init__(self, view: mmap.mmap, path: Path) -> None:
        self.view, self.path, self.size, self.at = view, path, len(view), 0
        self.budget = 2 * self.size + FREE_BYTES

    def error(self, problem: str, where: str | None = None, **details: Any) -> LuhuoError:
        place = f"{self.path}: {where}" if where else str(self.path)
        fix = tr("Download the file again, or convert the model anew.", "请重新下载该文件，或重新转换模型。")
        return LuhuoError(problem, where=place, fix=fix, **details)

    def need(self, count: int, where: str) -> int:
        """Move on by `count` bytes if the file has them; return where they start."""
        start = self.at
        if count > self.size - start:
            raise self.error(
                tr("The GGUF file is cut off or damaged.", "GGUF 文件被截断或已损坏。"),
                where,
                expected=tr(f"{count} bytes from byte {start}", f"自第 {start} 字节起有 {count} 字节"),
                found=tr(f"a file of {self.size} bytes", f"文件共 {self.size} 字节"),
            )
        self.at = start + count
        return start

    def charge(self, cost: int, where: str) -> None:
        self.budget -= cost
        if self.budget < 0:
            raise self.error(
                tr("The GGUF file has more entries than its size justifies.", "GGUF 文件的条目多得与其大小不符。"),
                where,
            )

    def number(self, layout: str, place: int) -> Any:
        return struct.unpack_from(layout, self.view, place)[0]

    def take(self, layout: str, where: str) -> Any:
        return self.number(layout, self.need(struct.calcsize(layout), where))

    def name(self, longest: int, encoding: str, where: str) -> str:
        """Take a short string that is kept: a key or a tensor's name."""
        length = self.take("<Q", where)
        if length > longest:
            problem = tr("A name in the GGUF file is too long.", "GGUF 文件里的名称过长。")
            raise self.error(problem, where, expected=f"<= {longest}", found=length)
        start = self.need(length, where)
        try:
            return str(self.view[start : start + length], encoding)
        except UnicodeDecodeError as error:
            raise self._not_text(where, error) from None

    def value_type(self, where: str) -> ValueType:
        number = self.take("<I", where)
        try:
            return ValueType(number)
        except ValueError:
            problem = tr("Unknown type of metadata value.", "未知的元数据值类型。")
            raise self.error(problem, where, expected="0-12", found=number) from None

    def skip(self, kind: ValueType, where: str, depth: int = 0) -> None:
        """Move behind a value, checking all lengths in it."""
        if kind in SCALARS:
            self.need(struct.calcsize(SCALARS[kind]), where)
        elif kind == ValueType.STRING:
            self.need(self.take("<Q", where), where)
        else:
            inner, count = self.value_type(where), self.take("<Q", where)
            if depth >= DEEPEST_ARRAY:
                problem = tr("Arrays are nested too deeply.", "数组嵌套过深。")
                raise self.error(problem, where, expected=f"<= {DEEPEST_ARRAY}")
            if inner in SCALARS:
                self.need(count * struct.calcsize(SCALARS[inner]), where)
                return
            smallest = 8 if inner == ValueType.STRING else 12
            if count * smallest > self.size - self.at:
                self.need(count * smallest, where)
            for _ in range(count):
                self.skip(inner, where, depth + 1)

    def value(self, kind: ValueType, place: int, key: str) -> Any:
        """Decode a value that `skip` has passed."""
        return self._decode(kind, place, key)[0]

    def _decode(self, kind: ValueType, place: int, key: str) -> tuple[Any, int]:
        if kind in SCALARS:
            return self.number(SCALARS[kind], place), place + struct.calcsize(SCALARS[kind])
        if kind == ValueType.STRING:
            length, place = self.number("<Q", place), place + 8
            try:
                return str(self.view[place : place + length], "utf-8"), place + length
            except UnicodeDecodeError as error:
                raise self._not_text(key, error) from None
        inner, count = ValueType(self.number("<I", place)), self.number("<Q", place + 4)
        place += 12
        if inner in SCALARS:
            array = np.frombuffer(self.view, np.dtype(SCALARS[inner]), count, place)
            return array.tolist(), place + array.nbytes
        items = []
        for _ in range(count):
            item, place = self._decode(inner, place, key)
            items.append(item)
        return items, place

    def _not_text(self, where: str, error: UnicodeDecodeError) -> LuhuoError:
        return self.error(
            tr("A string in the GGUF file is not valid text.", "GGUF 文件里的字符串不是合法文本。"),
            where,
            expected=error.encoding,
            found=error.reason,
        )


def _header(scanner: _Scanner) -> tuple[int, int, int]:
    """Version, number of tensors, number of keys."""
    if scanner.view[:4] != MAGIC:
        raise scanner.error(
            tr("This is not a GGUF file.", "这不是 GGUF 文件。"), expected=MAGIC, found=scanner.view[:4]
        )
    scanner.at = 4
    version = scanner.take("<I", "version")
    if version not in VERSIONS:
        swapped = version & 0xFFFF == 0 and version != 0
        raise scanner.error(
            tr("This GGUF file is big-endian, which is not read.", "不读取大端序的 GGUF 文件。")
            if swapped
            else tr("This version of GGUF is not read.", "不读取这个版本的 GGUF。"),
            "version",
            expected="2, 3",
            found=version,
        )
    tensors, keys = scanner.take("<Q", "tensor count"), scanner.take("<Q", "key count")
    left = scanner.size - scanner.at
    if tensors * 24 + keys * 13 > left:  # the least that a tensor's info and a key take
        raise scanner.error(
            tr("The GGUF header names more entries than the file can hold.", "GGUF 文件头所列条目超出文件容量。"),
            found=tr(
                f"{tensors} tensors, {keys} keys in {left} bytes", f"{left} 字节中有 {tensors} 个张量、{keys} 个键"
            ),
        )
    return version, tensors, keys


def _scan_metadata(scanner: _Scanner, count: int) -> dict[str, int]:
    """{key: place of its type}; every value is walked through."""
    places: dict[str, int] = {}
    for index in range(count):
        key = scanner.name(LONGEST_KEY, "ascii", tr(f"key {index}", f"第 {index} 个键"))
        scanner.charge(sys.getsizeof(key) + KEY_COST, key)
        if key in places:
            raise scanner.error(tr("A metadata key occurs twice.", "元数据键重复。"), key)
        places[key] = scanner.at
        scanner.skip(scanner.value_type(key), key)
    return places


def _alignment(scanner: _Scanner, metadata: Metadata) -> int:
    if ALIGNMENT_KEY not in metadata:
        return DEFAULT_ALIGNMENT
    kind = metadata.kind(ALIGNMENT_KEY)
    value = metadata[ALIGNMENT_KEY] if kind == ValueType.UINT32 else 0
    if value < 1 or value & (value - 1):
        problem = tr("The alignment is not a power of two (UINT32).", "对齐值不是 2 的幂（UINT32）。")
        raise scanner.error(problem, ALIGNMENT_KEY, found=f"{kind.name} {value}")
    return value


def _scan_tensors(scanner: _Scanner, count: int, alignment: int) -> dict[str, TensorInfo]:
    """{name: TensorInfo}, offsets counted from the start of the file, each in range and no two overlapping."""
    tensors: dict[str, TensorInfo] = {}
    for index in range(count):
        label = tr(f"tensor {index}", f"第 {index} 个张量")
        name = scanner.name(LONGEST_NAME, "utf-8", label)
        scanner.charge(sys.getsizeof(name) + TENSOR_COST, name)
        if name in tensors:
            raise scanner.error(tr("A tensor's name occurs twice.", "张量重名。"), name)
        tensors[name] = _tensor(scanner, name, alignment)
    start = scanner.at + -scanner.at % alignment
    end = 0
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        if info.offset + info.bytes > scanner.size - start:
            raise scanner.error(
                tr("A tensor's data lies beyond the end of the file.", "张量数据超出文件末尾。"),
                tr(f"tensor {info.name}", f"张量 {info.name}"),
                expected=tr(f"{start + info.offset + info.bytes} bytes", f"{start + info.offset + info.bytes} 字节"),
                found=tr(f"a file of {scanner.size} bytes", f"文件共 {scanner.size} 字节"),
            )
        if info.bytes and info.offset < end:
            problem = tr("The data of two tensors overlap.", "两个张量的数据重叠。")
            raise scanner.error(problem, tr(f"tensor {info.name}", f"张量 {info.name}"))
        end = max(end, info.offset + info.bytes)
    for name, info in tensors.items():
        tensors[name] = info._replace(offset=start + info.offset)
    return tensors


def _tensor(scanner: _Scanner, name: str, alignment: int) -> TensorInfo:
    where = tr(f"tensor {name}", f"张量 {name}")
    dimensions = scanner.take("<I", where)
    if dimensions > MOST_DIMENSIONS:
        problem = tr("A tensor has too many dimensions.", "张量维数过多。")
        raise scanner.error(problem, where, expected=f"<= {MOST_DIMENSIONS}", found=dimensions)
    sizes = [scanner.take("<Q", where) for _ in range(dimensions)]
    number = scanner.take("<I", where)
    try:
        kind = TensorType(number)
    except ValueError:
        raise scanner.error(
            tr("Unknown type of tensor data.", "未知的张量数据类型。"),
            where,
            expected=", ".join(kind.name for kind in TensorType),
            found=number,
        ) from None
    offset = scanner.take("<Q", where)
    if offset % alignment:
        problem = tr("A tensor's data is not aligned.", "张量数据没有对齐。")
        raise scanner.error(
            problem, where, expected=tr(f"a multiple of {alignment}", f"{alignment} 的倍数"), found=offset
        )
    if 0 in sizes:
        raise scanner.error(tr("A tensor has a dimension of size zero.", "张量有大小为零的维。"), where, found=sizes)
    weights = math.prod(sizes)  # Python's integers do not overflow
    width = sizes[0] if sizes else 1
    if width % kind.weights:
        problem = tr(
            f"A row of {width} is no whole number of {kind.name} blocks.",
            f"行宽 {width} 不是 {kind.name} 块的整数倍。",
        )
        raise scanner.error(problem, where, expected=tr(f"a multiple of {kind.weights}", f"{kind.weights} 的倍数"))
    return TensorInfo(name, tuple(reversed(sizes)), kind, offset, kind.row_bytes(weights))
