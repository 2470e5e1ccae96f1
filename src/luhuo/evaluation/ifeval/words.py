"""What the checks count and detect: words, sentences, words in capitals, and the language of a text.

The published checks use nltk with data that is fetched at run time. Words are counted by the same rule; sentences and
capitals by rules of our own, which can differ where a trained splitter knows an abbreviation that is not listed here,
or takes a full stop before a lower-case letter for the end of a sentence. Chinese sentences end at 。！？ here; the
published splitter knows no Chinese. The language is langdetect's, with a fixed seed, where the published one is drawn.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from luhuo.core.errors import missing_extra

_WORD = re.compile(r"\w+")
_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|[。！？…]+[”’」』）]*")
_LISTED = """
mr mrs ms dr prof st jr sr vs etc inc ltd co corp dept est fig no vol pp gen col lt sgt capt rev hon gov sen rep e.g
i.e a.m p.m u.s u.k u.n ph.d b.a m.a jan feb mar apr jun jul aug sep sept oct nov dec
"""
_ABBREVIATIONS = frozenset(_LISTED.split())
_OPENING = re.compile(r"\s+[\"'“‘(\[*_]*[^\W_a-z]")
_SPACED = re.compile(r"--|\.{2,}|[:,](?!\d)|[\s;@#$%&?!*()\[\]{}<>\"“”«»‘’„`\u2012-\u2015]")
_PARTS = re.compile(
    r"(?<=[^'])(?='(?:[SMDsmd]|LL|RE|VE|ll|re|ve|)$)|(?<=[^'])(?=(?:N'T|n't)$)"
    r"|(?<=^CAN)(?=NOT$)|(?<=^D)(?='YE$)|(?<=^GIM)(?=ME$)|(?<=^GON)(?=NA$)|(?<=^GOT)(?=TA$)|(?<=^LEM)(?=ME$)"
    r"|(?<=^WAN)(?=NA$)|(?<=^'T)(?=(?:IS|WAS)$)"
)


def words(text: str) -> int:
    """How many runs of letters, digits and underscores there are (a run of Chinese is one)."""
    return len(_WORD.findall(text))


def sentences(text: str) -> int:
    """How many sentences there are."""
    count, start = 0, 0
    for match in _END.finditer(text):
        if _ends(text, start, match):
            count += bool(_WORD.search(text, start, match.start()))
            start = match.end()
    return count + bool(_WORD.search(text, start))


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether a full stop is the end of a sentence and not of an abbreviation, an initial or a number of a list."""
    if match[0][0] != "." or match[0].startswith(".."):
        return True
    before = text[start : match.start()].rsplit(None, 1)
    last = before[-1].lstrip("\"'“‘([*_").casefold() if before else ""
    if last in _ABBREVIATIONS:
        return last in ("etc", "a.m", "p.m", "inc", "jr") and bool(_OPENING.match(text, match.end()))
    initial = len(last) == 1 and last.isalpha() and last != "i"
    numbering = last.isdigit() and not text[start : match.start()].strip()[len(last) :]
    return not initial and not numbering and not re.match(r"\s+[a-z]", text[match.end() : match.end() + 40])


def capitals(text: str) -> int:
    """How many words stand in capitals, as the published tokenizer parts them: at signs, and "DON'T" in two."""
    tokens = (part for word in _SPACED.split(text) if word for part in _PARTS.split(word.rstrip(".")))
    return sum(token.isupper() for token in tokens)


def language(text: str) -> str | None:
    """The code of the text's language ("en", "zh-cn"), or None where there is nothing to tell it by.

    Raises `LuhuoError` where langdetect is not installed.
    """
    factory, no_features = _detection()
    detector = factory.create()
    detector.append(text)
    try:
        return detector.detect()
    except no_features:
        return None


@cache
def _detection() -> tuple[Any, type[Exception]]:
    """A detector factory of our own, since its seed is a setting of the whole process otherwise."""
    try:
        from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
        from langdetect.lang_detect_exception import LangDetectException
    except ImportError:
        raise missing_extra("langdetect", "eval") from None
    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.seed = 0
    return factory, LangDetectException
