"""The visible alphabet of byte-level tokenizers: each byte as one printable character (Radford et al. 2019)."""

from __future__ import annotations

import functools

SELF = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
"""Bytes that are written as themselves; the others are shifted to U+0100 and up."""


@functools.cache
def byte_of() -> dict[str, int]:
    """{visible character: byte}."""
    hidden = [b for b in range(256) if b not in SELF]
    return {chr(b): b for b in SELF} | {chr(0x100 + i): b for i, b in enumerate(hidden)}


@functools.cache
def _character_of() -> list[str]:
    table = {byte: character for character, byte in byte_of().items()}
    return [table[b] for b in range(256)]


def visible(data: bytes) -> str:
    """The bytes written in the visible alphabet."""
    table = _character_of()
    return "".join([table[b] for b in data])
