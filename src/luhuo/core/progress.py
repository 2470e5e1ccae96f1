"""Progress of long work: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from luhuo.core.language import tr
from luhuo.core.processes import is_main

T = TypeVar("T")

SLOWEST_S = 60.0
"""Lines of a long job come at most this far apart."""
LINES = 20
"""A job has written about this many lines when they begin to come less often."""


class Progress:
    """Items, rate and time left. Use as a context manager and call `advance`.

    Without a terminal a line is printed every `every_s` seconds, less often as the job grows long. `log` is a file
    that gets these lines, with the time in front, whether there is a terminal or not.
    """

    def __init__(
        self,
        title: str,
        total: float | None = None,
        unit: str = "",
        *,
        every_s: float = 10.0,
        log: Path | None = None,
    ) -> None:
        self.title, self.total, self.unit, self.every_s, self.log = title, total, unit, every_s, log
        self.done = 0.0
        self.note = ""
        self._bar = None
        self._task = None

    def __enter__(self) -> Progress:
        self._start = self._last = time.monotonic()
        self._first_done = self._told = self.done
        if sys.stderr.isatty() and is_main():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            short = Column(no_wrap=True, overflow="ellipsis")  # a narrow terminal cuts the note, not the time left
            state = TextColumn("{task.fields[state]}", markup=False, table_column=short)
            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=16), state)
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, state="")
        return self

    def start_from(self, done: float) -> None:
        """Count a resumed job from where it stopped, without crediting it to the rate."""
        self.done = self._first_done = self._told = done

    def expect(self, total: float) -> None:
        """Say how much there is in all, where it becomes known only after the start."""
        self.total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` more items; `note` is shown behind the rate (a loss, a file name)."""
        self.done += amount
        self.note = note or self.note
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, state=self._state())
        now = time.monotonic()
        if is_main() and now - self._last >= max(self.every_s, min(SLOWEST_S, (now - self._start) / LINES)):
            self._last = now
            self._line()

    def _line(self) -> None:
        self._told = self.done
        line = f"{self.title}: {self._state()}"
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        if self.log is not None:
            append_line(self.log, line)

    def _rate(self) -> float:
        return (self.done - self._first_done) / max(time.monotonic() - self._start, 1e-9)

    def _state(self) -> str:
        total = f"/{self.total:,.0f}" if self.total else ""
        comma = tr(", ", "，")
        counts = f"{self.done:,.0f}{total} {self.unit} {self._rate():,.1f}/s{self._left()}"
        return counts + (f"{comma}{self.note}" if self.note else "")

    def _left(self) -> str:
        if not self.total or self._rate() <= 0 or self.done >= self.total:
            return ""
        left = clock((self.total - self.done) / self._rate())
        return tr(f", {left} left", f"，还需 {left}")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.log is not None and self.done > self._told and is_main():
            append_line(self.log, f"{self.title}: {self._state()}")


def track(items: Iterable[T], title: str, total: float | None = None, unit: str = "") -> Iterator[T]:
    """Yield the items, showing progress."""
    with Progress(title, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def clock(seconds: float) -> str:
    """A length of time as people read it: 42 s, 3:07, 2:03:07."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return tr(f"{rest} s", f"{rest} 秒")
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def append_line(log: Path, line: str) -> None:
    """Append one line to a log file, with the time in front."""
    with log.open("a", encoding="utf-8") as handle:
        handle.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")


def say(message: str) -> None:
    """Print one line to the person who waits (standard error, so that results can be piped); one process speaks."""
    if is_main():
        print(message, file=sys.stderr, flush=True)
