"""An answer taken apart as it streams: reasoning, content and tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luhuo.inference.call_writer import CallPart
from luhuo.inference.reasoning import ReasoningParser, is_open, marks_of
from luhuo.inference.tool_calls import ToolCallParser
from luhuo.inference.tool_choice import tool_format
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass
class Delta:
    """What became sure: pieces of reasoning and content, and parts of tool calls."""

    reasoning: str = ""
    content: str = ""
    tool_calls: list[CallPart] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content or self.tool_calls)


class AnswerReader:
    """Reads one answer to `prompt` (token ids) of a model; `tools` as they were offered, OpenAI's objects.

    The deltas joined do not depend on how the text was cut into pieces. Without `reasoning`, its marks stay text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        reasoning: bool = True,
    ) -> None:
        marks = marks_of(tokenizer) if reasoning else None
        self._reasoning = ReasoningParser(marks, inside=is_open(tokenizer, prompt)) if marks else None
        self._tools = ToolCallParser(tool_format(tokenizer), tools) if tools else None
        self.called = False

    @property
    def problems(self) -> list[str]:
        """Why text that looks like a tool call is none."""
        return self._tools.problems if self._tools else []

    def push(self, text: str) -> Delta:
        """Take text in; gives what is sure by now."""
        reasoning, content = self._reasoning.push(text) if self._reasoning else ("", text)
        return self._delta(reasoning, content, last=False)

    def flush(self) -> Delta:
        """What is left at the end of the answer."""
        reasoning, content = self._reasoning.flush() if self._reasoning else ("", "")
        return self._delta(reasoning, content, last=True)

    def finish_reason(self, given: str) -> str:
        """OpenAI's reason: an answer that ended by itself with calls ended for them."""
        return "tool_calls" if self.called and given == "stop" else given

    def _delta(self, reasoning: str, content: str, *, last: bool) -> Delta:
        if self._tools is None:
            return Delta(reasoning, content)
        piece = self._tools.push(content)
        calls, said = piece.calls, piece.content
        if last:
            rest = self._tools.flush()
            calls, said = calls + rest.calls, said + rest.content
        self.called = self.called or bool(calls)
        return Delta(reasoning, said, calls)


def shows_special(tokenizer: Tokenizer, *, tools: bool) -> bool:
    """Whether marks of reasoning or (`tools`) of calls are special tokens, so that `Sampling.show_special` is needed
    to find them in the text."""
    special = {tokenizer.added_tokens.get(i) for i in tokenizer.special_ids}
    marks = marks_of(tokenizer)
    wanted = {marks.start, marks.end} if marks else set()
    if tools:
        wanted |= set(tool_format(tokenizer).marks)
    return bool(wanted & special)
