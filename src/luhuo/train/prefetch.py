"""Batches made ahead of time in a thread, so that the step does not wait for the loader."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

Arrays = dict[str, np.ndarray]


class Loader(Protocol):
    """An endless source of batches (dicts of arrays, rows first) whose place can be saved."""

    def __iter__(self) -> Iterator[Arrays]: ...

    def state(self) -> dict[str, Any]:
        """JSON value of the place: after `restore`, the next batch is the one that would have come."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        ...


@runtime_checkable
class Reports(Protocol):
    """A loader that makes its batches from what the model does, and has to tell of it."""

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """Called after each optimiser step with its metrics, which are equal in all processes: what to record beside
        them."""
        ...


class Prefetcher:
    """A loader that keeps up to `ahead` batches of another ready; 0: none, and no thread.

    `state` is the place behind the last batch that was taken, not behind the last that was made, so a resumed run
    sees every batch once. What goes wrong in the thread is raised where the batch would have been taken. `close`
    drops what is ready; the next iteration begins behind the last batch taken.
    """

    def __init__(self, loader: Loader, ahead: int) -> None:
        self.loader, self.ahead = loader, ahead
        self._place = loader.state()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Arrays]:
        if not self.ahead:
            for batch in self.loader:
                self._place = self.loader.state()
                yield batch
            return
        ready: queue.Queue[tuple[Arrays | BaseException, dict[str, Any]]] = queue.Queue(self.ahead)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(ready, self._over), daemon=True)
        self._thread.start()
        while True:
            batch, place = ready.get()
            if isinstance(batch, BaseException):
                raise batch
            self._place = place
            yield batch

    def state(self) -> dict[str, Any]:
        """The place behind the last batch taken."""
        return self._place

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`. Not while batches are being taken: `close` first."""
        self.loader.restore(state)
        self._place = self.loader.state()

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """What the loader tells of the step that was taken, if it tells anything."""
        return self.loader.report(metrics) if isinstance(self.loader, Reports) else {}

    def close(self) -> None:
        """Stop the thread, and put the loader behind the last batch taken."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
            self.loader.restore(self._place)

    def _fill(self, ready: queue.Queue[tuple[Arrays | BaseException, dict[str, Any]]], over: threading.Event) -> None:
        try:
            for batch in self.loader:
                if not _put(ready, (batch, self.loader.state()), over):
                    return
        except BaseException as error:  # it belongs to the training thread, which raises it in `__iter__`
            _put(ready, (error, {}), over)


def _put(ready: queue.Queue[Any], item: Any, over: threading.Event) -> bool:
    """Wait for room, but not when nobody takes any more; whether the item was put."""
    while not over.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
