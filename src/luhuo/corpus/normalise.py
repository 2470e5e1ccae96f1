"""Unicode normalisation that leaves Chinese punctuation alone.

Blanket NFKC would turn ， into , and ： into : and so make Chinese text wrong. Here only what carries no meaning goes:
composition (NFC), line ends, invisible control characters, and the full-width forms of ASCII letters and digits.
"""

from __future__ import annotations

import re
import unicodedata

_FULL_WIDTH = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
FULL_WIDTH = re.compile(f"[{_FULL_WIDTH}]+")
"""０-９ Ａ-Ｚ ａ-ｚ, to half width; full-width punctuation stays."""

_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufff9-\ufffb"
CONTROL = re.compile(f"[{_CONTROL}]")
"""Control characters but for tab and line feed, zero-width spaces, byte-order marks."""

LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
UNUSUAL = re.compile(f"[\r\x85\u2028\u2029{_FULL_WIDTH}{_CONTROL}]")
"""All of these: most texts have none, and one set of characters is looked for much faster than several expressions."""
MANY_EMPTY = re.compile(r"\n{4,}")

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
LETTER = re.compile(r"[^\W\d_]")


def normalise(text: str) -> str:
    """The text in the form it is trained on and compared in."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if UNUSUAL.search(text):
        text = CONTROL.sub("", FULL_WIDTH.sub(_halved, LINE_END.sub("\n", text)))
    text = "\n".join(map(str.rstrip, text.split("\n")))
    if "\n\n\n\n" in text:
        text = MANY_EMPTY.sub("\n\n\n", text)
    return text.strip()


def _halved(found: re.Match[str]) -> str:
    """Full-width letters and digits at half width."""
    return "".join(chr(ord(character) - 0xFEE0) for character in found[0])


def language(text: str, sample: int = 4000) -> str:
    """ "zh" where at least three of ten letters are Han characters, else "en": the two languages told apart here."""
    part = text[:sample]
    letters = len(LETTER.findall(part))
    return "zh" if letters and len(HAN.findall(part)) >= 0.3 * letters else "en"
