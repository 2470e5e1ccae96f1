"""Finding personal data in one text."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Collection, Iterator

from luhuo.core.config import unknown_key
from luhuo.core.language import tr
from luhuo.corpus.privacy.context import folded
from luhuo.corpus.privacy.kinds import DEFAULT, KINDS, Span
from luhuo.corpus.privacy.network import find_network
from luhuo.corpus.privacy.numbers import find_codes, find_numbers
from luhuo.corpus.privacy.persons import find_persons
from luhuo.corpus.privacy.secrets import find_secrets

TELLING = re.compile(r"[A-Za-z:：\d]")
"""Every kind has one of these: a letter, a digit, or the colon of a form."""
_RANK = {name: place for place, name in enumerate(KINDS)}


def find(text: str, lang: str, kinds: Collection[str] = DEFAULT) -> list[Span]:
    """The personal data in a text, in order and without overlaps; offsets are those of the text as given.

    `lang` decides only what is written alike in two languages. Raises `LuhuoError` for an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_key(kind, list(KINDS), None, tr("kind", "类别"))
    plain = folded(text)
    if TELLING.search(plain) is None:  # short texts mostly
        return []
    spans = list(_candidates(plain, lang, kinds))
    return [span._replace(value=text[span.start : span.end]) for span in _apart(spans)] if spans else []


def _candidates(text: str, lang: str, kinds: Collection[str]) -> Iterator[Span]:
    if "secret" in kinds:
        yield from find_secrets(text)
    yield from find_numbers(text, lang, kinds)
    yield from find_codes(text, kinds)
    yield from find_network(text, kinds)
    yield from find_persons(text, kinds)


def _apart(spans: list[Span]) -> list[Span]:
    """Of spans that overlap the kind that comes first, of equal kinds the longer one."""
    kept: list[Span] = []
    for span in sorted(set(spans), key=lambda s: (_RANK[s.kind], s.start - s.end, s.start)):
        place = bisect(kept, span)
        free = not place or kept[place - 1].end <= span.start
        if free and (place == len(kept) or span.end <= kept[place].start):
            kept.insert(place, span)
    return kept
