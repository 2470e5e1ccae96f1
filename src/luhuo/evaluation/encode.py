"""Requests as token ids that fit into the model's context.

Prompt and continuation are encoded together and cut where the prompt alone ends; blanks at the prompt's end belong to
the continuation. What is too long loses examples from the end first, then the beginning of its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.evaluation.likelihood import Continuation
from luhuo.evaluation.tasks.documents import Document
from luhuo.evaluation.tasks.requests import Asked, Asker, Messages
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Encoded:
    """A request with its ids: `sequences` to be scored, or the `prompt` to be continued."""

    asked: Asked
    sequences: tuple[Continuation, ...] = ()
    prompt: tuple[int, ...] = ()
    cut: bool = False
    """Whether the beginning of the prompt had to go."""


class Encoder:
    """Encodes requests of one task for a model's tokenizer and a context of so many tokens."""

    def __init__(self, asker: Asker, tokenizer: Tokenizer, context: int, answer: int) -> None:
        self.asker, self.tokenizer, self.context, self.answer = asker, tokenizer, context, answer
        """`answer`: tokens that a generated reply may need."""
        self.frame = tokenizer.encode_prompt("a")[: -len(tokenizer.encode("a"))]

    def encode(self, document: Document) -> Encoded:
        """The request of an item. Raises `LuhuoError` where the template does not fit, or a choice is empty."""
        kind = self.asker.task.spec.kind
        if kind == "text":
            return self._windows(self.asker.ask(document))
        shots = len(document.examples)
        while True:
            asked = self.asker.ask(document, shots)
            if asked.turns:
                return Encoded(asked)
            generated = kind == "generation"
            found = self._prompt(asked) if generated else self._scored(asked)
            longest = len(found.prompt) if generated else max(len(s.ids) - 1 for s in found.sequences)
            room = self.context - min(self.answer, self.context // 2) if generated else self.context
            if longest <= room:
                return found
            if not shots:
                return self._shortened(found, room)
            shots -= 1

    def unconditional(self, continuation: str) -> Continuation:
        """A continuation behind nothing but the token that stands in front of a text."""
        ids = self.tokenizer.encode(continuation)
        return Continuation((*self.tokenizer.encode_prompt(""), *ids), len(ids))

    def prompt_ids(self, prompt: str | Messages) -> list[int]:
        """Ids of a prompt; messages go through the model's chat template."""
        if isinstance(prompt, str):
            return self.tokenizer.encode_prompt(prompt)
        return render(Conversation.of(prompt), self.tokenizer, generation_prompt=True).ids

    def _prompt(self, asked: Asked) -> Encoded:
        return Encoded(asked, prompt=tuple(self.prompt_ids(asked.prompts[0])))

    def _scored(self, asked: Asked) -> Encoded:
        prompts = asked.prompts if len(asked.prompts) > 1 else asked.prompts * len(asked.continuations)
        texts = list(dict.fromkeys(prompt.rstrip() for prompt in prompts if isinstance(prompt, str)))
        known: dict[str, list[int]] = dict(zip(texts, self.tokenizer.encode_batch(texts), strict=True))
        joined = [p + c for p, c in zip(prompts, asked.continuations, strict=True) if isinstance(p, str)]
        wholes = iter(self.tokenizer.encode_batch(joined))
        sequences = []
        for prompt, continuation in zip(prompts, asked.continuations, strict=True):
            if isinstance(prompt, str):
                sequences.append(self._split(known[prompt.rstrip()], next(wholes)))
            else:
                ids, behind = self.prompt_ids(prompt), self.tokenizer.encode(continuation)
                sequences.append(Continuation((*ids, *behind), len(behind)))
        if any(not s.count for s in sequences):
            raise LuhuoError(
                tr("A choice without a token cannot be scored.", "没有词元的选项无法打分。"),
                found=asked.continuations,
                where=f"{self.asker.task.name}: {asked.document.id}",
            )
        return Encoded(asked, tuple(sequences))

    def _split(self, before: list[int], whole: list[int]) -> Continuation:
        """What follows the prompt's ids, behind what stands in front of a text."""
        front = self.frame if before else self.tokenizer.encode_prompt("")
        return Continuation((*front, *whole), len(whole) - len(before))

    def _shortened(self, found: Encoded, room: int) -> Encoded:
        """The ends of prompts that are too long even without examples."""
        if found.prompt:
            return Encoded(found.asked, prompt=found.prompt[-room:], cut=True)
        cut = tuple(Continuation(s.ids[-room - 1 :], min(s.count, room)) for s in found.sequences)
        return Encoded(found.asked, cut, cut=True)

    def _windows(self, asked: Asked) -> Encoded:
        """A text as windows that predict each token once, the first from what stands in front of a text."""
        ids = self.tokenizer.encode(asked.text)
        if not ids:
            raise LuhuoError(tr("A text is empty.", "文本为空。"), where=asked.document.id)
        front = self.tokenizer.encode_prompt("")[-1:]
        return Encoded(asked, tuple(rolling([*front, *ids], self.context)))


def rolling(ids: list[int], context: int) -> Iterator[Continuation]:
    """Windows of at most `context` inputs in which all tokens but the first are scored once.

    Each begins with the last token of the one before; the last one reaches back as far as the context allows (the
    convention of lm-evaluation-harness for rolling log-likelihood).
    """
    scored, total = 0, len(ids) - 1
    while scored < total:
        count = min(total - scored, context)
        end = scored + count + 1
        begin = 0 if scored == 0 else max(0, end - 1 - context)
        yield Continuation(tuple(ids[begin:end]), count)
        scored += count
