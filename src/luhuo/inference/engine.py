"""The engine: the one path by which Luhuo generates text and scores continuations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import torch

from luhuo.core.errors import LuhuoError
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


class Engine:
    """Generates with a KV cache and continuous batching.

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
        self.end_tokens = frozenset(ends)

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
        """Tokens that prompt and answer may have together."""
        return self.model.config.max_positions

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
        with torch.inference_mode():
            scheduler = self._scheduler([r for group in requests for r in group])
            while scheduler.running:
                scheduler.step()
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
        with torch.inference_mode():
            scheduler = self._scheduler([request])
        given = 0
        while not request.finish_reason:
            with torch.inference_mode():  # not around the yield: the caller's code runs there
                scheduler.step()
            text = request.take_text()
            if text or request.finish_reason:
                yield Chunk(text, request.tokens[given:], request.finish_reason)
                given = len(request.tokens)

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

    def _scheduler(self, requests: list[Request]) -> Scheduler:
        return Scheduler(self.model, requests, self.max_batch, self.cache_tokens, self.end_tokens)


def _is_messages(value: Any) -> bool:
    """Whether this is one conversation as a list of dictionaries."""
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping)


def _conversation(value: Any) -> Conversation:
    return value if isinstance(value, Conversation) else Conversation.of(value)
