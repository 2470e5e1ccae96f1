"""Tool calls on their way out: parts as a model writes them, and the whole calls that they add up to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luhuo.inference.cursor import Cursor, Malformed


@dataclass
class CallPart:
    """What is new of one call; its first part has the id and the name."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None

    def openai(self) -> dict[str, Any]:
        """As in the chunks of OpenAI's streams."""
        if self.name is None:
            return {"index": self.index, "function": {"arguments": self.arguments}}
        function = {"name": self.name, "arguments": self.arguments}
        return {"index": self.index, "id": self.id, "type": "function", "function": function}


@dataclass
class ToolCall:
    """One call; `arguments` is the text of a JSON object, or its beginning where the answer was cut off."""

    index: int
    id: str
    name: str
    arguments: str

    def openai(self) -> dict[str, Any]:
        """As in OpenAI's messages."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def joined(parts: Iterable[CallPart]) -> list[ToolCall]:
    """The calls that these parts add up to."""
    calls: list[ToolCall] = []
    for part in parts:
        if part.name is not None:
            calls.append(ToolCall(part.index, part.id or "", part.name, part.arguments))
        else:
            calls[-1].arguments += part.arguments
    return calls


class CallWriter:
    """Takes calls from a reader of `cursor`. With `tools`, OpenAI's, only calls of these are let through."""

    def __init__(self, cursor: Cursor, tools: Sequence[Mapping[str, Any]], *, short_ids: bool) -> None:
        self._cursor, self._short_ids = cursor, short_ids
        self._types = {name: _properties(one) for one in map(function_of, tools) if (name := one.get("name"))}
        self._parts: list[CallPart] = []
        self.count = 0
        """Calls that have begun."""
        self.sure = 0
        """The place up to which the text has become calls."""

    def types(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        """The JSON Schema of each parameter of a tool."""
        return self._types.get(name, {})

    def begin(self, name: str) -> None:
        """A call of this tool begins. Raises `Malformed` if there is no such tool."""
        if self._types and name not in self._types:
            raise Malformed(f"no tool of the name {name[:80]!r}")
        new_id = uuid.uuid4().hex[:9] if self._short_ids else f"call_{uuid.uuid4().hex[:24]}"
        self._parts.append(CallPart(self.count, "", new_id, name))
        self.count += 1
        self.sure = self._cursor.at

    def write(self, text: str) -> None:
        """The next text of the arguments."""
        if self._parts:
            self._parts[-1].arguments += text
        else:
            self._parts.append(CallPart(self.count - 1, text))
        self.sure = self._cursor.at

    def end(self) -> None:
        """The call has been read to its end, which may lie behind its arguments."""
        self.sure = self._cursor.at

    def whole(self, name: str, arguments: Mapping[str, Any]) -> None:
        """A call that is known as a whole."""
        text = json.dumps(arguments, ensure_ascii=False)
        self.begin(name)
        self.write(text)

    def take(self) -> list[CallPart]:
        """The parts since the last time."""
        parts, self._parts = self._parts, []
        return parts


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a tool: OpenAI's {"type": "function", "function": {…}}, or the function alone."""
    inner = tool.get("function", tool)
    return inner if isinstance(inner, Mapping) else {}


def _properties(function: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return {k: v for k, v in properties.items() if isinstance(v, Mapping)} if isinstance(properties, Mapping) else {}
