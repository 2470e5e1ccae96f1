"""Signals that end a run in order: SIGINT from the keyboard, SIGTERM from a scheduler or a spot instance."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

ONE = 2.0
"""Seconds in which several signals are one."""


class StopSignal:
    """While it is entered, the first SIGINT or SIGTERM sets `asked`, and a second one interrupts.

    Others may set `asked` too (another process was told), and a launcher and a scheduler may both pass one signal on:
    what arrives within `ONE` seconds of the first is the same.

    Outside the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._first: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is not None and now - self._first > ONE:
            raise KeyboardInterrupt
        self._first = self._first or now
        self.asked = True
