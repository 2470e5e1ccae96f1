"""Whether a machine did something else while it was measured: then only ratios within a run say anything."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

import numpy as np

from luhuo.core.device import cpu_threads

STAT = Path("/proc/stat")
ALLOWED = 0.1
"""Of the cores, that other programs may use before it is said."""
DRIFT = 1.25
"""Times as long that the same small work may take before it is said."""


class OtherWork:
    """A context: how much of the machine others used within it, and how far the time of one small work moved.

    `share`: of the cores, used by other processes (Linux; None elsewhere). `drift`: the slowest of the small works at
    begin, end and each `look` over the fastest.
    """

    share: float | None = None
    drift: float = 1.0

    def __enter__(self) -> OtherWork:
        self._array = np.random.default_rng(0).standard_normal((192, 192)).astype(np.float32)
        self._times: list[float] = []
        self._begin = _busy()
        self.look()
        return self

    def look(self) -> None:
        """Do the small work once more: a product of matrices in the cache, the best of a few."""
        best = float("inf")
        for _ in range(8):
            start = time.perf_counter()
            _ = self._array @ self._array
            best = min(best, time.perf_counter() - start)
        self._times.append(best)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
        self.drift = max(self._times) / min(self._times)
        end = _busy()
        if self._begin is not None and end is not None:
            whole, own = end[0] - self._begin[0], end[1] - self._begin[1]
            seconds = end[2] - self._begin[2]
            share = (whole - own) / max(seconds * (os.cpu_count() or cpu_threads()), 1e-9)
            # The system counts in hundredths of a second: within a short while it can come out as more than all.
            self.share = min(1.0, max(0.0, share))

    @property
    def noticed(self) -> bool:
        """Whether it was enough to be said."""
        return (self.share or 0.0) > ALLOWED or self.drift > DRIFT


def _busy() -> tuple[float, float, float] | None:
    """Seconds that all cores were busy since the machine was started, that this process was, and the time."""
    if not STAT.is_file():
        return None
    ticks = STAT.read_text(encoding="utf-8").splitlines()[0].split()[1:8]
    user, nice, system, _idle, _wait, interrupts, soft = (int(tick) for tick in ticks)
    spent = os.times()
    own = spent.user + spent.system + spent.children_user + spent.children_system
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK"), own, time.monotonic()
