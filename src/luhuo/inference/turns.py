"""Who may touch a schedule: one thread at a time; and changes that wait for nobody."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Turns:
    """A lock (`with turns:`) of which a holder first makes the changes that came in while another one held it.

    A step of the engine takes up to a second, and the thread that steps takes the lock again as soon as it has let go
    of it. A server's event loop that waited for it would leave all its clients without answers.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changes: deque[Callable[[], None]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether changes are still to be made."""
        return bool(self._changes)

    def soon(self, change: Callable[[], None]) -> None:
        """Make a change now if the lock is free or this thread's own, otherwise when it is taken next. Any thread."""
        self._changes.append(change)
        if self._lock.acquire(blocking=False):
            try:
                self._catch_up()
            finally:
                self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._catch_up()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _catch_up(self) -> None:
        while self._changes:
            self._changes.popleft()()
