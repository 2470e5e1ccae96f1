"""Writing GGUF version 3, a tensor at a time: what is in memory is one piece of one tensor."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, SCALARS, TensorType, ValueType


@dataclass(frozen=True)
class Typed:
    """A metadata value with the type it is to have; for an array, the type of its elements."""

    kind: ValueType
    value: Any


@dataclass(frozen=True)
class TensorPlan:
    """A tensor to be written: `pieces()` gives its bytes in order, in pieces of any size."""

    name: str
    shape: tuple[int, ...]
    """In torch's order, the outermost dimension first."""
    kind: TensorType
    pieces: Callable[[], Iterable[bytes | np.ndarray]]

    @property
    def bytes(self) -> int:
        """Bytes of the tensor's data."""
        count = 1
        for size in self.shape:
            count *= size
        return self.kind.row_bytes(count)


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Sequence[TensorPlan],
    *,
    alignment: int = DEFAULT_ALIGNMENT,
) -> None:
    """Write a file atomically. Values are str, bool, int (UINT32 where it fits), float (FLOAT32), lists, or `Typed`.

    Lists take the type of their elements; integers in lists are INT32 where they fit, as llama.cpp has them. Raises
    `LuhuoError` if a value has no type in GGUF, a row is no whole number of blocks, or a tensor's bytes are not as
    many as its shape says.
    """
    if alignment != DEFAULT_ALIGNMENT:
        metadata = {**metadata, ALIGNMENT_KEY: alignment}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(_string(key) + _field(key, value))
        offset = 0
        for plan in tensors:
            file.write(_info(plan, offset))
            offset += plan.bytes + -plan.bytes % alignment
        _pad(file, alignment)
        for plan in tensors:
            _write_data(file, plan)
            _pad(file, alignment)


def _info(plan: TensorPlan, offset: int) -> bytes:
    width = plan.shape[-1] if plan.shape else 1
    if width % plan.kind.weights:
        raise LuhuoError(
            tr(f"A row does not fit into {plan.kind.name} blocks.", f"一行放不进整数个 {plan.kind.name} 块。"),
            expected=tr(f"a multiple of {plan.kind.weights}", f"{plan.kind.weights} 的倍数"),
            found=width,
            where=plan.name,
        )
    sizes = struct.pack(f"<I{len(plan.shape)}Q", len(plan.shape), *reversed(plan.shape))
    return _string(plan.name) + sizes + struct.pack("<IQ", plan.kind, offset)


def _write_data(file: BinaryIO, plan: TensorPlan) -> None:
    start = file.tell()
    for piece in plan.pieces():
        file.write(np.ascontiguousarray(piece).data if isinstance(piece, np.ndarray) else piece)
    if file.tell() - start != plan.bytes:
        raise LuhuoError(
            tr("A tensor has another number of bytes than its shape.", "张量的字节数与其形状不符。"),
            expected=plan.bytes,
            found=file.tell() - start,
            where=plan.name,
        )


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _field(key: str, value: Any) -> bytes:
    """Type and value of a key."""
    typed = value if isinstance(value, Typed) else Typed(_type_of(key, value), value)
    if isinstance(typed.value, (list, tuple)):
        kind = typed.kind if isinstance(value, Typed) else _element_type(key, value)
        return struct.pack("<I", ValueType.ARRAY) + _array(key, kind, typed.value)
    return struct.pack("<I", typed.kind) + _scalar(key, typed.kind, typed.value)


def _array(key: str, kind: ValueType, values: Sequence[Any]) -> bytes:
    head = struct.pack("<IQ", kind, len(values))
    if kind == ValueType.ARRAY:
        return head + b"".join(_array(key, _element_type(key, inner), inner) for inner in values)
    if kind == ValueType.STRING:
        return head + b"".join(_string(text) for text in values)
    try:
        return head + np.asarray(values, np.dtype(SCALARS[kind])).tobytes()
    except (OverflowError, ValueError, TypeError) as error:
        raise _unfit(key, kind, error) from None


def _scalar(key: str, kind: ValueType, value: Any) -> bytes:
    if kind == ValueType.STRING:
        return _string(value)
    try:
        return struct.pack(SCALARS[kind], value)
    except struct.error as error:
        raise _unfit(key, kind, error) from None


def _type_of(key: str, value: Any) -> ValueType:
    """The type a plain Python value is written in."""
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, int):
        ranges = {ValueType.UINT32: (0, 2**32), ValueType.INT32: (-(2**31), 2**31), ValueType.UINT64: (0, 2**64)}
        return next((kind for kind, (low, high) in ranges.items() if low <= value < high), ValueType.INT64)
    for python, kind in ((float, ValueType.FLOAT32), (str, ValueType.STRING), ((list, tuple), ValueType.ARRAY)):
        if isinstance(value, python):
            return kind
    raise LuhuoError(
        tr("A value of this type cannot be written to GGUF.", "GGUF 无法写入这种类型的值。"),
        expected="str, bool, int, float, list",
        found=type(value).__name__,
        where=key,
    )


def _element_type(key: str, values: Sequence[Any]) -> ValueType:
    """The one type of a list's elements; integers are INT32 where all fit, mixed numbers FLOAT32."""
    kinds = {_type_of(key, value) for value in values}
    whole = {ValueType.UINT32, ValueType.INT32, ValueType.UINT64, ValueType.INT64}
    if kinds and kinds <= whole:
        small = all(-(2**31) <= value < 2**31 for value in values)
        return ValueType.INT32 if small else ValueType.UINT64 if min(values) >= 0 else ValueType.INT64
    if kinds and kinds <= whole | {ValueType.FLOAT32}:
        return ValueType.FLOAT32
    if len(kinds) > 1:
        raise LuhuoError(
            tr("The elements of a GGUF array have one type.", "GGUF 数组的元素须为同一类型。"),
            found=", ".join(sorted(kind.name for kind in kinds)),
            where=key,
        )
    return kinds.pop() if kinds else ValueType.STRING


def _unfit(key: str, kind: ValueType, error: Exception) -> LuhuoError:
    problem = tr("A metadata value does not fit its type.", "元数据的值与其类型不符。")
    return LuhuoError(problem, expected=kind.name, found=error, where=key)
