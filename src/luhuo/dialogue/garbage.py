"""Processor time that a thread spent on collecting garbage: it belongs to no work that the thread is measured for.

In a process that holds much, one collection can take more than a second, in whichever thread allocates next.
"""

from __future__ import annotations

import gc
import threading
import time
from typing import Any


class _Spent(threading.local):
    seconds, since = 0.0, 0.0


_spent = _Spent()


def collecting_seconds() -> float:
    """Seconds that this thread has collected garbage."""
    return _spent.seconds


def _count(phase: str, _: dict[str, Any]) -> None:
    if phase == "start":
        _spent.since = time.thread_time()
    else:
        _spent.seconds += time.thread_time() - _spent.since


gc.callbacks.append(_count)
