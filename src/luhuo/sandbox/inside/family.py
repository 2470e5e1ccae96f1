"""The processes that descend from this one: how many, how much memory, and how to end them all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator


def children(pid: int) -> list[int]:
    """The children of a process. A kernel that keeps no lists of children is asked for every process's parent."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as line:
                found += map(int, line.read().split())
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
            return found  # the process is gone
        found = [child for child in _all() if _parent(child) == pid]
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one, from the top down."""
    found = children(pid)
    for child in found:  # the list grows while it is read
        found += children(child)
    return found


def _all() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as line:
            return int(line.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def memory(pids: list[int]) -> int:
    """Bytes of memory of these processes that belong to no file; what several share counts for each."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
        except (OSError, IndexError, ValueError):
            continue  # it has ended
    return total << 10


def tasks_of(user: int) -> int:
    """Processes and threads of a user, which is what the kernel counts against the user's limit."""
    total = 0
    for pid in _all():
        try:
            if os.stat(f"/proc/{pid}").st_uid == user:
                total += len(os.listdir(f"/proc/{pid}/task"))
        except OSError:
            continue  # it has ended
    return total


def end(pid: int) -> None:
    """Kill all descendants of a process until none is left. Orphans must come to it (a subreaper)."""
    while found := descendants(pid):
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none forks while others are killed
            for each in found:
                try:
                    os.kill(each, number)
                except ProcessLookupError:
                    continue
        reap()


def reap() -> None:
    """Take note of the children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return
