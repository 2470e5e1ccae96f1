"""Where a worker is: the record it works on, in a few bytes that outlive the process."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path

PLACE = struct.Struct("<qd")
"""Record number, and the time at which it began, in seconds."""


class Died(Exception):
    """A worker ended or was ended; `record` is the one it worked on, -1 if it had not begun."""

    def __init__(self, record: int, why: str) -> None:
        super().__init__(why)
        self.record, self.why = record, why


@dataclass(frozen=True)
class Watch:
    """What a working function is given: which records to leave out, and where to say how far it is."""

    folder: Path
    unit: str
    careful: bool = False
    """One record at a time: what ends the process now is that record."""
    skips: frozenset[int] = frozenset()
    """Records that ended their process before."""

    def at(self, record: int) -> None:
        """Say that work on this record begins (counted from 0 in the unit)."""
        place = place_of(self.folder, self.unit)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(PLACE.pack(record, time.time()))


def place_of(folder: Path, unit: str) -> Path:
    """The file that says where a unit is."""
    return folder / ".at" / unit


def read_place(folder: Path, unit: str) -> tuple[int, float]:
    """(record, second it began); (-1, now) where work has not begun."""
    try:
        record, began = PLACE.unpack(place_of(folder, unit).read_bytes())
    except (FileNotFoundError, struct.error):
        return -1, time.time()
    return record, began
