"""The engine: the one path by which Luhuo generates text and scores continuations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.inference.adapters import Adapters, LoadedAdapter
from luhuo.inference.beam import beam_search
from luhuo.inference.budget import cache_format, default_tokens
from luhuo.inference.constraints import FormatConstraint, compile_format
from luhuo.inference.lockstep import Lockstep, refuse_divided
from luhuo.inference.prompt_scores import prompt_logprobs
from luhuo.inference.prompts import Messages, Prompt, conversation_of, is_messages
from luhuo.inference.reasoning import closing
from luhuo.inference.request import Chunk, Completion, Request, ranked
from luhuo.inference.runner import Writer, longest_prompt
from luhuo.inference.sampling import Sampling
from luhuo.inference.scheduler import Scheduler
from luhuo.inference.scoring import loglikelihood, mean_states
from luhuo.inference.speculative import Speculate
from luhuo.inference.turns import Turns
from luhuo.inference.weights import take_weights
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.tokenizer.tokenizer import Tokenizer

AdapterNames = str | Sequence[str | None] | None

LOG = logging.getLogger(__name__)


class Engine:
    """Generates with a KV cache and continuous batching. Threads may share it: each step of the work is one's own.

    `max_batch` requests run at once. `cache_tokens` bounds what is cached, of running requests and (`prefix_cache`)
    of the beginnings of earlier ones; by default it is a share of the free memory. `cache_dtype` is the number format
    of the cache: "auto" (the model's), "fp32", "bf16", "fp16", "int8" or "int4". A step computes at most `step_tokens`
    tokens of prompts beside one token of each running answer (default: 512, and 8,192 where nobody reads along).

    With `speculate` "auto" the next tokens are guessed and checked wherever that is measured to be faster, "always"
    and "never" say it themselves. Guesses come from `draft_model`, a small model with the same tokenizer; else from
    the model's own heads for multi-token prediction; else from what the text repeats. Answers are the same.

    With `lockstep` several processes share the model; all but the first then only `lockstep.follow`.
    """

    def __init__(
        self,
        model: Writer | Encoder,
        *,
        max_batch: int = 64,
        cache_tokens: int | None = None,
        cache_dtype: str = "auto",
        prefix_cache: bool = True,
        step_tokens: int | None = None,
        speculate: Speculate = "auto",
        draft_model: Decoder | None = None,
        lockstep: Lockstep | None = None,
    ) -> None:
        self.model = model
        self.max_batch = max_batch
        self._lock = Turns()
        self._listeners: dict[int, Callable[[Request], None]] = {}
        self._scheduler: Scheduler | None = None
        self.cache_tokens = 0
        self.adapters = Adapters(None, self._lock)
        """LoRA adapters that requests choose by name."""
        if isinstance(model, Encoder):
            return
        stored = cache_format(cache_dtype, model.dtype)
        self.cache_tokens = cache_tokens or default_tokens(model, stored, max_batch)
        if lockstep is not None:
            self.cache_tokens = lockstep.share(self.cache_tokens)
        ends = set(model.config.stop_ids)
        if model.tokenizer:
            ends |= model.tokenizer.stop_ids
        self._scheduler = Scheduler(
            model,
            max_batch=max_batch,
            cache_tokens=self.cache_tokens,
            end_tokens=frozenset(ends),
            step_tokens=step_tokens,
            cache_dtype=stored,
            prefixes=prefix_cache,
            draft=draft_model,
            speculate=speculate,
            lockstep=lockstep,
        )
        self.adapters = Adapters(self._scheduler, self._lock)

    @property
    def scheduler(self) -> Scheduler:
        """Who runs when. Raises `LuhuoError` for an encoder, which writes nothing."""
        if self._scheduler is None:
            raise LuhuoError(
                tr("This model reads and does not write.", "该模型只读不写。"),
                fix=tr("Use embed, or a decoder.", "请使用 embed，或换用解码器模型。"),
            )
        return self._scheduler

    @property
    def _decoder(self) -> Decoder:
        """The model, for what only decoders do, outside of the schedule."""
        refuse_divided(self.scheduler.lockstep)
        if not isinstance(self.model, Decoder):
            raise LuhuoError(
                tr("This is there for decoders only.", "此功能只支持解码器模型。"), found=type(self.model).__name__
            )
        return self.model

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
        return min(longest_prompt(self.scheduler.model), self.cache_tokens)

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
        return self._scheduler is None or (self._scheduler.idle and not self._lock.waiting)

    def submit(self, request: Request, on_update: Callable[[Request], None], *, patient: bool = False) -> None:
        """Take a request on; whoever calls `step` next works on it and calls `on_update`. Any thread, without waiting
        for the step that another one may be taking.

        `patient`: only the whole answer matters, so that steps may be long.
        """
        add = partial(self.scheduler.add, request, patient=patient)
        self._listeners[id(request)] = on_update
        self._lock.soon(add)

    def cancel(self, request: Request) -> None:
        """End a request with finish reason "cancelled", at the latest when the next step begins. Any thread."""
        self._lock.soon(partial(self.scheduler.cancel, request))

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
                self.submit(request, _nothing, patient=True)
            while not all(request.finish_reason for request in requests):
                self.step()
        finally:
            for request in requests:
                if not request.finish_reason:
                    self.cancel(request)
        _check(requests)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | Sequence[Sampling] | None = None,
        adapter: AdapterNames = None,
    ) -> list[Completion]:
        """One completion a prompt, in order; with `n` > 1 all answers are in its `choices`.

        `adapter` names one of `adapters` for all prompts, or for each; None is the model itself. Raises `LuhuoError`
        when a prompt leaves no room for an answer in the model's context.
        """
        if isinstance(prompts, (str, Conversation)):
            raise LuhuoError(
                tr("generate takes a list of prompts.", "generate 需要提示的列表。"), expected="[prompt, …]"
            )
        if sampling is None or isinstance(sampling, Sampling):
            sampling = [sampling or Sampling()] * len(prompts)
        names = [adapter] * len(prompts) if adapter is None or isinstance(adapter, str) else list(adapter)
        asked = list(zip(prompts, list(sampling), names, strict=True))
        groups = [[] if wanted.beams > 1 else self.requests(prompt, wanted, name) for prompt, wanted, name in asked]
        self._finish([request for group in groups for request in group])
        return [
            ranked(group, one[1].n)[0] if group else self._search(*one)
            for group, one in zip(groups, asked, strict=True)
        ]

    def _search(self, prompt: Prompt, sampling: Sampling, name: str | None) -> Completion:
        """Beam search: it has the model to itself while it runs."""
        adapter = self.adapters.find(name)
        ids, ends = self.prompt_ids(prompt, adapter), self.end_tokens | (adapter.ends if adapter else set())
        with self._lock, self.adapters.alone(adapter):
            return beam_search(self._decoder, ids, sampling, ends, self._room(ids))[0]

    @overload
    def chat(
        self, messages: Messages | Conversation, sampling: Sampling | None = None, adapter: str | None = None
    ) -> Completion: ...

    @overload
    def chat(
        self,
        messages: Sequence[Messages | Conversation],
        sampling: Sampling | Sequence[Sampling] | None = None,
        adapter: AdapterNames = None,
    ) -> list[Completion]: ...

    def chat(self, messages: Any, sampling: Any = None, adapter: AdapterNames = None) -> Completion | list[Completion]:
        """Answer a conversation (or each of a list of them) through the model's chat template."""
        if isinstance(messages, Conversation) or is_messages(messages):
            return self.generate([conversation_of(messages)], sampling, adapter)[0]
        return self.generate([conversation_of(one) for one in messages], sampling, adapter)

    def stream(
        self, prompt: Prompt | Messages, sampling: Sampling | None = None, adapter: str | None = None
    ) -> Generator[Chunk, None, None]:
        """Pieces of one answer as they come: never half a character, never the beginning of a stop string."""
        if is_messages(prompt):
            prompt = conversation_of(prompt)
        request = self.requests(prompt, sampling or Sampling(), adapter)[0]  # type: ignore[arg-type]
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
        self, pairs: Sequence[tuple[str | Sequence[int], str | Sequence[int]]], adapter: str | None = None
    ) -> list[tuple[float, bool]]:
        """For each (prompt, continuation): the sum of log-probabilities, and whether it is the greedy continuation."""
        with self._lock, self.adapters.alone(self.adapters.find(adapter)):
            return loglikelihood(self._decoder, pairs)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Vectors (texts, hidden) fp32: an encoder's as its directory says, of other models the mean of the states
        behind the texts' tokens, of length one."""
        with self._lock:
            if isinstance(self.model, Encoder):
                return self.model.embed(texts)
            refuse_divided(self.scheduler.lockstep)
            return mean_states(self.scheduler.model, [self.prompt_ids(text) for text in texts], self.context)

    def prompt_ids(self, prompt: Prompt, adapter: LoadedAdapter | None = None) -> list[int]:
        """Token ids of a prompt. An empty one becomes the token that stands between documents."""
        if isinstance(prompt, Conversation):
            return render(prompt, self._reader(adapter), generation_prompt=True).ids
        if not isinstance(prompt, str):
            ids = [int(i) for i in prompt]
        elif isinstance(self.model, Decoder):
            ids = self.tokenizer.encode_prompt(prompt)
        else:  # as an encoder was trained to read it
            ids = self.tokenizer.encode(prompt, framed=True)
        if ids:
            self.model.check_ids(max(ids))
        return ids or [self.tokenizer.eos_id]

    def _reader(self, adapter: LoadedAdapter | None) -> Tokenizer:
        """The tokenizer whose chat template counts."""
        return (adapter.tokenizer if adapter else None) or self.tokenizer

    def requests(self, prompt: Prompt, sampling: Sampling, adapter: str | None = None) -> list[Request]:
        """The requests that together answer a prompt: `n` of them, or `best_of`.

        Raises `LuhuoError` when the prompt leaves no room for an answer, or the adapter is not loaded.
        """
        loaded = self.adapters.find(adapter)
        ids = self.prompt_ids(prompt, loaded)
        room = self._room(ids)
        if sampling.beams > 1:
            raise LuhuoError(
                tr("Beam search has no answer before its end.", "束搜索在结束前没有回答。"),
                fix=tr("Use generate, not a stream.", "请用 generate，而不是流式。"),
            )
        found = [
            Request(
                ids,
                sampling,
                self.model.tokenizer,
                room,
                choice,
                constraint=self._constraint(ids, sampling, loaded),
                adapter=loaded,
            )
            for choice in range(sampling.rounds)
        ]
        if sampling.prompt_logprobs is not None:
            with self._lock, self.adapters.alone(loaded):
                found[0].prompt_logprobs = prompt_logprobs(self._decoder, ids, sampling.prompt_logprobs)
            for request in found[1:]:
                request.prompt_logprobs = found[0].prompt_logprobs
        return found

    def _room(self, ids: Sequence[int]) -> int:
        """Tokens that an answer to this prompt can have. Raises `LuhuoError` if there are none."""
        room = self.context - len(ids)
        if isinstance(self.model, EncoderDecoder):  # an answer has positions of its own, and begins with a start
            room = min(room, self.model.config.decoder.max_positions) - 1
        if room < 1:
            raise LuhuoError(
                tr(
                    "The prompt fills the model's context; there is no room for an answer.",
                    "提示占满了模型上下文，没有回答的余地。",
                ),
                expected=tr(f"fewer than {self.context} tokens", f"少于 {self.context} 个词元"),
                found=len(ids),
            )
        return room

    def _constraint(
        self, ids: Sequence[int], sampling: Sampling, adapter: LoadedAdapter | None
    ) -> FormatConstraint | None:
        """What holds an answer to its output format; where the prompt opens reasoning, from the end of that on."""
        if sampling.format is None:
            return None
        return compile_format(sampling.format, self.tokenizer, after=closing(self._reader(adapter), ids))

    def update_weights(self, model: Writer) -> None:
        """Take over the weights of another model of the same shape (or of this one, after an optimiser step).

        What is cached is forgotten; requests that are running go on with the tokens they have. Raises `LuhuoError`
        if names or shapes differ.
        """
        refuse_divided(self.scheduler.lockstep)
        with self._lock:
            if model is not self.model:
                take_weights(self.model, model)
            self.scheduler.recompute()


def _nothing(request: Request) -> None:
    """For requests whose thread looks at them by itself."""


def _check(requests: Sequence[Request]) -> None:
    if any(request.finish_reason == "error" for request in requests):
        raise RunFailed(
            tr("The model failed while it was generating.", "模型在生成时出错。"),
            found=next((request.error for request in requests if request.error), None),
            fix=tr("The log has the cause.", "原因见日志。"),
        )
