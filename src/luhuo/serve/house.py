"""What all endpoints share: the models, who may ask, the counts, and the way a generation is run for a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from luhuo.core.errors import LuhuoError
from luhuo.inference.request import Request
from luhuo.serve.access_log import AccessLog
from luhuo.serve.admission import Admission
from luhuo.serve.config import ServeConfig
from luhuo.serve.errors import ApiError
from luhuo.serve.feedback import Feedback
from luhuo.serve.generation import Generation, Post
from luhuo.serve.keys import Caller, Keys
from luhuo.serve.metrics import Metrics, resident_bytes
from luhuo.serve.served import Models, Served
from luhuo.serve.streaming import EventStream, event, unless_gone

T = TypeVar("T")


class House:
    """The state of one server."""

    def __init__(self, config: ServeConfig, models: list[Served], keys: Keys) -> None:
        self.config, self.models, self.keys = config, Models(models), keys
        self.admission = Admission(config.max_queue)
        self.metrics = Metrics()
        self.log = AccessLog(config.log, config.log_contents)
        self.feedback = Feedback(config.data) if config.data else None
        self._post: Post | None = None
        # One thread: rendering and tokenising hold Python's lock anyway, and templates share a budget.
        self._preparing = ThreadPoolExecutor(1, "luhuo-prompts")
        for name, about, read in (
            ("luhuo_requests_open", "Requests that run or wait.", lambda: self.admission.requests),
            ("luhuo_answers_open", "Answers that run or wait.", lambda: self.admission.open),
            ("luhuo_adapters", "Adapters that are loaded.", lambda: sum(m.adapter is not None for m in self.models)),
            ("luhuo_draining", "1 while the server shuts down.", lambda: float(self.admission.draining)),
            ("process_resident_memory_bytes", "Resident memory.", resident_bytes),
        ):
            self.metrics.gauge(name, about, read)

    @property
    def post(self) -> Post:
        """What brings updates to the running event loop."""
        loop = asyncio.get_running_loop()
        if self._post is None or self._post.loop is not loop:
            self._post = Post(loop)
        return self._post

    async def prepare(self, work: Callable[[], T]) -> T:
        """Run something that takes a while outside of the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._preparing, work)

    async def compute(self, work: Callable[[], T]) -> T:
        """Run something of a model's, such as loading it, in a thread of its own."""
        return await asyncio.to_thread(work)

    def close(self) -> None:
        """Stop the models' threads and close the log."""
        for served in self.models:
            served.close(drain=False)
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self.log.close()


def house_of(request: HttpRequest) -> House:
    """The server's state."""
    return cast(House, request.app.state.house)


def caller_of(request: HttpRequest) -> Caller:
    """Who asks; `guard.py` found out."""
    return cast(Caller, request.state.caller)


def note(request: HttpRequest, **values: Any) -> None:
    """Add to the request's line in the log."""
    request.state.note.update(values)


class Exchange:
    """One generation for one HTTP request, from being let in to its line in the log."""

    def __init__(self, request: HttpRequest, served: Served, requests: Sequence[Request]) -> None:
        self._house, self._request, self._served = house_of(request), request, served
        self._ended = False
        self._ticket = self._house.admission.enter(caller_of(request), len(requests))
        assert served.worker is not None  # requests are made by `served.writer`
        self.generation = Generation(served.worker, requests, self._house.config.request_s, self._house.post)

    async def answer(self, whole: Callable[[Generation], Awaitable[dict[str, Any]]]) -> Response:
        """Generate, and answer with one JSON object; what runs is cancelled when the client leaves."""
        try:
            self._start()
            return JSONResponse(await unless_gone(self._request, whole(self.generation)))
        finally:
            self._end()

    def stream(self, events: Callable[[Generation], AsyncIterator[str]]) -> Response:
        """Answer with events as they come; an error in the middle is the last event."""
        return EventStream(self._guarded(events), lambda whole: self._end())

    async def _guarded(self, events: Callable[[Generation], AsyncIterator[str]]) -> AsyncIterator[str]:
        try:
            self._start()
            async for text in events(self.generation):
                yield text
        except ApiError as error:
            yield event(error.body)
        except LuhuoError as error:
            yield event(ApiError(400, str(error)).body)

    def _start(self) -> None:
        try:
            self.generation.start()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        generation, metrics, model = self.generation, self._house.metrics, self._served.name
        generation.cancel()
        read, written = generation.prompt_tokens, generation.completion_tokens
        self._ticket.close(read + written)
        metrics.count("luhuo_prompt_tokens_total", "Tokens of prompts.", read, model=model)
        known = generation.cached_tokens
        metrics.count("luhuo_cached_tokens_total", "Tokens of prompts that were known.", known, model=model)
        metrics.count("luhuo_generated_tokens_total", "Tokens generated.", written, model=model)
        first = generation.first_token_s
        if first is not None:
            metrics.observe("luhuo_first_token_seconds", "Time to the first token.", first, model=model)
        note(
            self._request,
            model=model,
            prompt_tokens=read,
            cached_tokens=generation.cached_tokens,
            completion_tokens=written,
            first_token_s=None if first is None else round(first, 4),
            finish=[r.finish_reason for r in generation.requests] if len(generation.requests) < 9 else None,
        )
        if self._house.log.contents:
            tokenizer = self._served.writer.model.tokenizer
            prompts = [r.prompt for r in generation.requests if r.choice == 0]
            note(
                self._request,
                prompts=[tokenizer.decode(ids) if tokenizer else ids for ids in prompts],
                answers=[r.text for r in generation.requests],
            )
