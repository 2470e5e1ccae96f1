"""Counters, gauges and histograms in the text format that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import bisect
import sys
import threading
from collections.abc import Callable
from pathlib import Path

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Upper bounds of the histograms' buckets."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """All figures of one server. Names and labels are ours; values of labels are never free text of a client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, list[float]]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def count(self, name: str, about: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._help[name] = (about, "counter")
            row = self._values.setdefault(name, {})
            row[key] = row.get(key, 0) + amount

    def observe(self, name: str, about: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._help[name] = (about, "histogram")
            row = self._histograms.setdefault(name, {}).setdefault(key, [0.0] * (len(SECONDS) + 2))
            row[bisect.bisect_left(SECONDS, seconds)] += 1
            row[-1] += seconds

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show what `read` says whenever someone looks."""
        self._gauges[name] = (about, read)

    def text(self) -> str:
        """Everything, one line a value."""
        lines: list[str] = []
        with self._lock:
            for name, row in self._values.items():
                lines += [*self._head(name), *(f"{name}{_braces(key)} {value:.17g}" for key, value in row.items())]
            for name, rows in self._histograms.items():
                lines += self._head(name)
                for key, counts in rows.items():
                    lines += _histogram(name, key, counts)
        for name, (about, read) in self._gauges.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {read():.17g}"]
        return "\n".join(lines) + "\n"

    def _head(self, name: str) -> list[str]:
        about, kind = self._help[name]
        return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def resident_bytes() -> float:
    """Memory of this process. Where the system does not tell the present size, the largest so far."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        import os

        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _histogram(name: str, key: Labels, counts: list[float]) -> list[str]:
    lines, total = [], 0.0
    for bound, count in zip((*SECONDS, "+Inf"), counts[:-1], strict=True):
        total += count
        lines.append(f"{name}_bucket{_braces((*key, ('le', str(bound))))} {total:.17g}")
    return [*lines, f"{name}_sum{_braces(key)} {counts[-1]:.17g}", f"{name}_count{_braces(key)} {total:.17g}"]


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    quoted = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in quoted) + "}"
