"""JSON that is still arriving: its text is checked character by character and passed on as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from luhuo.inference.cursor import Cursor, Malformed, Reading

Write = Callable[[str], None]

BLANKS = " \t\n\r"
PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
WORD = re.compile(r"[-+.0-9A-Za-z]*")
SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
LONGEST_WORD = 400
HEX = re.compile(r"u[0-9a-fA-F]{4}")
MAX_DEPTH = 200


def copy_value(cursor: Cursor, write: Write) -> Reading[None]:
    """Read one JSON value and give its text to `write` piece by piece; all pieces together are valid JSON.

    Two things that models write are put right on the way: raw line breaks inside of strings, and backslashes that
    escape nothing. Raises `Malformed` where no JSON can go on; what stands before is written by then.
    """
    open_brackets, wanted = "", "value"
    while True:
        yield from _copy_blanks(cursor, write)
        sign = yield from cursor.peek()
        if wanted == "colon":
            if sign != ":":
                raise Malformed("no colon behind a key")
            _pass(cursor, write)
            wanted = "value"
            continue
        if wanted == "more" and sign == ",":
            _pass(cursor, write)
            wanted = "key" if open_brackets[-1] == "}" else "value"
            continue
        if wanted in ("key", "first key") and sign == '"':
            yield from _copy_string(cursor, write)
            wanted = "colon"
            continue
        if wanted in ("value", "first value") and sign in "{[":
            open_brackets += "}" if sign == "{" else "]"
            if len(open_brackets) > MAX_DEPTH:
                raise Malformed("JSON nested too deeply")
            _pass(cursor, write)
            wanted = "first key" if sign == "{" else "first value"
            continue
        if wanted in ("more", "first key", "first value") and sign == open_brackets[-1]:
            _pass(cursor, write)
            open_brackets = open_brackets[:-1]
        elif wanted in ("value", "first value"):
            yield from _copy_string(cursor, write) if sign == '"' else _copy_word(cursor, write)
        else:
            raise Malformed(f"not JSON: {sign!r}")
        if not open_brackets:
            return
        wanted = "more"


def read_value(cursor: Cursor) -> Reading[Any]:
    """One JSON value. Raises `Malformed` for what is none."""
    pieces: list[str] = []
    yield from copy_value(cursor, pieces.append)
    try:
        return json.loads("".join(pieces))
    except (ValueError, RecursionError):  # an integer of more digits than Python reads
        raise Malformed("not JSON") from None


def next_key(cursor: Cursor, *, first: bool) -> Reading[str | None]:
    """The next key of an object that is open, its colon read too; None with the closing bracket."""
    yield from cursor.skip_blanks()
    sign = yield from cursor.peek()
    if sign == "}":
        cursor.at += 1
        return None
    if not first:
        if sign != ",":
            raise Malformed("no comma between members")
        cursor.at += 1
        yield from cursor.skip_blanks()
        sign = yield from cursor.peek()
    if sign != '"':
        raise Malformed("no key")
    key = yield from read_value(cursor)
    yield from cursor.skip_blanks()
    if not (yield from cursor.literal(":")):
        raise Malformed("no colon behind a key")
    yield from cursor.skip_blanks()
    return key


def escaped(text: str) -> str:
    """The text as it stands inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _pass(cursor: Cursor, write: Write, count: int = 1) -> None:
    """Pass the next characters on; they count as read when `write` sees them."""
    cursor.at += count
    write(cursor.text[cursor.at - count : cursor.at])


def _copy_blanks(cursor: Cursor, write: Write) -> Reading[None]:
    while (yield from cursor.peek()) in BLANKS:
        _pass(cursor, write)


def _copy_string(cursor: Cursor, write: Write) -> Reading[None]:
    _pass(cursor, write)
    while True:
        plain = PLAIN.match(cursor.text, cursor.at)
        if plain:
            _pass(cursor, write, plain.end() - plain.start())
        sign = yield from cursor.peek()
        if sign == '"':
            _pass(cursor, write)
            return
        if sign == "\\":
            yield from _copy_escape(cursor, write)
        elif sign < " ":
            cursor.at += 1
            write(escaped(sign))


def _copy_escape(cursor: Cursor, write: Write) -> Reading[None]:
    kind = (yield from cursor.peek(2))[1]
    if kind in '"\\/bfnrt':
        _pass(cursor, write, 2)
    elif kind == "u" and HEX.fullmatch((yield from cursor.peek(6)), 1):
        _pass(cursor, write, 6)
    else:
        cursor.at += 1
        write("\\\\")


def _copy_word(cursor: Cursor, write: Write) -> Reading[None]:
    """A number, true, false or null: known to be one when it has ended, so written then."""
    while True:
        word = WORD.match(cursor.text, cursor.at)
        assert word is not None
        if word.end() < len(cursor.text) or cursor.ended or len(word[0]) > LONGEST_WORD:
            break
        yield
    if not SCALAR.fullmatch(word[0]) or len(word[0]) > LONGEST_WORD:
        raise Malformed(f"not JSON: {word[0][:20]!r}")
    _pass(cursor, write, len(word[0]))
