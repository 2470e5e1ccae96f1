"""Decoding a stream of tokens as they come: never half a character.

One character can span several tokens (a rare Han character or an emoji is up to four bytes, each perhaps its own
token). What is not yet a whole character is held back; bytes that cannot become one turn into U+FFFD.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Protocol

REPLACEMENT = "\ufffd"
HOLD = 32
"""Tokens held back at most when no byte table is known; a character never spans more than four."""


class IncrementalDecoder(Protocol):
    """Text piece by piece: the pushes and the flush joined are the text of all tokens."""

    def push(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        ...

    def flush(self) -> str:
        """What is left at the end of the stream; an unfinished character becomes U+FFFD."""
        ...


class ByteDecoder:
    """For tokenizers whose tokens are byte strings. Exact, constant work a token.

    With `drop_first_blank`, a blank that starts the text is left out: SentencePiece puts one before every text.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], *, drop_first_blank: bool = False) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._drop_first_blank = self._at_start = drop_first_blank

    def push(self, token: int) -> str:
        return self._started(self._utf8.decode(self._token_bytes(token)))

    def flush(self) -> str:
        text = self._started(self._utf8.decode(b"", final=True))
        self._utf8.reset()
        self._at_start = self._drop_first_blank
        return text

    def _started(self, text: str) -> str:
        if not (self._at_start and text):
            return text
        self._at_start = False
        return text.removeprefix(" ")


class WindowDecoder:
    """For every other kind: decode a window of recent tokens and give out what is new in it.

    The last finished piece stays in the window, because a token's text can depend on the one before it
    (a leading blank, WordPiece's `##`).
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []
        self._held: list[int] = []

    def push(self, token: int) -> str:
        self._held.append(token)
        text = self._new_text()
        if text.endswith(REPLACEMENT) and len(self._held) < HOLD:
            return ""
        if text:
            self._context, self._held = self._held, []
        return text

    def flush(self) -> str:
        text = self._new_text() if self._held else ""
        self._context, self._held = [], []
        return text

    def _new_text(self) -> str:
        return self._decode(self._context + self._held)[len(self._decode(self._context)) :]
