"""Reading a text that is still arriving: parts of a grammar as generators that yield when they need more of it."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")
Reading = Generator[None, None, T]
"""Yields whenever more text is needed, and returns what was read."""

IN_JSON = re.compile(r'["{}\[\]]')
IN_STRING = re.compile(r'["\\]')
MAX_DEPTH = 200


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

    def json_value(self) -> Reading[Any]:
        """A JSON object or array. Raw line breaks inside of strings are let pass, as models write them."""
        yield from self.skip_blanks()
        if self.at >= len(self.text) or self.text[self.at] not in "{[":
            raise Malformed("no JSON object")
        start = self.at
        end = yield from self._json_end()
        try:
            value = json.loads(self.text[start:end], strict=False)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"not JSON: {error}") from None
        self.at = end
        return value

    def _json_end(self) -> Reading[int]:
        """The place behind the bracket that closes the one here; every character is looked at once."""
        at, open_brackets = self.at, ""
        in_string = False
        while True:
            found = (IN_STRING if in_string else IN_JSON).search(self.text, at)
            if found is None or (found[0] == "\\" and found.end() >= len(self.text)):
                if self.ended:
                    raise Malformed("JSON that does not end")
                at = len(self.text) if found is None else found.start()
                yield
                continue
            at = found.end()
            if found[0] == "\\":
                at += 1
            elif found[0] == '"':
                in_string = not in_string
            elif found[0] in "{[":
                open_brackets += "}" if found[0] == "{" else "]"
                if len(open_brackets) > MAX_DEPTH:
                    raise Malformed("JSON nested too deeply")
            elif not open_brackets.endswith(found[0]):
                raise Malformed("brackets that do not match")
            else:
                open_brackets = open_brackets[:-1]
                if not open_brackets:
                    return at
