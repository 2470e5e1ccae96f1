"""Language and script of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from luhuo.core.errors import missing_extra
from luhuo.corpus.normalise import language


class Guess(NamedTuple):
    """What a text is written in: a language code, a script ("" where the language has one), and how sure that is."""

    lang: str
    script: str
    score: float


def identify(texts: Sequence[str]) -> list[Guess]:
    """The language of each text."""
    return [Guess(language(text), "", 1.0) for text in texts]


def convert(text: str, to: str) -> str:
    """Chinese in simplified ("Hans") or traditional ("Hant") characters."""
    try:
        import opencc
    except ImportError:
        raise missing_extra("opencc", "data") from None
    return opencc.OpenCC("t2s" if to == "Hans" else "s2t").convert(text)
