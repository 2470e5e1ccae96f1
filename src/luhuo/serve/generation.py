"""From the engine's thread to the event loop: the sequences of one HTTP request and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from luhuo.inference.request import Request
from luhuo.inference.worker import Worker
from luhuo.serve.errors import failed, timed_out


@dataclass(frozen=True)
class Update:
    """What is new in one sequence: text that is final, the tokens since the last update, and perhaps its end."""

    index: int
    text: str
    tokens: list[int]
    logprobs: list[float]
    top_logprobs: list[dict[int, float]]
    finish_reason: str | None


class Post:
    """Carries updates to an event loop, those of a step in one go: waking the loop costs more than an update."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._letters: deque[tuple[asyncio.Queue[Update | None], Update]] = deque()

    def put(self, queue: asyncio.Queue[Update | None], update: Update) -> None:
        """Take an update for a queue of the loop. Any thread."""
        self._letters.append((queue, update))

    def send(self) -> None:
        """Bring what was put. Any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all who waited
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._letters:
            queue, update = self._letters.popleft()
            queue.put_nowait(update)


class Generation:
    """Runs requests on a worker and yields their updates in the order in which they come."""

    def __init__(self, worker: Worker, requests: Sequence[Request], limit_s: float, post: Post) -> None:
        self._worker, self.requests, self.limit_s, self._post = worker, list(requests), limit_s, post
        self._index = {id(request): index for index, request in enumerate(self.requests)}
        self._given = [0] * len(self.requests)
        self._waiting: asyncio.Queue[Update | None] = asyncio.Queue()
        self._open = set(range(len(self.requests)))
        self.started = time.monotonic()
        self.first_token_s: float | None = None

    def start(self) -> None:
        """Hand the requests to the worker."""
        for request in self.requests:
            self._worker.submit(request, self._on_update)

    def cancel(self) -> None:
        """Stop what still runs."""
        for index in self._open:
            self._worker.cancel(self.requests[index])
        self._open.clear()

    async def updates(self) -> AsyncIterator[Update]:
        """Updates until every sequence has ended. Raises `ApiError` when the time is up or the engine fails."""
        left = self.started + self.limit_s - time.monotonic()
        # One timer for all updates; None says that the time is up.
        timer = asyncio.get_running_loop().call_later(max(left, 0), self._waiting.put_nowait, None)
        try:
            while self._open:
                update = await self._waiting.get()
                if update is None:
                    self.cancel()
                    raise timed_out(self.limit_s)
                if self.first_token_s is None:
                    self.first_token_s = time.monotonic() - self.started
                if update.finish_reason:
                    self._open.discard(update.index)
                if update.finish_reason == "error":
                    self.cancel()
                    raise failed(self.requests[update.index].error)
                yield update
        finally:
            timer.cancel()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts; several answers to one prompt count it once."""
        return sum(len(request.prompt) for request in self.requests if request.choice == 0)

    @property
    def cached_tokens(self) -> int:
        """Of these the ones that were known from earlier requests."""
        return sum(request.cached_tokens for request in self.requests if request.choice == 0)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far."""
        return sum(len(request.tokens) for request in self.requests)

    def _on_update(self, request: Request) -> None:
        """In the worker's thread: copy what is new, and leave it to the loop."""
        index = self._index[id(request)]
        start = self._given[index]
        self._given[index] = len(request.tokens)
        reported = request.sampling.logprobs is not None
        update = Update(
            index,
            request.take_text(),
            request.tokens[start:],
            request.logprobs[start:] if reported else [],
            request.top_logprobs[start:] if reported else [],
            request.finish_reason,
        )
        self._post.put(self._waiting, update)
        self._worker.after_step(self._post.send)
