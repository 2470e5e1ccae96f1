"""The engine: the one path by which Luhuo generates text and scores continuations."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import torch

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.inference.request import Chunk, Completion, Request
from luhuo.inference.sampling import Sampling
from luhuo.inference.scheduler import Scheduler
from luhuo.inference.scoring import loglikelihood
from luhuo.model.count import cache_per_token
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Sequence[int] | Conversation
"""Text (special tokens in it are plain text), token ids, or a conversation to be answered."""

CACHE_BYTES = 1 << 30
LOG = logging.getLogger(__name__)


class Engine:
    """Generates with a KV cache and continuous batching. Threads may share it: each step of the work is one's own.

    `max_batch` requests run at once; `cache_tokens` bounds the cache (default: what fits into 1 GiB).
    """

    def __init__(self, model: Decoder, *, max_batch: int = 64, cache_tokens: int | None = None) -> None:
        self.model = model
        self.max_batch = max_batch
        token_bytes = cache_per_token(model.config) * model.dtype.itemsize
        self.cache_tokens = cache_tokens or max(1, CACHE_BYTES // token_bytes)
        ends = set(model.config.stop_ids)
        if model.tokenizer:
            ends |= model.tokenizer.stop_ids
        self._lock = threading.RLock()
        self._listeners: dict[int, Callable[[Request], None]] = {}
        self.scheduler = Scheduler(
            model, max_batch=max_batch, cache_tokens=self.cache_tokens, end_tokens=frozenset(ends)
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises `LuhuoError` if it has none."""
        if self.model.tokenizer is None:
            raise LuhuoError(
                tr("This model has no tokenizer: give it token ids.", "该模型没有分词器：请直接提供词元编号。"),
                expected="tokenizer.json",
            )
        return self.model.tokenizer

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together: the model's, or what the cache holds."""
        return min(self.model.config.max_positions, self.cache_tokens)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.scheduler.end_tokens

    @end_tokens.setter
    def end_tokens(self, tokens: frozenset[int]) -> None:
        self.scheduler.end_tokens = tokens

    @property
    def idle(self) -> bool:
        """Whether no request is waiting or running."""
        return self.scheduler.idle

    def submit(self, request: Request, on_update: Callable[[Request], None]) -> None:
        """Take a request on; whoever calls `step` next works on it and calls `on_update`. Any thread."""
        with self._lock:
            self._listeners[id(request)] = on_update
            self.scheduler.add(request)

    def cancel(self, request: Request) -> None:
        """End a request with finish reason "cancelled". Any thread."""
        with self._lock:
            self.scheduler.cancel(request)

    def step(self) -> None:
        """Advance all requests by a token or a piece of their prompts, and tell those who asked. Any thread.

        An error of the model ends all requests, with finish reason "error", for which `generate` and `stream` raise
        `RunFailed`; the log has the cause.
        """
        with self._lock:
            try:
                with torch.inference_mode():
                    updated = self.scheduler.step()
            except Exception:
                LOG.exception("the engine dropped its requests")
                updated = self.scheduler.clear()
                for request in updated:
                    request.finish_reason = request.finish_reason or "error"
            for request in updated:
                self._tell(request)

    def _tell(self, request: Request) -> None:
        listener = self._listeners.get(id(request))
        if request.finish_reason:
            self._listeners.pop(id(request), None)
        if listener is None:
            return
        try:
            listener(request)
        except Exception:  # one listener's fault must not end the others' requests
            LOG.exception("a request was cancelled because its listener failed")
            self._listeners.pop(id(request), None)
            self.scheduler.cancel(request)

    def _finish(self, requests: Sequence[Request]) -> None:
        """Run these requests to their end."""
        try:
            for request in sorted(requests, key=lambda r: -r.length):  # neighbours then have similar lengths
                self.submit(request, _nothing)
            while not all(request.finish_reason for request in requests):
                self.step()
        finally:
            for request in requests:
                if not request.finish_reason:
                    self.cancel(request)
        _check(requests)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling | Sequence[Sampling] | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order; with `n` > 1 all answers are in its `choices`.

        Raises `LuhuoError` when a prompt leaves no room for an answer in the model's context.
        """
        if isinstance(prompts, (str, Conversation)):
            raise LuhuoError(
                tr("generate takes a list of prompts.", "generate 需要提示的列表。"), expected="[prompt, …]"
            )
        if sampling is None or isinstance(sampling, Sampling):
            sampling = [sampling or Sampling()] * len(prompts)
        requests = [
            [self._request(ids, wanted, choice) for choice in range(wanted.n)]
            for ids, wanted in zip([self.prompt_ids(p) for p in prompts], list(sampling), strict=True)
        ]
        self._finish([request for group in requests for request in group])
        completions = []
        for group in requests:
            choices = [request.completion() for request in group]
            choices[0].choices = choices
            completions.append(choices[0])
        return completions

    @overload
    def chat(self, messages: Messages | Conversation, sampling: Sampling | None = None) -> Completion: ...

    @overload
    def chat(
        self, messages: Sequence[Messages | Conversation], sampling: Sampling | Sequence[Sampling] | None = None
    ) -> list[Completion]: ...

    def chat(self, messages: Any, sampling: Any = None) -> Completion | list[Completion]:
        """Answer a conversation (or each of a list of them) through the model's chat template."""
        if isinstance(messages, Conversation) or _is_messages(messages):
            return self.generate([_conversation(messages)], sampling)[0]
        return self.generate([_conversation(one) for one in messages], sampling)

    def stream(self, prompt: Prompt | Messages, sampling: Sampling | None = None) -> Iterator[Chunk]:
        """Pieces of one answer as they come: never half a character, never the beginning of a stop string."""
        if _is_messages(prompt):
            prompt = _conversation(prompt)
        request = self._request(self.prompt_ids(prompt), sampling or Sampling(), 0)  # type: ignore[arg-type]
        self.submit(request, _nothing)
        given = 0
        try:
            while not request.finish_reason:
                self.step()
                with self._lock:  # another thread may be stepping too
                    text, tokens, reason = request.take_text(), request.tokens[given:], request.finish_reason
                _check([request])
                if text or reason:
                    given += len(tokens)
                    yield Chunk(text, tokens, reason)
        finally:
            self.cancel(request)

    def loglikelihood(
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]]
    ) -> list[tuple[float, bool]]:
        """For each (prompt, continuation): the sum of log-probabilities, and whether it is the greedy continuation."""
        return loglikelihood(self.model, pairs)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt. An empty one becomes the token that stands between documents."""
        if isinstance(prompt, Conversation):
            return render(prompt, self.tokenizer, generation_prompt=True).ids
        ids = self.tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else [int(i) for i in prompt]
        if ids:
            self.model.check_ids(max(ids))
        return ids or [self.tokenizer.eos_id]

    def _request(self, ids: list[int], sampling: Sampling, choice: int) -> Request:
        room = self.context - len(ids)
        if room < 1:
            raise LuhuoError(
                tr(
                    "The prompt fills the model's context; there is no room for an answer.",
                    "提示占满了模型上下文，没有回答的余地。",
                ),
                expected=tr(f"fewer than {self.context} tokens", f"少于 {self.context} 个词元"),
                found=len(ids),
            )
        return Request(ids, sampling, self.model.tokenizer, room, choice)


def _nothing(request: Request) -> None:
    """For requests whose thread looks at them by itself."""


def _check(requests: Sequence[Request]) -> None:
    if any(request.finish_reason == "error" for request in requests):
        raise RunFailed(
            tr("The model failed while it was generating.", "模型在生成时出错。"),
            fix=tr("The log has the cause.", "原因见日志。"),
        )


def _is_messages(value: Any) -> bool:
    """Whether this is one conversation as a list of dictionaries."""
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping)


def _conversation(value: Any) -> Conversation:
    return value if isinstance(value, Conversation) else Conversation.of(value)
