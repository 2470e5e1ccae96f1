"""Mutations of a small file, and what every reader of untrusted files must hold for each of them."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from luhuo.core.errors import LuhuoError

CONSTANT = 32_768
"""What a parse may take beside twice the file's size."""

ABSURD = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def mutate(data: bytes, random: random.Random) -> bytes:
    """One to three of: a flipped bit, another byte, a cut, an absurd length, bytes put in, taken out, or repeated."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(max(1, len(found)))
        kind = random.randrange(8)
        if kind == 0 and found:
            found[at] ^= 1 << random.randrange(8)
        elif kind == 1 and found:
            found[at] = random.randrange(256)
        elif kind == 2:
            del found[at:]
        elif kind == 3:
            found[at : at + 8] = struct.pack("<Q", random.choice(ABSURD))
        elif kind == 4:
            found[at : at + 4] = struct.pack("<I", random.choice(ABSURD) & 0xFFFFFFFF)
        elif kind == 5:
            found[at:at] = random.randbytes(random.randrange(1, 40))
        elif kind == 6:
            del found[at : at + random.randrange(1, 40)]
        else:
            other = random.randrange(max(1, len(found)))
            found[at:at] = found[other : other + random.randrange(1, 200)]
    return bytes(found)


def check_mutations(
    data: bytes, folder: Path, count: int, parse: Callable[[Path], object], use: Callable[[object], None]
) -> tuple[int, int]:
    """(mutations that parsed, that were refused). Every other outcome, or too much memory in a parse, fails.

    `parse` is measured; `use` reads all that the parsed file offers and may refuse single parts with `LuhuoError`.
    """
    chance, file = random.Random(20_26), folder / "mutated"
    parsed = refused = 0
    tracemalloc.start()
    try:
        for number in range(count):
            mutated = mutate(data, chance)
            file.unlink(missing_ok=True)  # some file systems flush a file that is overwritten, but not a new one
            file.write_bytes(mutated)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            result = None
            try:
                result = parse(file)
                parsed += 1
            except LuhuoError as error:
                assert str(file) in str(error), f"mutation {number}: the message does not name the file: {error}"
                assert error.fix is not None or "no such" in error.problem, f"mutation {number}: what to do? {error}"
                refused += 1
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak <= 2 * len(mutated) + CONSTANT, f"mutation {number}: {peak} bytes for {len(mutated)}"
            if result is not None:
                use(result)
    finally:
        tracemalloc.stop()
    return parsed, refused
