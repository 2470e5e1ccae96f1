"""Batch-size warm-up: small batches at the start, when gradients agree anyway (McCandlish et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

Arrays = dict[str, np.ndarray]


class _Loader(Protocol):
    def __iter__(self) -> Iterator[Arrays]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


def rows_at(step: int, rows: int, warm: int, start: float) -> int:
    """Rows of the batch of `step`: from `start` · rows to all of them, linearly over `warm` steps, at least one."""
    if step >= warm:
        return rows
    return max(1, round(rows * (start + (1 - start) * step / warm)))


class GrowingLoader:
    """Cuts the batches of a loader into growing ones; rows left over begin the next batch, none is lost."""

    def __init__(self, loader: _Loader, warm: int, start: float) -> None:
        self.loader, self.warm, self.start = loader, warm, start
        self._step = 0
        self._used = 0
        """Rows already taken from the batch that begins at `_place`."""
        self._place = loader.state()

    def __iter__(self) -> Iterator[Arrays]:
        source = iter(self.loader)
        batch = self._fetch(source)
        rows = len(next(iter(batch.values())))
        while True:
            want, parts = rows_at(self._step, rows, self.warm, self.start), []
            while want:
                if self._used == rows:
                    batch, self._used = self._fetch(source), 0
                take = min(want, rows - self._used)
                parts.append({name: values[self._used : self._used + take] for name, values in batch.items()})
                self._used += take
                want -= take
            self._step += 1
            yield {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _fetch(self, source: Iterator[Arrays]) -> Arrays:
        self._place = self.loader.state()
        return next(source)

    def state(self) -> dict[str, Any]:
        """Where the batch being cut begins, and how much of it is used."""
        return {"place": self._place, "used": self._used, "step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self.loader.restore(state["place"])
        self._place, self._used, self._step = state["place"], state["used"], state["step"]
