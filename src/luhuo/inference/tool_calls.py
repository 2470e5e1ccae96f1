"""Tool calls told from the text of an answer, as it streams, and given as OpenAI's API gives them.

A call is given out when it is complete and is one of a tool that was offered. What looks like a call and is none
stays text, and `problems` says why: nothing that the model wrote is lost.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luhuo.inference.cursor import Cursor, Malformed, Reading
from luhuo.inference.reasoning import begun
from luhuo.inference.tool_formats import Calls, Reader, ToolFormat


@dataclass(frozen=True)
class ToolCall:
    """One call; `arguments` is the text of a JSON object."""

    index: int
    id: str
    name: str
    arguments: str

    def openai(self, *, indexed: bool = False) -> dict[str, Any]:
        """As in OpenAI's messages, or (`indexed`) in the chunks of a stream."""
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.id, "type": "function", "function": function}
        return {"index": self.index, **call} if indexed else call


@dataclass
class Piece:
    """What became sure: text of the answer, and whole calls."""

    content: str = ""
    calls: list[ToolCall] = field(default_factory=list)


class ToolCallParser:
    """Splits the text of an answer into content and calls. The pieces joined do not depend on how the text is cut.

    `tools` are OpenAI's; without any, a call of every name is let through.
    """

    def __init__(self, format: ToolFormat, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._format = format
        self._types = {
            name: _properties(function) for function in map(function_of, tools) if (name := function["name"])
        }
        self._cursor = Cursor()
        self._piece = Piece()
        self._blanks, self._behind_call = "", False
        self._count = 0
        self.problems: list[str] = []
        self._steps = self._read()

    def push(self, text: str) -> Piece:
        """Take text in; gives what is sure by now."""
        self._cursor.text += text
        return self._advance()

    def flush(self) -> Piece:
        """What is left at the end of the answer."""
        self._cursor.ended = True
        return self._advance()

    def _advance(self) -> Piece:
        next(self._steps, None)
        piece, self._piece = self._piece, Piece()
        return piece

    def _read(self) -> Reading[None]:
        cursor = self._cursor
        if self._format.bare is not None:
            yield from cursor.skip_blanks()
            self._say(cursor.text[: cursor.at])
            if cursor.rest[:1] in ("{", "["):
                yield from self._try(self._format.bare, cursor.at)
                self.problems.clear()  # JSON that is no call is simply an answer in JSON
        while True:
            mark = yield from self._text()
            if mark is None:
                return
            start = cursor.at
            cursor.at += len(mark)
            if mark in self._format.readers:
                yield from self._try(self._format.readers[mark], start)

    def _try(self, reader: Reader, start: int) -> Reading[None]:
        """Read calls; if it fails, the first character of what was tried is text, and the rest is looked at again."""
        cursor = self._cursor
        try:
            calls = yield from reader(cursor, self._types)
            self._check(calls)
        except Malformed as problem:
            self.problems.append(str(problem))
            cursor.at = start
            self._say(cursor.text[start])
            cursor.at += 1
            return
        self._blanks, self._behind_call = "", True
        for name, arguments in calls:
            written = json.dumps(arguments, ensure_ascii=False)
            self._piece.calls.append(ToolCall(self._count, self._new_id(), name, written))
            self._count += 1

    def _text(self) -> Reading[str | None]:
        """Give out text up to the next mark, which stands at the cursor then; None at the end of the answer."""
        cursor = self._cursor
        while True:
            places = [
                (place, mark) for mark in self._format.marks if (place := cursor.text.find(mark, cursor.at)) >= 0
            ]
            if places:
                place, mark = min(places)
                self._say(cursor.text[cursor.at : place])
                cursor.at = place
                return mark
            unsure = 0 if cursor.ended else max((begun(cursor.rest, mark) for mark in self._format.marks), default=0)
            self._say(cursor.text[cursor.at : len(cursor.text) - unsure])
            cursor.at = len(cursor.text) - unsure
            if cursor.ended:
                self._piece.content += self._blanks
                return None
            yield

    def _say(self, text: str) -> None:
        """Content; blanks beside calls are left out."""
        whole = self._blanks + text
        if self._behind_call:
            whole = whole.lstrip()
            self._behind_call = not whole
        said = whole.rstrip()
        self._blanks = whole[len(said) :]
        self._piece.content += said

    def _check(self, calls: Calls) -> None:
        if not calls:
            raise Malformed("no call")
        for name, _ in calls:
            if self._types and name not in self._types:
                raise Malformed(f"no tool of the name {name[:80]!r}")

    def _new_id(self) -> str:
        return uuid.uuid4().hex[:9] if self._format.short_ids else f"call_{uuid.uuid4().hex[:24]}"


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a tool: OpenAI's {"type": "function", "function": {…}}, or the function alone."""
    inner = tool.get("function", tool)
    return inner if isinstance(inner, Mapping) else {}


def _properties(function: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return {k: v for k, v in properties.items() if isinstance(v, Mapping)} if isinstance(properties, Mapping) else {}
