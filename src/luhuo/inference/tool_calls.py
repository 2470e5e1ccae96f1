"""Tool calls told from the text of an answer, as it streams.

A call begins as soon as it is sure to be one: its tool is one of those offered, and its arguments have begun. From
then on its arguments go out as they are written. What looks like a call and is none stays text, and so does what
stands behind a mistake inside of arguments; `problems` says why. Nothing that the model wrote is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luhuo.inference.call_writer import CallPart, CallWriter
from luhuo.inference.cursor import Cursor, Malformed, Reading
from luhuo.inference.reasoning import begun
from luhuo.inference.tool_formats import Reader, ToolFormat


@dataclass
class Piece:
    """What became sure: text of the answer, and parts of calls."""

    content: str = ""
    calls: list[CallPart] = field(default_factory=list)


class ToolCallParser:
    """Splits the text of an answer into content and calls. The pieces joined do not depend on how the text is cut.

    `tools` are OpenAI's; without any, a call of every name is let through.
    """

    def __init__(self, format: ToolFormat, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._format = format
        self._cursor = Cursor()
        self._calls = CallWriter(self._cursor, tools, short_ids=format.short_ids)
        self._content = ""
        self._blanks, self._behind_call = "", False
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
        piece, self._content = Piece(self._content, self._calls.take()), ""
        return piece

    def _read(self) -> Reading[None]:
        cursor = self._cursor
        if self._format.bare is not None:
            yield from cursor.skip_blanks()
            self._say(cursor.text[: cursor.at])
            if cursor.rest[:1] in ("{", "["):
                yield from self._try(self._format.bare, cursor.at)
                if not self._calls.count:  # JSON that is no call is simply an answer in JSON
                    self.problems.clear()
        while True:
            mark = yield from self._text()
            if mark is None:
                return
            start = cursor.at
            cursor.at += len(mark)
            if mark in self._format.readers:
                yield from self._try(self._format.readers[mark], start)

    def _try(self, reader: Reader, start: int) -> Reading[None]:
        """Read calls. If it fails, what has not become one is text: if none began, the first character of what was
        tried, and the rest is looked at again."""
        cursor, before = self._cursor, self._calls.count
        try:
            yield from reader(cursor, self._calls)
            if self._calls.count == before:
                raise Malformed("no call")
        except Malformed as problem:
            self.problems.append(str(problem))
            if self._calls.count == before:
                cursor.at = start
                self._say(cursor.text[start])
                cursor.at += 1
                return
            cursor.at = self._calls.sure
        self._blanks, self._behind_call = "", True

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
                self._content += self._blanks
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
        self._content += said
