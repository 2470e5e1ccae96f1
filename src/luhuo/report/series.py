"""What a run has written so far, read piece by piece and kept in bounded memory, however long the run is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luhuo.core.digest import WATCH

MOST_POINTS = 1500
"""Of one curve; beyond, neighbours are merged in pairs."""
MOST_EVENTS = 500
MOST_SAMPLES = 400
TAIL = 64
"""Bytes before the place read last that must still be the same, or the file has been cut back and is read again."""
QUIET_S = 180.0
"""A run that has written nothing for so long is not called running."""
PLACES = ("step", "tokens", "seconds")
FACTS = ("steps", "parameters", "device", "ranks")
FILES = ("events.jsonl", "samples.jsonl")


@dataclass
class Series:
    """One curve: places on the x axes, and mean, least and greatest value of the steps behind each point."""

    rows: list[list[float]] = field(default_factory=list)
    """[step, tokens, seconds, sum, count, low, high]; the places are those of the last step in it."""
    per_point: int = 1

    def add(self, places: tuple[float, float, float], value: float) -> None:
        """Append the value of a later step; what is not finite leaves a gap."""
        if not math.isfinite(value):
            return
        if self.rows and self.rows[-1][4] < self.per_point:
            last = self.rows[-1]
            last[:3] = places
            last[3] += value
            last[4] += 1
            last[5], last[6] = min(last[5], value), max(last[6], value)
        else:
            self.rows.append([*places, value, 1, value, value])
        if len(self.rows) > MOST_POINTS:
            self._halve()

    def _halve(self) -> None:
        merged = []
        for i in range(0, len(self.rows), 2):
            *_, last = pair = self.rows[i : i + 2]
            total, count = sum(row[3] for row in pair), sum(row[4] for row in pair)
            merged.append([*last[:3], total, count, min(row[5] for row in pair), max(row[6] for row in pair)])
        self.rows = merged
        self.per_point *= 2

    def columns(self) -> dict[str, list[float]]:
        """Lists of equal length for the page; `low` and `high` only where points stand for several steps."""
        found = {name: [row[i] for row in self.rows] for i, name in enumerate(PLACES)}
        found["value"] = [_short(row[3] / row[4]) for row in self.rows]
        if self.per_point > 1:
            found |= {"low": [_short(row[5]) for row in self.rows], "high": [_short(row[6]) for row in self.rows]}
        return found


class Lines:
    """The JSON lines of a file that grows, each given once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restart()

    def restart(self) -> None:
        """Begin at the front again."""
        self._offset, self._tail = 0, b""

    def cut_back(self) -> bool:
        """Whether what was read is no longer there."""
        try:
            with self.path.open("rb") as handle:
                handle.seek(max(0, self._offset - TAIL))
                same = handle.read(min(TAIL, self._offset)) == self._tail
        except FileNotFoundError:
            same = self._offset == 0
        return not same

    def new(self) -> Iterator[dict[str, Any]]:
        """Complete lines since the last call; what is no JSON object is passed over."""
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return
        with handle:
            handle.seek(self._offset)
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._tail = (self._tail + line)[-TAIL:]
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row


class RunLog:
    """The curves, events and samples of one run's folder. `refresh` reads what is new."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._files = [Lines(folder / "metrics.jsonl"), *(Lines(folder / WATCH / f) for f in FILES)]
        self._clear()

    def _clear(self) -> None:
        self.series: dict[str, Series] = {}
        self.events: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.place = (0.0, 0.0, 0.0)

    def refresh(self) -> bool:
        """Read what was written since the last call; whether there was anything."""
        if any(file.cut_back() for file in self._files):
            for file in self._files:
                file.restart()
            self._clear()
        changed = False
        for file, take in zip(self._files, (self._metrics, self._event, self._sample), strict=True):
            for row in file.new():
                take(row)
                changed = True
        return changed

    def data(self, live: bool | None = None) -> dict[str, Any]:
        """JSON value for the page. `live`: whether the run goes on, where the caller knows."""
        kinds = [event["kind"] for event in self.events]
        facts: dict[str, Any] = {}
        for event in self.events:
            facts |= {key: event[key] for key in FACTS if key in event}
        state = {"finish": "finished", "stop": "stopped"}.get(kinds[-1] if kinds else "", "stopped")
        if live or (live is None and state == "stopped" and (not kinds or kinds[-1] != "stop") and self._fresh()):
            state = "running"
        if (self.folder / "manifest.json").is_file():
            state = "finished"
        return {
            "name": self.name,
            "state": state,
            "place": dict(zip(PLACES, self.place, strict=True)),
            "facts": facts,
            "series": {name: series.columns() for name, series in self.series.items()},
            "events": [event for event in self.events if event["kind"] not in ("start", "finish")],
            "samples": self.samples,
        }

    def _fresh(self) -> bool:
        return time.time() - (self.folder / "metrics.jsonl").stat().st_mtime < QUIET_S

    def _metrics(self, row: dict[str, Any]) -> None:
        step, tokens, seconds = (_number(row.get(name)) for name in PLACES)
        if step is None:
            return
        # Held-out scores come without a clock of their own: they belong to the step before them.
        tokens = self.place[1] if tokens is None else tokens
        self.place = (step, tokens, self.place[2] if seconds is None else seconds)
        for name, value in row.items():
            number = _number(value)
            if name not in PLACES and number is not None:
                self.series.setdefault(str(name), Series()).add(self.place, number)

    def _event(self, row: dict[str, Any]) -> None:
        if isinstance(row.get("kind"), str):
            self.events = [*self.events, row][-MOST_EVENTS:]

    def _sample(self, row: dict[str, Any]) -> None:
        if isinstance(row.get("text"), str) and isinstance(row.get("prompt"), str):
            self.samples = [*self.samples, row][-MOST_SAMPLES:]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _short(value: float) -> float:
    return float(f"{value:.6g}")
