"""Reading safetensors: names, dtypes, shapes, byte ranges, and tensors that are mapped, not copied.

Layout: length of the header u64 (little endian), the header in JSON, the data. The file is not trusted: the header is
read where it lies, an entry at a time, by a grammar that admits nothing else, so that what a parse keeps is bounded by
the file's size; ranges must fill the data without a gap or an overlap, as the format demands.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.mapped import map_file

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""

LONGEST_NAME = 4096
LARGEST = 2**60
"""Elements no tensor has."""
FREE_BYTES = 16_384
"""What the index of any file may take, however small the file is."""
TENSOR_COST, METADATA_COST = 560, 330
"""Upper bounds of what one entry takes in memory beside its name."""

DTYPES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}
"""Name in the header: (torch's name, bytes)."""

STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
"""Possessive: a match of a long text keeps nothing to go back to."""
ENTRY = re.compile(
    rb'\{(?:\s*"(?:dtype|shape|data_offsets)"\s*:\s*(?:"\w{1,16}"|\[[\d,\s]{0,400}\])\s*(?:,(?!\s*\})|(?=\}))){3}\}'
)
COLON, COMMA, OPEN, CLOSE = (re.compile(rb"\s*" + re.escape(mark) + rb"\s*") for mark in (b":", b",", b"{", b"}"))
ENTRY_LIMIT = 1600
"""Bytes looked at for one tensor's entry."""


class TensorRange(NamedTuple):
    """Where a tensor lies."""

    dtype: str
    """As the header names it: F32, BF16, …"""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    bytes: int


class Texts(Mapping[str, str]):
    """The file's free metadata, decoded when asked for. `LuhuoError` if a text is not valid."""

    def __init__(self, header: _Header, places: dict[str, tuple[int, int]]) -> None:
        self._header, self._places = header, places

    def __getitem__(self, key: str) -> str:
        start, end = self._places[key]
        return self._header.text(start, end, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Safetensors:
    """An opened file: `tensors` ({name: TensorRange} in the header's order), `metadata`, `tensor(name)`.

    Opening checks the whole header and reads no data. Raises `LuhuoError` for anything that is not a sound file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._map = map_file(self.path, "safetensors")
        header = _Header(self._map, self.path)
        self.tensors, places = header.read()
        self.metadata: Mapping[str, str] = Texts(header, places)

    def tensor(self, name: str) -> Tensor:
        """A tensor over the mapped file, read from the disk when touched; what is written to it stays in memory."""
        import torch

        dtype, shape, offset, count = self.tensors[name]
        kind, size = getattr(torch, DTYPES[dtype][0]), DTYPES[dtype][1]
        if not count:
            return torch.empty(shape, dtype=kind)
        if offset % size:  # legal in the format, not for processors that want numbers aligned
            return torch.frombuffer(bytearray(self._map[offset : offset + count]), dtype=kind).view(shape)
        return torch.frombuffer(self._map, dtype=kind, count=count // size, offset=offset).view(shape)

    def release(self) -> None:
        """Take what was read out of memory, where the system can; it is read again when it is touched.

        What was written to a tensor is lost.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class _Header:
    """The header's grammar over the mapped bytes."""

    def __init__(self, view: mmap.mmap, path: Path) -> None:
        self.view, self.path, self.size = view, path, len(view)
        length = struct.unpack_from("<Q", view, 0)[0] if self.size >= 8 else 0
        if self.size < 8 or length > min(self.size - 8, LONGEST_HEADER):
            raise self._cut_off(None, 8 + length)
        self.at, self.end = 8, 8 + length
        self.budget = 2 * self.size + FREE_BYTES

    def error(self, problem: str, where: str | None = None, **details: Any) -> LuhuoError:
        place = f"{self.path}: {where}" if where else str(self.path)
        fix = tr("Download the file again, or save the model anew.", "请重新下载该文件，或重新保存模型。")
        return LuhuoError(problem, where=place, fix=fix, **details)

    def read(self) -> tuple[dict[str, TensorRange], dict[str, tuple[int, int]]]:
        """All tensors, offsets counted from the start of the file, and the places of the free metadata."""
        tensors: dict[str, TensorRange] = {}
        places: dict[str, tuple[int, int]] = {}
        seen_metadata = False
        for name in self._members():
            if name == "__metadata__" and not seen_metadata:
                seen_metadata = True
                self._metadata(places)
            elif name in tensors or name == "__metadata__":
                raise self.error(tr("A name occurs twice.", "名称重复。"), name)
            else:
                self._charge(sys.getsizeof(name) + TENSOR_COST, name)
                tensors[name] = self._entry(name)
        if self.view[self.at : self.end].strip(b" \t\r\n"):
            raise self._malformed()
        self._check_cover(tensors)
        return tensors, places

    def text(self, start: int, end: int, where: str) -> str:
        """The JSON string between two places, quotes included."""
        try:
            text = json.loads(self.view[start:end])
            text.encode()  # JSON admits half characters (lone surrogates); text does not
        except (ValueError, UnicodeError):
            problem = tr("A string in the header is not valid text.", "文件头里的字符串不是合法文本。")
            raise self.error(problem, where) from None
        return text

    def _members(self) -> Iterator[str]:
        """The keys of an object; the caller takes each value before asking for the next key."""
        self._take(OPEN)
        if CLOSE.match(self.view, self.at, self.end):
            self._take(CLOSE)
            return
        while True:
            start, end = self._take(STRING)
            label = f"byte {start}"
            if end - start > LONGEST_NAME:
                raise self.error(tr("A name in the header is too long.", "文件头里的名称过长。"), label)
            name = self.text(start, end, label)
            self._take(COLON)
            yield name
            if not COMMA.match(self.view, self.at, self.end):
                self._take(CLOSE)
                return
            self._take(COMMA)

    def _metadata(self, places: dict[str, tuple[int, int]]) -> None:
        for key in self._members():
            self._charge(sys.getsizeof(key) + METADATA_COST, key)
            places[key] = self._take(STRING)

    def _entry(self, name: str) -> TensorRange:
        match = ENTRY.match(self.view, self.at, min(self.at + ENTRY_LIMIT, self.end))
        if not match:
            raise self._malformed(name)
        self.at = match.end()
        try:
            entry = json.loads(match[0])
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            size = DTYPES[dtype][1] * math.prod(shape)
        except (ValueError, KeyError, TypeError):
            raise self._malformed(name, match[0].decode("ascii", "replace")) from None
        if math.prod(max(1, length) for length in shape) >= LARGEST:  # may be, if another dimension is zero
            problem = tr("A tensor's dimensions are absurd.", "张量的维度大得离谱。")
            raise self.error(problem, name, found=shape)
        if end - begin != size:
            raise self.error(
                tr("A tensor has another number of bytes than its shape.", "张量的字节数与其形状不符。"),
                name,
                expected=f"{dtype} {shape}: {size}",
                found=end - begin,
            )
        return TensorRange(dtype, tuple(shape), self.end + begin, size)

    def _check_cover(self, tensors: Mapping[str, TensorRange]) -> None:
        at = self.end
        for name, (_, _, offset, count) in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].bytes)):
            if offset + count > self.size:
                raise self._cut_off(name, offset + count)
            if offset != at:
                problem = tr("The tensors' data have gaps or overlap.", "张量数据有空隙或重叠。")
                raise self.error(problem, name, expected=at, found=offset)
            at += count
        if at != self.size:
            problem = tr("There are bytes behind the last tensor.", "最后一个张量之后还有字节。")
            raise self.error(problem, expected=at, found=self.size)

    def _take(self, pattern: re.Pattern[bytes]) -> tuple[int, int]:
        match = pattern.match(self.view, self.at, self.end)
        if not match:
            raise self._malformed()
        self.at = match.end()
        return match.span()

    def _charge(self, cost: int, where: str) -> None:
        self.budget -= cost
        if self.budget < 0:
            problem = tr(
                "The header has more entries than the file's size justifies.", "文件头条目多得与文件大小不符。"
            )
            raise self.error(problem, where)

    def _cut_off(self, where: str | None, end: int) -> LuhuoError:
        return self.error(
            tr("The safetensors file is cut off or damaged.", "safetensors 文件被截断或已损坏。"),
            where,
            expected=tr(f"{end} bytes", f"{end} 字节"),
            found=tr(f"{self.size} bytes", f"{self.size} 字节"),
        )

    def _malformed(self, where: str | None = None, found: str | None = None) -> LuhuoError:
        return self.error(
            tr("The header of the safetensors file is malformed or damaged.", "safetensors 文件头格式错误或已损坏。"),
            where or f"byte {self.at}",
            expected='{"name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}, …}',
            found=found or repr(self.view[self.at : min(self.at + 40, self.end)]),
        )
