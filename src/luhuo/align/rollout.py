"""Rollouts: the policy answers prompts, and its own tokens come back, never decoded and encoded again.

Sampling is from the policy's whole distribution at one temperature (top_k 0, top_p 1): any cut would sample from
another policy than the one that is scored, and the KL to the reference would come out negative. The model is the one
that is trained, so its weights are always the current ones. In several turns, what the environment says stands between
the sampled pieces as context: it has mask 0 and no log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luhuo.align.prompts import Prompt
from luhuo.align.rollout_weights import as_computed
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.inference.engine import Engine
from luhuo.inference.request import Completion
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]
Environment = Callable[[Mapping[str, Any], Messages], Mapping[str, Any] | Messages | None]
"""(row of the prompt, conversation so far) -> what is said next (a message or several, of a user or a tool), or None
where the conversation is over."""


@dataclass
class Sample:
    """One answer to a prompt, with all that is needed to learn from it."""

    prompt: Prompt
    ids: list[int]
    """Prompt and everything after it."""
    mask: list[int]
    """1: the policy sampled this token; 0: it was given."""
    log_probs: list[float]
    """Of each sampled token under the distribution it was drawn from, as the sampler computed it; 0 elsewhere."""
    messages: list[Mapping[str, Any]]
    text: str = ""
    """The policy's last turn."""
    ended: bool = False
    """Whether the policy ended its last turn itself; False: it was cut off."""
    turns: int = 0
    over: bool = field(default=False, repr=False)

    @property
    def length(self) -> int:
        """Sampled tokens."""
        return sum(self.mask)

    def take(self, answer: Completion) -> None:
        """Append a turn of the policy."""
        self.ids += answer.token_ids
        self.mask += [1] * len(answer.token_ids)
        self.log_probs += answer.logprobs or []
        self.text, self.ended = answer.text, answer.finish_reason == "stop"
        self.messages.append({"role": "assistant", "content": answer.text})
        self.turns += 1

    def give(self, ids: Sequence[int], messages: Messages) -> None:
        """Append what the environment says."""
        self.ids += ids
        self.mask += [0] * len(ids)
        self.log_probs += [0.0] * len(ids)
        self.messages += messages


class Rollout:
    """Samples `samples` answers a prompt from `model`, which may be changed between calls. Temperature 0 is greedy.

    `max_tokens` bounds each turn, `length` the whole conversation; `at_once` conversations run together. The budget
    of the cache is fixed, not taken from what memory is free, so that a resumed run makes the same batches.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        samples: int,
        max_tokens: int,
        length: int,
        temperature: float = 1.0,
        at_once: int = 64,
        environment: Environment | None = None,
        turns: int = 1,
    ) -> None:
        self.model, self.samples, self.max_tokens, self.length = model, samples, max_tokens, length
        self.temperature, self.at_once = temperature, at_once
        self.environment, self.turns = environment, turns
        self._engine: Engine | None = None

    def sample(self, prompts: Mapping[int, Prompt], seed: int) -> dict[int, list[Sample]]:
        """The samples of each prompt, under its number. Equal weights, seed and number give equal samples, whichever
        other prompts are there."""
        started = [(number, choice) for number in prompts for choice in range(self.samples)]
        samples = [self._open(prompts[number]) for number, _ in started]
        training = self.model.training
        self.model.eval()
        try:
            engine = self._ready()
            for turn in range(self.turns):
                going = [i for i, sample in enumerate(samples) if not sample.over]
                if not going:
                    break
                wanted = [self._sampling(samples[i], derive_seed(seed, "sample", *started[i], turn)) for i in going]
                answers = engine.generate([samples[i].ids for i in going], wanted)
                for i, answer in zip(going, answers, strict=True):
                    samples[i].take(answer)
                    self._go_on(samples[i], turn)
        finally:
            self.model.train(training)
        found: dict[int, list[Sample]] = {number: [] for number in prompts}
        for (number, _), sample in zip(started, samples, strict=True):
            found[number].append(sample)
        return found

    def _ready(self) -> Engine:
        """The engine, which is made when the model is known to compute as it will, with nothing cached."""
        if self._engine is None:
            # Guesses are checked by other products than one token at a time, and how often depends on the clock.
            self._engine = Engine(
                as_computed(self.model),
                max_batch=self.at_once,
                cache_tokens=self.at_once * self.length,
                speculate="never",
            )
        self._engine.update_weights(self.model)
        return self._engine

    @staticmethod
    def _open(prompt: Prompt) -> Sample:
        ids = list(prompt.ids)
        return Sample(prompt, ids, [0] * len(ids), [0.0] * len(ids), list(prompt.messages))

    def _sampling(self, sample: Sample, seed: int) -> Sampling:
        room = max(1, min(self.max_tokens, self.length - len(sample.ids)))
        return Sampling(
            max_tokens=room, temperature=self.temperature, seed=seed, logprobs=0, logprobs_mode="processed"
        )

    def _go_on(self, sample: Sample, turn: int) -> None:
        """Let the environment answer, if there is one, and room for another turn."""
        sample.over = self.environment is None or not sample.ended or turn + 1 == self.turns
        if sample.over or self.environment is None:
            return
        said = self.environment(sample.prompt.item, sample.messages)
        if said is None:
            sample.over = True
            return
        messages = [said] if isinstance(said, Mapping) else list(said)
        ids = observation_ids(messages, self._tokenizer)
        if len(sample.ids) + len(ids) >= self.length:
            sample.over, sample.ended = True, False  # the conversation does not fit: it was cut off
            return
        sample.give(ids, messages)

    @property
    def _tokenizer(self) -> Tokenizer:
        assert self._engine is not None
        return self._engine.tokenizer


def observation_ids(messages: Messages, tokenizer: Tokenizer) -> list[int]:
    """The ids that stand between the end of an answer and the beginning of the next, with `messages` in between.

    They are cut out of a short conversation of the same template, behind the token that ended the answer: what was
    sampled before is never rendered again. Raises `LuhuoError` if the template does not end answers with the
    tokenizer's end-of-turn token.
    """
    opening: list[Mapping[str, Any]] = [{"role": "user", "content": "."}, {"role": "assistant", "content": "."}]
    before = render(Conversation.of(opening), tokenizer).ids
    whole = render(Conversation.of([*opening, *messages]), tokenizer, generation_prompt=True).ids
    end = max((i + 1 for i, token in enumerate(before) if token in tokenizer.turn_end_ids), default=0)
    if not end or whole[:end] != before[:end]:
        raise LuhuoError(
            tr(
                "The chat template does not close an answer in the same way when the conversation goes on.",
                "对话继续时，对话模板结束回答的方式不一致。",
            ),
            expected=tokenizer.decode([tokenizer.end_of_turn_id]),
            found=tokenizer.decode(whole[: len(before)]),
            where="chat_template",
        )
    return whole[end:]
