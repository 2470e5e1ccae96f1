"""Exact match and F1 of short answers: SQuAD's for English, CMRC 2018's and the character F1 for Chinese.

Three conventions, because published numbers use all three: `squad` (words, no articles; Rajpurkar et al. 2016),
`cmrc` (characters, the longest *contiguous* common part; the script of Cui et al. 2019), and `characters` (the bag of
characters, as DRCD is usually scored). With several accepted answers the best one counts, measure by measure.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

Convention = Literal["squad", "cmrc", "characters"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII = str.maketrans("", "", string.punctuation)
_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》……·、「」（）－～『』")
"""What the CMRC script takes for punctuation and leaves out."""
_HAN = re.compile(r"[\u4e00-\u9fa5]")
_PIECES = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]|_")


def exact_and_f1(answer: str, accepted: Sequence[str], convention: Convention) -> tuple[float, float]:
    """(exact match 0 or 1, F1 0 to 1) against the best of the accepted answers. Raises ValueError without any."""
    exact, f1 = _CONVENTIONS[convention]
    return max(exact(answer, other) for other in accepted), max(f1(answer, other) for other in accepted)


def squad_form(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_ASCII)).split())


def _squad_exact(answer: str, accepted: str) -> float:
    return float(squad_form(answer) == squad_form(accepted))


def _squad_f1(answer: str, accepted: str) -> float:
    return _bag_f1(squad_form(answer).split(), squad_form(accepted).split())


def cmrc_form(text: str) -> str:
    """Lower case, without what CMRC takes for punctuation; spaces inside stay."""
    return "".join(character for character in text.lower().strip() if character not in _MARKS)


def cmrc_pieces(text: str) -> list[str]:
    """Each Han character, and the words and signs of what stands between them."""
    pieces: list[str] = []
    for part in re.split(f"({_HAN.pattern})", cmrc_form(text)):
        pieces += [part] if _HAN.fullmatch(part) else _PIECES.findall(part)
    return pieces


def _cmrc_exact(answer: str, accepted: str) -> float:
    return float(cmrc_form(answer) == cmrc_form(accepted))


def _cmrc_f1(answer: str, accepted: str) -> float:
    found, wanted = cmrc_pieces(answer), cmrc_pieces(accepted)
    return _f1(_longest_run(found, wanted), len(found), len(wanted))


def _longest_run(a: Sequence[str], b: Sequence[str]) -> int:
    longest, above = 0, [0] * (len(b) + 1)
    for token in a:
        row = [0]
        for place, other in enumerate(b):
            row.append(above[place] + 1 if token == other else 0)
        longest, above = max(longest, *row), row
    return longest


def _characters_f1(answer: str, accepted: str) -> float:
    return _bag_f1(cmrc_pieces(answer), cmrc_pieces(accepted))


def _bag_f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    return _f1((Counter(found) & Counter(wanted)).total(), len(found), len(wanted))


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if common else 0.0


_Pair = tuple[Callable[[str, str], float], Callable[[str, str], float]]
_CONVENTIONS: dict[str, _Pair] = {
    "squad": (_squad_exact, _squad_f1),
    "cmrc": (_cmrc_exact, _cmrc_f1),
    "characters": (_cmrc_exact, _characters_f1),
}
