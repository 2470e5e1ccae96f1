"""Asking a model, here or behind an endpoint, in one way: replies to questions, and how likely each of some labels.

A question that cannot be answered (too long, refused, a template without a system role) is a `NoReply` with its
reason; where nothing but that comes of the first questions, the run ends and says so.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.align.distill.endpoint import Endpoint, Refused, TimedOut
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.layouts import read_conversations

Messages = Sequence[Mapping[str, Any]]
FATAL = 16
"""So many questions without a reply, and never one with: something is wrong with all of them."""
LETTER = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z])")
THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.S)
SEEDS = 1 << 31
"""What servers take for seeds."""
TOP = 20
"""Most probable tokens that the API tells at a place."""


@dataclass(frozen=True)
class Question:
    """What a model is asked: messages in OpenAI's layout, and how it is to answer."""

    messages: Messages
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """What it answered. `ended` False: it was cut off."""

    text: str
    ended: bool
    places: list[dict[str, float]] = field(default_factory=list)
    """At each place the likeliest tokens as text with their log-probabilities, where an endpoint tells them."""


@dataclass(frozen=True)
class NoReply:
    """Why there is none to this question."""

    reason: str


@dataclass
class Used:
    """What a model was asked in all, in tokens as it counts them; 0 where an endpoint does not tell."""

    prompt_tokens: int = 0
    tokens: int = 0


class Responder(Protocol):
    """A model that can be asked."""

    @property
    def used(self) -> Used:
        """Tokens read and written so far."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Reply | NoReply]:
        """A reply to each question, in order."""
        ...

    def choose(self, questions: Sequence[Messages], labels: Sequence[str]) -> list[dict[str, float] | NoReply]:
        """The probability of each label as the whole reply, of these labels alone."""
        ...


@contextlib.contextmanager
def opened(config: ResponderConfig) -> Iterator[Responder]:
    """The model of a configuration, ready to be asked, told what it is to be told before each question.

    Raises `LuhuoError` where there is no such model, or its examples are none.
    """
    before = _before(config)
    if config.endpoint is None:
        yield _Told(_Local(config), before)
        return
    remote = _Remote(Endpoint(config.endpoint))
    try:
        yield _Told(remote, before)
    finally:
        remote.close()


def _before(config: ResponderConfig) -> list[dict[str, Any]]:
    """The instruction and the examples, as messages."""
    system = [{"role": "system", "content": config.system}] if config.system else []
    if config.shots is None:
        return system
    shown: list[dict[str, Any]] = []
    for count, conversation in enumerate(read_conversations(config.shots)[1]):
        if config.shot_count and count == config.shot_count:
            break
        shown += [message for message in conversation.plain() if message["role"] != "system"]
    return [*system, *shown]


class _Told:
    """Puts the instruction and the examples before each question, and ends a run in which nothing is answered."""

    def __init__(self, model: Responder, before: list[dict[str, Any]]) -> None:
        self._model, self._before = model, before
        self._failed = 0
        self._heard = False

    @property
    def used(self) -> Used:
        return self._model.used

    def ask(self, questions: Sequence[Question]) -> list[Reply | NoReply]:
        replies = self._model.ask([replace(one, messages=self._framed(one.messages)) for one in questions])
        for reply in replies:
            self._watch(reply)
        return replies

    def choose(self, questions: Sequence[Messages], labels: Sequence[str]) -> list[dict[str, float] | NoReply]:
        found = self._model.choose([self._framed(one) for one in questions], labels)
        for one in found:
            self._watch(one)
        return found

    def _framed(self, messages: Messages) -> list[dict[str, Any]]:
        own, rest = list(self._before), [dict(message) for message in messages]
        if own and rest and rest[0]["role"] == "system":  # a conversation has one: both instructions hold
            told = rest.pop(0)["content"]
            if own[0]["role"] == "system":
                own[0] = {"role": "system", "content": f"{own[0]['content']}\n\n{told}"}
            else:
                own.insert(0, {"role": "system", "content": told})
        return [*own, *rest]

    def _watch(self, found: object) -> None:
        if not isinstance(found, NoReply):
            self._heard = True
            return
        self._failed += 1
        if not self._heard and self._failed >= FATAL:
            raise RunFailed(
                tr("No question could be answered.", "没有任何问题得到回答。"),
                found=found.reason,
                fix=tr(
                    "Look at the model, its chat template and the length of the prompts.",
                    "请检查模型、对话模板与提示长度。",
                ),
            )


class _Local:
    """A model on this machine."""

    def __init__(self, config: ResponderConfig) -> None:
        from luhuo.adapter.open import open_decoder
        from luhuo.inference.engine import Engine

        assert config.model is not None
        model = open_decoder(config.model, dtype=config.dtype, device=config.device)
        self._engine = Engine(model, max_batch=config.at_once)
        self.used = Used()

    def ask(self, questions: Sequence[Question]) -> list[Reply | NoReply]:
        from luhuo.inference.sampling import Sampling

        ids = [self._ids(question.messages) for question in questions]
        good = [i for i, one in enumerate(ids) if not isinstance(one, NoReply)]
        sampling = [
            Sampling(max_tokens=questions[i].max_tokens, temperature=questions[i].temperature, seed=questions[i].seed)
            for i in good
        ]
        replies: list[Reply | NoReply] = [one if isinstance(one, NoReply) else NoReply("") for one in ids]
        given = [one for one in ids if not isinstance(one, NoReply)]
        for i, out in zip(good, self._engine.generate(given, sampling), strict=True):
            replies[i] = Reply(out.text, out.finish_reason == "stop")
            self.used.prompt_tokens += len(ids[i])  # type: ignore[arg-type]
            self.used.tokens += len(out.token_ids)
        return replies

    def choose(self, questions: Sequence[Messages], labels: Sequence[str]) -> list[dict[str, float] | NoReply]:
        ids = [self._ids(question) for question in questions]
        tokens = [self._engine.tokenizer.encode(label) for label in labels]
        pairs = [(one, label) for one in ids if not isinstance(one, NoReply) for label in tokens]
        self.used.prompt_tokens += sum(len(one) for one in ids if not isinstance(one, NoReply))
        sums = iter(self._engine.loglikelihood(pairs))
        return [
            one if isinstance(one, NoReply) else _normalised({label: next(sums)[0] for label in labels}) for one in ids
        ]

    def _ids(self, messages: Messages) -> list[int] | NoReply:
        try:
            ids = self._engine.prompt_ids(Conversation.of(messages))
        except LuhuoError as error:
            return NoReply(" ".join(str(error).split()))
        room = self._engine.context - 1
        return ids if len(ids) < room else NoReply(f"too_long: {len(ids)} tokens, at most {room - 1}")


class _Remote:
    """A model behind an endpoint; probabilities come from the likeliest tokens where it tells them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pool = ThreadPoolExecutor(endpoint.config.concurrency, thread_name_prefix="endpoint")
        self._counting = threading.Lock()
        self.used = Used()

    def close(self) -> None:
        """Ask nothing more."""
        self._endpoint.close()
        self._pool.shutdown(cancel_futures=True)

    def ask(self, questions: Sequence[Question]) -> list[Reply | NoReply]:
        return list(self._pool.map(self._reply, questions))

    def choose(self, questions: Sequence[Messages], labels: Sequence[str]) -> list[dict[str, float] | NoReply]:
        asked = [Question(messages, max_tokens=64) for messages in questions]
        found = self._pool.map(lambda one: self._reply(one, TOP), asked)
        return [one if isinstance(one, NoReply) else chosen(one, labels) for one in found]

    def _reply(self, question: Question, top: int = 0) -> Reply | NoReply:
        how = {"temperature": question.temperature, "max_tokens": question.max_tokens}
        try:
            found = self._endpoint.ask(question.messages, **how, seed=question.seed % SEEDS, top_logprobs=top)
        except Refused as error:
            return NoReply(str(error))
        except TimedOut as error:
            return NoReply(f"timeout: {error.found}")
        with self._counting:
            self.used.prompt_tokens += found.prompt_tokens
            self.used.tokens += found.tokens
        return Reply(found.text, found.ended, found.places)


def chosen(reply: Reply, labels: Sequence[str]) -> dict[str, float] | NoReply:
    """The probabilities of labels in a reply: at the place where it says the first one, if it tells them there."""
    for place in reply.places:
        likeliest = max(place, key=lambda text: place[text], default="")
        if likeliest.strip(" \n*([\"'") in labels:
            sums = dict.fromkeys(labels, 0.0)
            for text, value in place.items():
                name = text.strip(" \n*([\"'")
                if name in sums:
                    sums[name] += math.exp(value)
            return {label: value / sum(sums.values()) for label, value in sums.items()}
    said = [letter for letter in LETTER.findall(THOUGHT.sub("", reply.text)) if letter in labels]
    if not said or len(set(said)) > 1:
        return NoReply(f"no_label: {reply.text[:100]!r}")
    return {label: float(label == said[0]) for label in labels}


def _normalised(sums: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of labels from their log-probabilities."""
    most = max(sums.values())
    weights = {label: math.exp(value - most) for label, value in sums.items()}
    return {label: value / sum(weights.values()) for label, value in weights.items()}
