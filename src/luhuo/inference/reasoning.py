"""Reasoning told from the answer: text between `<think>` and `</think>`, as it streams.

Some models write both marks, for others the chat template writes the first into the prompt. Blanks beside the marks
belong to nobody. Marks further on in the answer are plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luhuo.tokenizer.tokenizer import Tokenizer

TAIL = 16
"""Tokens at the end of a prompt in which an opened mark is looked for."""


@dataclass(frozen=True)
class Marks:
    """How a model writes where its reasoning begins and ends."""

    start: str
    end: str


KNOWN = (Marks("<think>", "</think>"), Marks("[THINK]", "[/THINK]"), Marks("<seed:think>", "</seed:think>"))


def marks_of(tokenizer: Tokenizer) -> Marks | None:
    """The marks that the tokenizer's vocabulary or chat template knows; None for a model that does not reason."""
    written, tokens = tokenizer.chat_template or "", set(tokenizer.added_tokens.values())
    return next((m for m in KNOWN if m.end in tokens or m.end in written), None)


def is_open(tokenizer: Tokenizer, prompt: Sequence[int]) -> bool:
    """Whether the prompt ends inside of reasoning, so that the answer begins there."""
    marks = marks_of(tokenizer)
    return marks is not None and tokenizer.decode(list(prompt[-TAIL:])).rstrip().endswith(marks.start)


def closing(tokenizer: Tokenizer, prompt: Sequence[int]) -> str | None:
    """The mark that ends the reasoning in which an answer to this prompt begins; None if it begins outside."""
    marks = marks_of(tokenizer)
    return marks.end if marks is not None and is_open(tokenizer, prompt) else None


class ReasoningParser:
    """Splits a stream of text. What it gives out in pieces, joined, is what it gives for the whole text at once."""

    def __init__(self, marks: Marks, *, inside: bool) -> None:
        self._marks = marks
        self._state: Literal["start", "opening", "inside", "gap", "answer"] = "opening" if inside else "start"
        self._held = ""

    def push(self, text: str) -> tuple[str, str]:
        """Take text in; gives what is sure by now: (reasoning, answer)."""
        self._held += text
        reasoning = ""
        if self._state == "start":
            begun = self._held.lstrip()
            if begun.startswith(self._marks.start):
                self._state, self._held = "opening", begun[len(self._marks.start) :]
            elif not self._marks.start.startswith(begun):
                self._state = "answer"
        if self._state == "opening":
            self._held = self._held.lstrip()
            self._state = "inside" if self._held else "opening"
        if self._state == "inside":
            reasoning = self._take_reasoning()
        if self._state == "gap":
            self._held = self._held.lstrip()
            self._state = "answer" if self._held else "gap"
        if self._state != "answer":
            return reasoning, ""
        answer, self._held = self._held, ""
        return reasoning, answer

    def flush(self) -> tuple[str, str]:
        """What is left at the end of the stream."""
        rest, self._held = self._held, ""
        if self._state == "start":
            return "", rest
        return (rest.rstrip(), "") if self._state == "inside" else ("", "")

    def _take_reasoning(self) -> str:
        """Reasoning up to the closing mark, or up to what may be the blanks before it and its beginning."""
        place = self._held.find(self._marks.end)
        if place >= 0:
            reasoning = self._held[:place].rstrip()
            self._state, self._held = "gap", self._held[place + len(self._marks.end) :]
            return reasoning
        sure = len(self._held[: len(self._held) - begun(self._held, self._marks.end)].rstrip())
        reasoning, self._held = self._held[:sure], self._held[sure:]
        return reasoning


def begun(text: str, mark: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `mark`."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)
