"""Progress of long work: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from luhuo.core.language import tr
from luhuo.core.processes import is_main

T = TypeVar("T")


class Progress:
    """Items, rate and time left. Use as a context manager and call `advance`."""

    def __init__(self, title: str, total: float | None = None, unit: str = "", *, every_s: float = 10.0) -> None:
        self.title, self.total, self.unit, self.every_s = title, total, unit, every_s
        self.done = 0.0
        self.note = ""
        self._bar = None
        self._task = None

    def __enter__(self) -> Progress:
        self._start = self._last = time.monotonic()
        self._first_done = self.done
        if sys.stderr.isatty() and is_main():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
            self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, state="")
        return self

    def start_from(self, done: float) -> None:
        """Count a resumed job from where it stopped, without crediting it to the rate."""
        self.done = self._first_done = done

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
        elif is_main() and time.monotonic() - self._last >= self.every_s:
            self._last = time.monotonic()
            print(f"{self.title}: {self._state()}{self._left()}", file=sys.stderr, flush=True)

    def _rate(self) -> float:
        return (self.done - self._first_done) / max(time.monotonic() - self._start, 1e-9)

    def _state(self) -> str:
        total = f"/{self.total:,.0f}" if self.total else ""
        return f"{self.done:,.0f}{total} {self.unit} {self._rate():,.1f}/s {self.note}".strip()

    def _left(self) -> str:
        if not self.total or self._rate() <= 0:
            return ""
        seconds = (self.total - self.done) / self._rate()
        return tr(f", {seconds:,.0f} s left", f"，还需 {seconds:,.0f} 秒")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def track(items: Iterable[T], title: str, total: float | None = None, unit: str = "") -> Iterator[T]:
    """Yield the items, showing progress."""
    with Progress(title, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def say(message: str) -> None:
    """Print one line to the person who waits (standard error, so that results can be piped); one process speaks."""
    if is_main():
        print(message, file=sys.stderr, flush=True)
