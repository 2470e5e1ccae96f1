"""Watching a guest from outside: time, memory, processes, disk, and what it says, each up to its limit."""

from __future__ import annotations

import os
import selectors
import time
from typing import Any

from . import family

CHUNK = 65536
EVERY_S = 0.05
"""Seconds between two looks at memory, processes and disk."""
LAST_WORDS_S = 1.0
"""Seconds in which the pipes of ended processes are emptied."""


class Watch:
    """Feeds a guest and collects what it says until it ends or goes beyond a limit."""

    def __init__(self, limits: dict[str, Any], given: bytes, answers: int, box: str | None) -> None:
        self.limits, self.given, self.answers, self.box = limits, given, answers, box
        self.said: dict[str, bytearray] = {name: bytearray() for name in ("stdout", "stderr", "answers", "report")}
        self.verdict = ""
        self.peak = 0
        self._choose = selectors.DefaultSelector()
        self._deadline = 0.0

    def run(self, writing: int, reading: dict[str, int]) -> None:
        """Until the guest's keeper has reported and closed its pipe, or a limit is passed (`verdict` says which).

        `writing` feeds the guest's standard input; `reading` are pipes by name. All are closed at the end of `rest`.
        """
        os.set_blocking(writing, False)
        self._choose.register(writing, selectors.EVENT_WRITE, "stdin")
        for name, pipe in reading.items():
            os.set_blocking(pipe, False)
            self._choose.register(pipe, selectors.EVENT_READ, name)
        looked = time.monotonic()
        self._deadline = looked + self.limits["seconds"]
        while not self.verdict and "report" in self._open():
            now = time.monotonic()
            if now >= self._deadline:
                self.verdict = "time"
            elif now >= looked + EVERY_S:
                looked = now
                self._look()
            else:
                self._serve(min(looked + EVERY_S, self._deadline) - now)

    def rest(self) -> None:
        """What is still in the pipes after every process has ended."""
        until = time.monotonic() + LAST_WORDS_S
        while set(self._open()) - {"stdin"} and time.monotonic() < until:
            self._serve(0.01)
        for key in list(self._choose.get_map().values()):
            self._close(key.fd)

    def _open(self) -> list[str]:
        return [str(key.data) for key in self._choose.get_map().values()]

    def _close(self, pipe: int) -> None:
        self._choose.unregister(pipe)
        os.close(pipe)

    def _serve(self, seconds: float) -> None:
        for key, _ in self._choose.select(seconds):
            if key.data == "stdin":
                self._feed(key.fd)
            else:
                self._read(key.fd, str(key.data))

    def _feed(self, pipe: int) -> None:
        try:
            self.given = self.given[os.write(pipe, self.given[:CHUNK]) :] if self.given else b""
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.given = b""
        if not self.given:
            self._close(pipe)

    def _read(self, pipe: int, name: str) -> None:
        try:
            chunk = os.read(pipe, CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._close(pipe)
            return
        said = self.said[name]
        room = self.limits["output"] - len(said)
        said += chunk[:room]
        if len(chunk) > room:
            self.verdict = self.verdict or "output"
            self._close(pipe)
        elif name == "answers" and self.answers and b"\n" in chunk:
            self.answers = max(0, self.answers - chunk.count(b"\n"))
            self._deadline = time.monotonic() + self.limits["seconds"]

    def _look(self) -> None:
        guests = family.descendants(os.getpid())
        self.peak = max(self.peak, family.memory(guests))
        if self.peak > self.limits["memory"]:
            self.verdict = "memory"
        elif len(guests) > self.limits["processes"] + 1:  # the keeper is one of them
            self.verdict = "processes"
        elif self.box is not None and not _fits(self.box, self.limits["disk"], self.limits["files"]):
            self.verdict = "disk"


def _fits(box: str, disk: int, files: int) -> bool:
    """Whether the files in a folder stay within bytes and number."""
    size = count = 0
    waiting = [box]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if size > disk or count > files:
                        return False
        except OSError:
            continue  # removed meanwhile, or closed to us: then the guest cannot be writing there for long
    return True
