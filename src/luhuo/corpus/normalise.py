"""Unicode normalisation that leaves Chinese punctuation alone.

Blanket NFKC would turn ， into , and ： into : and so make Chinese text wrong. Here only what carries no meaning goes:
composition (NFC), line ends, invisible control characters, and the full-width forms of ASCII letters and digits.
"""

from __future__ import annotations

import re
import unicodedata

FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]+")
"""０-９ Ａ-Ｚ ａ-ｚ, to half width; full-width punctuation stays."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufff9-\ufffb]")
"""Control characters but for tab and line feed, zero-width spaces, byte-order marks."""

LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
MANY_EMPTY = re.compile(r"\n{4,}")

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
LETTER = re.compile(r"[^\W\d_]")


def normalise(text: str) -> str:
    """The text in the form it is trained on and compared in."""
    text = LINE_END.sub("\n", text)
    if not text.isascii():
        text = FULL_WIDTH.sub(_halved, unicodedata.normalize("NFC", text))
    text = "\n".join(map(str.rstrip, CONTROL.sub("", text).split("\n")))
    return MANY_EMPTY.sub("\n\n\n", text).strip()


def _halved(found: re.Match[str]) -> str:
    """Full-width letters and digits at half width."""
    return "".join(chr(ord(character) - 0xFEE0) for character in found[0])


def language(text: str, sample: int = 4000) -> str:
    """ "zh" where at least three of ten letters are Han characters, else "en": the two languages told apart here."""
    part = text[:sample]
    letters = len(LETTER.findall(part))
    return "zh" if letters and len(HAN.findall(part)) >= 0.3 * letters else "en"
