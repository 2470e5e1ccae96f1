"""Telling the encoding of bytes: UTF-8, UTF-16, GB18030, Big5, Shift-JIS, EUC and the Western single-byte ones.

What says more than any statistics comes first: byte-order marks, then whether the bytes are UTF-8 at all (no other
text of more than a few letters is so by chance). What is left is decoded by each candidate, and the candidate whose
characters look most like writing wins: characters in frequent use count for it, rare ones, private ones and errors
against it. The answer depends on the bytes only.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from luhuo.files.characters import FREQUENT

AUTO = "auto"
"""What a person writes to have the encoding told."""

SAMPLE = 2**14
"""Bytes that are decoded by each candidate: the first ones that are not ASCII, with what stands around them."""

MULTI_BYTE = ("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949")
SINGLE_BYTE = ("cp1252", "cp1251")
FALLBACK = "cp1252"

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

PUNCTUATION = frozenset("，。、：；！？“”‘’《》「」『』（）【】—…·　０１２３４５６７８９％～〈〉－")
JAPANESE_PUNCTUATION = frozenset("、。「」『』・ー　（）！？")
HANGUL = frozenset(
    "이다는에의을가고하지로사기를은도한리자어시나대인서해수그과아부라정들만보으일여전제스원장있니것주와년안했우면조았었선습"
)
"""The most frequent syllables of Korean."""
TYPOGRAPHY = frozenset("‘’“”–—…•€£©®°«»§·±²³¼½¾¿¡×´\xa0")
HIGH = re.compile(rb"[\x80-\xff]")
TO_HALF = 0.5


def detect(data: bytes, *, whole: bool = True) -> str:
    """The name of the codec that reads these bytes. `whole`: False if they are the beginning of something longer,
    and may end within a character. Of bytes that are text in no encoding it says "utf-8"; the reader then reports
    each broken line."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    if not data or (data.isascii() and b"\0" not in data):
        return "iso2022_jp" if b"\x1b$" in data else "utf-8"
    if b"\0" not in data and _is_utf8(data, whole):
        return "utf-8"
    wide = _wide(data)
    if wide:
        return wide
    if _is_utf8(data, whole):
        return "utf-8"
    sample = _sample(data)
    scores = [(_score(sample, name), -place, name) for place, name in enumerate((*MULTI_BYTE, *SINGLE_BYTE))]
    best, _, name = max(scores)
    if best <= 0:
        return "utf-8" if _nearly_utf8(data) else FALLBACK
    return "utf-8" if best < TO_HALF and _nearly_utf8(data) else name


def _is_utf8(data: bytes, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _nearly_utf8(data: bytes) -> bool:
    """Whether nine of ten bytes beyond ASCII stand in correct UTF-8 sequences: UTF-8 with some damage."""
    high = len(HIGH.findall(data))
    good = len(HIGH.findall(data.decode("utf-8", "ignore").encode("utf-8")))
    return good >= 0.9 * high


def _wide(data: bytes) -> str | None:
    """UTF-16 (or UTF-32) without a mark: bytes that are zero at every other place, or half the bytes from so few
    values that they can only be the upper halves of characters."""
    part = data[: SAMPLE // 4 * 4]
    part = part[: len(part) // 4 * 4] or part[: len(part) // 2 * 2]
    if len(part) < 2 or (len(data) % 2 and len(data) < SAMPLE):
        return None
    even, odd = part[::2], part[1::2]
    zero_even, zero_odd = even.count(0) / len(even), odd.count(0) / len(odd)
    if zero_even > 0.4 and zero_odd > 0.4 and len(part) >= 4:
        quarters = [part[place::4].count(0) * 4 / len(part) for place in range(4)]
        little = quarters[0] < 0.1 and quarters[3] > 0.9
        return "utf-32-le" if little else "utf-32-be" if quarters[3] < 0.1 and quarters[0] > 0.9 else None
    best, name = 0.0, None
    for codec in ("utf-16-le", "utf-16-be"):
        score = _wide_score(part, codec)
        if score > best:
            best, name = score, codec
    if name is None:
        return None
    if max(zero_even, zero_odd) > 0.1:
        return name
    # No zeros: Chinese without a single ASCII character. It must be better writing than every other reading.
    return (
        name
        if best >= 0.5 and all(_score(part, other) < best for other in ("gb18030", "big5hkscs", "cp932"))
        else None
    )


def _wide_score(part: bytes, codec: str) -> float:
    try:
        text = part.decode(codec)
    except UnicodeDecodeError as error:
        if error.start < len(part) - 2:
            return 0.0
        text = part[: error.start].decode(codec)
    if not text:
        return 0.0
    return sum(1.0 if " " <= c < "\x7f" or c in "\r\n\t" else _weight(c) for c in text) / len(text)


def _sample(data: bytes) -> bytes:
    """Pieces of the data around the bytes that are not ASCII, at most `SAMPLE` bytes."""
    found = HIGH.search(data)
    start = max(0, (found.start() if found else 0) - 16)
    while start and data[start - 1] >= 0x80:  # not within a character
        start -= 1
    return data[start : start + SAMPLE]


def _score(sample: bytes, codec: str) -> float:
    """How much the bytes beyond ASCII look like writing when read by a codec: at most 1, below 0 for nonsense."""
    text = _decoded(sample, codec)
    total, weights = 0, 0.0
    single = codec in SINGLE_BYTE
    before = " "
    for place, character in enumerate(text):
        if character >= "\x80":
            after = text[place + 1] if place + 1 < len(text) else " "
            size = 1 if single or character in "\ufffd" else 2
            total += size
            weights += size * (_letter(character, before, after) if single else _kind_weight(character, codec))
        before = character
    return weights / total if total else 0.0


def _decoded(sample: bytes, codec: str) -> str:
    text = sample.decode(codec, "replace")
    return text[:-1] if text.endswith("\ufffd") else text  # the sample may end within a character


def _kind_weight(character: str, codec: str) -> float:
    if codec in ("cp932", "euc_jp"):
        if "\u3041" <= character <= "\u30fe":
            return 1.0
        if character in JAPANESE_PUNCTUATION:
            return 0.9
        if "\uff61" <= character <= "\uff9f":  # half-width katakana: what other encodings look like
            return -0.6
        return _weight(character) - 0.25
    if codec == "cp949":
        if "\uac00" <= character <= "\ud7a3":
            return 1.0 if character in HANGUL else 0.3
        return _weight(character) - 0.3
    return _weight(character)


@lru_cache(maxsize=2**16)
def _weight(character: str) -> float:
    """How much a character counts for Chinese: 1 in frequent use, less the rarer, below 0 for none at all."""
    if character in FREQUENT or character in PUNCTUATION:
        return 1.0
    point = ord(character)
    if 0x4E00 <= point <= 0x9FFF:
        return 0.45 if _is_common(character) else -0.3
    if character in TYPOGRAPHY or 0x3000 <= point <= 0x303F or 0xFF01 <= point <= 0xFF5E:
        return 0.4
    if 0x3041 <= point <= 0x30FE:
        return 0.1
    if 0x2010 <= point <= 0x27BF:
        return 0.2
    if 0x80 <= point <= 0x9F or 0xE000 <= point <= 0xF8FF or character == "\ufffd":
        return -3.0
    return -0.5


def _is_common(character: str) -> bool:
    """Whether it is among the 3,755 characters of the first level of GB 2312, or the 5,401 of Big5."""
    try:
        if character.encode("gb2312")[0] <= 0xD7:
            return True
    except UnicodeEncodeError:
        pass
    try:
        return character.encode("big5")[0] <= 0xC6
    except UnicodeEncodeError:
        return False


def _letter(character: str, before: str, after: str) -> float:
    """How much a character of a single-byte encoding counts, by its neighbours: é stands among letters, ” beside
    one, and runs of such characters are no Western text (but Cyrillic is made of them)."""
    if character in TYPOGRAPHY:
        return 0.6 if before < "\x80" or after < "\x80" else -0.5
    if "\u0400" <= character <= "\u045f":
        cyrillic = "\u0400" <= before <= "\u045f" or "\u0400" <= after <= "\u045f"
        small = character >= "\u0430" or not "\u0430" <= before <= "\u045f"
        return 0.6 if cyrillic and small else -0.6
    if character.isalpha() and character < "\u0180":
        lonely = before < "\x80" and after < "\x80"
        within = (before.isalpha() or after.isalpha()) and not (character.isupper() and before.islower())
        return 0.8 if lonely and within else 0.1 if lonely else -0.4
    return -1.0
