"""A watch over a run: says when a step takes too long, and which rank is behind."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from luhuo.core.atomic import write_json
from luhuo.core.language import tr
from luhuo.core.progress import say

PROBE_S = 0.1
"""How long a lock is tried before its owner counts as alive: others may be looking at it, too."""
BEAT_S = 1.0
"""A rank tells where it is at most this often."""


class Watchdog:
    """Each rank writes where it is into `folder`; a thread compares when nothing has moved for `patience` seconds.

    Each also holds a lock there, which the operating system opens when it dies, however it does.
    `patience` 0 only writes. Use as a context manager around the run, and call `beat` at each phase of a step.
    """

    def __init__(self, folder: Path, rank: int, ranks: int, patience: float) -> None:
        self.folder, self.rank, self.ranks, self.patience = folder, rank, ranks, patience
        self._moved = self._written = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._alive = self._lock(rank)

    def __enter__(self) -> Watchdog:
        if self.ranks > 1:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._alive.acquire()
        if self.patience:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._alive.release()

    def beat(self, step: int, phase: str) -> None:
        """This rank is at `phase` of `step`."""
        now = time.monotonic()
        self._moved = now
        if self.ranks > 1 and now - self._written >= BEAT_S:
            self._written = now
            write_json(self._file(self.rank), {"step": step, "phase": phase, "time": time.time()}, indent=None)

    def report(self) -> str:
        """Who was seen where and when: first those that are gone, then the one furthest behind."""
        now, seen = time.time(), []
        for rank in range(self.ranks):
            if rank != self.rank and self._gone(rank):
                seen.append((-2.0, tr(f"rank {rank} is gone", f"进程 {rank} 已不在")))
                continue
            told = self._read(rank)
            if told is None:
                seen.append((-1.0, tr(f"rank {rank}: never seen", f"进程 {rank}：从未出现")))
                continue
            ago, step, phase = now - told["time"], told["step"], told["phase"]
            line = tr(
                f"rank {rank}: step {step}, {phase}, {ago:.0f} s ago",
                f"进程 {rank}：第 {step} 步，{phase}，{ago:.0f} 秒前",
            )
            seen.append((told["time"], line))
        return "; ".join(line for _, line in sorted(seen))

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.patience / 4)):
            idle = time.monotonic() - self._moved
            if idle < self.patience:
                continue
            who = f" {self.report()}" if self.ranks > 1 else ""
            say(tr(f"No progress for {idle:.0f} s.{who}", f"已有 {idle:.0f} 秒没有进展。{who}"))
            self._moved = time.monotonic()

    def _gone(self, rank: int) -> bool:
        """Whether a rank that was there has died or left."""
        lock = self._lock(rank)
        if not Path(lock.lock_file).exists():
            return False
        try:
            with lock.acquire(timeout=PROBE_S, poll_interval=PROBE_S / 5):
                return True
        except Timeout:
            return False

    def _lock(self, rank: int) -> FileLock:
        return FileLock(self.folder / f"rank-{rank}.lock", is_singleton=False)

    def _file(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.json"

    def _read(self, rank: int) -> dict[str, Any] | None:
        try:
            return json.loads(self._file(rank).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
