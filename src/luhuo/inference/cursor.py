"""Reading a text that is still arriving: parts of a grammar as generators that yield when they need more of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
"""Yields whenever more text is needed, and returns what was read."""


class Malformed(Exception):
    """The text is not what was expected here; says what is wrong in a few words."""


class Cursor:
    """The text so far, the place up to which it is read, and whether it has ended."""

    def __init__(self) -> None:
        self.text, self.at, self.ended = "", 0, False

    @property
    def rest(self) -> str:
        """What is not read yet."""
        return self.text[self.at :]

    def peek(self, count: int = 1) -> Reading[str]:
        """The next `count` characters, which stay unread. `Malformed` if the text ends before."""
        while len(self.text) - self.at < count:
            if self.ended:
                raise Malformed("a text that does not end")
            yield
        return self.text[self.at : self.at + count]

    def skip_blanks(self) -> Reading[None]:
        """Go to the next character that is no blank, or to the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at].isspace():
                self.at += 1
            if self.at < len(self.text) or self.ended:
                return
            yield

    def literal(self, wanted: str) -> Reading[bool]:
        """Read `wanted` if it stands here; decided as soon as a character differs."""
        while len(self.text) - self.at < len(wanted):
            if self.ended or not wanted.startswith(self.rest):
                return False
            yield
        if not self.text.startswith(wanted, self.at):
            return False
        self.at += len(wanted)
        return True

    def until(self, *marks: str) -> Reading[tuple[str, str]]:
        """The text before the first of these marks, and which it is; both are read. `Malformed` if none comes."""
        seen = self.at
        while True:
            places = [(place, mark) for mark in marks if (place := self.text.find(mark, seen)) >= 0]
            # A mark that is still arriving may stand before one that is whole.
            reach = len(self.text) - max(map(len, marks)) + 1
            if places and (min(places)[0] < max(reach, 1) or self.ended or len(marks) == 1):
                place, mark = min(places)
                before = self.text[self.at : place]
                self.at = place + len(mark)
                return before, mark
            if self.ended:
                raise Malformed(f"no {' or '.join(marks)}")
            seen = max(seen, reach) if not places else seen
            yield
