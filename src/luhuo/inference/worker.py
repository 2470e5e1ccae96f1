"""A thread that keeps an engine going while requests come and go from other threads (a server's, a rollout's)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.inference.engine import Engine
from luhuo.inference.request import Request


class Worker:
    """Steps an engine in a thread of its own for as long as there is something to do."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._changed = threading.Condition()
        self._closing = self._cancelling = False
        self._open: dict[int, Request] = {}
        self._after: dict[Callable[[], None], None] = {}
        self._thread = threading.Thread(target=self._run, name="luhuo-engine", daemon=True)
        self._thread.start()

    @property
    def open_requests(self) -> int:
        """Requests that were submitted and have not ended."""
        return len(self._open)

    def submit(self, request: Request, on_update: Callable[[Request], None]) -> None:
        """Run a request; raises `RunFailed` once the worker is closing.

        `on_update(request)` is called in the worker's thread after each of its tokens and when it has ended, which
        `finish_reason` tells. It must be quick, as all requests wait for it.
        """

        def told(request: Request) -> None:
            if request.finish_reason:
                self._open.pop(id(request), None)
            try:
                on_update(request)
            except BaseException:  # the engine cancels the request and calls nobody again
                self._open.pop(id(request), None)
                raise

        with self._changed:
            if self._closing:
                raise RunFailed(tr("The engine is shutting down.", "引擎正在关闭。"))
            self._open[id(request)] = request
        # Not under the lock: an `on_update`, which holds the engine's, may submit too.
        try:
            self.engine.submit(request, told)
            if self._cancelling:
                self.engine.cancel(request)
        except BaseException:
            self._open.pop(id(request), None)
            raise
        finally:
            with self._changed:
                self._changed.notify()

    def after_step(self, call: Callable[[], None]) -> None:
        """For an `on_update`: have `call` called once all requests of this step were told, however often it asks."""
        if threading.current_thread() is self._thread:
            self._after[call] = None
        else:  # another thread steps the engine too; this one may never step again
            call()

    def cancel(self, request: Request) -> None:
        """End a request with finish reason "cancelled"; its `on_update` is called once more. Any thread."""
        self.engine.cancel(request)
        with self._changed:
            self._changed.notify()

    def close(self, drain: bool = True) -> None:
        """Take no more requests and end the thread: after those that run (`drain`), or at once, cancelling them."""
        with self._changed:
            self._closing = True
            self._cancelling = self._cancelling or not drain
            open_requests = [] if drain else list(self._open.values())
            self._changed.notify()
        for request in open_requests:
            self.engine.cancel(request)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self.engine.idle and (self._open or not self._closing):
                    # While it closes, another thread may be the one to step to the end.
                    self._changed.wait(0.1 if self._closing else None)
                if self.engine.idle:
                    return
            self.engine.step()
            for call in self._after:
                call()
            self._after.clear()
