"""Reading the protobuf wire format of untrusted files: fields by number, every length checked before it is used.

Source: Protocol Buffers documentation, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10

Value = int | bytes


class WireError(ValueError):
    """The bytes are no protobuf message."""


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Field number and value of each field in order; fixed-width values come as their raw bytes.

    Raises `WireError` for a length beyond the end, an over-long number, or a wire type that is not used any more.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError(f"field number 0 at byte {at}")
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"wire type {wire} at byte {at}")
        if size > len(data) - at:
            raise WireError(f"field {number} needs {size} bytes at byte {at}, {len(data) - at} are left")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(MAX_VARINT_BYTES):
        if at + i >= len(data):
            raise WireError("the file ends inside a number")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + i + 1
    raise WireError(f"a number longer than {MAX_VARINT_BYTES} bytes at byte {at}")


def as_text(value: Value) -> str:
    """A string field. Raises `WireError` if it is none."""
    if not isinstance(value, bytes):
        raise WireError("a text field holds a number")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"a text field is not UTF-8: {error}") from None


def as_bytes(value: Value) -> bytes:
    """A bytes or message field. Raises `WireError` if it is none."""
    if not isinstance(value, bytes):
        raise WireError("a bytes field holds a number")
    return value


def as_int(value: Value) -> int:
    """An int32, enum or bool field, negative numbers included. Raises `WireError` if it is none."""
    if not isinstance(value, int):
        raise WireError("a number field holds bytes")
    return value - (1 << 64) if value >> 63 else value


def as_float(value: Value) -> float:
    """A float field. Raises `WireError` if it is none."""
    if not isinstance(value, bytes) or len(value) != 4:
        raise WireError("a float field is not four bytes long")
    return struct.unpack("<f", value)[0]
