"""Everything that is known of one document: text before and after, with marks; reasons; signals beside limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from luhuo.browse.columns import STATES, Index
from luhuo.browse.query import row_of
from luhuo.core.errors import LuhuoError
from luhuo.corpus import privacy, rules
from luhuo.corpus.factory.filter import personal_data, secret_of, without_repeats
from luhuo.report.corpus_card.family import Corpus
from luhuo.report.corpus_card.gather import reasons_of
from luhuo.report.corpus_card.reasons import why_dropped
from luhuo.report.corpus_card.rows import Row

MOST = 200_000
"""Characters of a text that are shown."""
COMPARED = 20_000
"""Characters of two texts that are compared."""
PIECE = re.compile(r"[^\W\u3400-\u9fff]+|\s+|.", re.DOTALL)
"""Words, blanks, and single characters of Chinese."""
Segment = list[str]
"""[text, mark, what stands there when personal data is hidden]; mark: "", "cut:KIND", "personal:KIND"."""


def document(index: Index, part: int, line: int) -> dict[str, Any]:
    """A document as plain values. Raises `LuhuoError` if there is none at this place."""
    where, row, columns = row_of(index, part, line)
    record, corpus = row.record, index.corpus
    reasons = reasons_of(row)
    verdict = row.verdict
    shown = ("id", "source", "lang", "script", "licence", "origin", "repaired", "converted_from")
    return {
        "part": part,
        "line": line,
        "unit": where.name,
        "lines": len(columns),
        "chars": len(record["text"]),
        "cut_off": len(record["text"]) > MOST,
        "about": {name: record[name] for name in shown if record.get(name)},
        "state": STATES[columns.states[line]],
        "reasons": [
            {"code": code, "value": value, "why": why_dropped(corpus, str(code), [record["lang"]])}
            for code, value in reasons
        ],
        "verdict": None if verdict is None else {"kept": verdict.kept, "cluster": verdict.cluster, "of": verdict.of},
        "signals": signals(corpus, row),
        "before": before(row),
        "after": None if reasons else after(corpus, row),
    }


def signals(corpus: Corpus, row: Row) -> list[dict[str, Any]]:
    """Signals with the limits of their language: those that are broken first, then those with limits."""
    lang = row.record["lang"]
    limits = {rule.signal: rule for rule in corpus.decider.rules_of(lang)}
    flags = rules.flags(lang)
    found = []
    for name, value in row.signals.items():
        if "." not in name:  # what the record says too
            continue
        rule = limits.get(name) or flags.get(name)
        broken = rule is not None and isinstance(value, int | float) and not rule.holds(value)
        entry: dict[str, Any] = {"name": name, "value": value, "broken": broken, "flag": name not in limits}
        if rule is not None:
            entry |= {"min": rule.min, "max": rule.max, "reason": rule.reason, "why": rule.why}
        found.append(entry)
    return sorted(found, key=lambda one: (not one["broken"], "reason" not in one))


def before(row: Row) -> list[Segment]:
    """The text as it was read, with marks where it repeats others and where personal data is."""
    text = row.record["text"][:MOST]
    marks = [(start, end, f"cut:{kind}") for start, end, kind in (row.verdict.cuts if row.verdict else ())]
    for span in privacy.find(text, row.record["lang"]):
        if all(span.end <= start or span.start >= end for start, end, _ in marks):
            marks.append((span.start, span.end, f"personal:{span.kind}"))
    return _segments(text, marks)


def _segments(text: str, marks: Sequence[tuple[int, int, str]]) -> list[Segment]:
    """A text divided at marks, which do not overlap."""
    found: list[Segment] = []
    place = 0
    for start, end, mark in sorted(marks):
        if start >= len(text):
            break
        found.append([text[place:start], "", text[place:start]])
        part = text[start:end]
        found.append([part, mark, privacy.masked(part) if mark.startswith("personal:") else part])
        place = end
    found.append([text[place:], "", text[place:]])
    return [segment for segment in found if segment[0]]


def after(corpus: Corpus, row: Row) -> list[Segment] | None:
    """The text as the filter stage wrote it, with marks where personal data was replaced; None where none did."""
    settings = corpus.settings
    if settings is None:
        return None
    text = row.record["text"]
    if row.split is not None:  # what was written is all there is
        return _segments(text[:MOST], [])
    text = without_repeats(text, row.verdict.cuts if row.verdict else [])
    spans = personal_data(settings, text, row.record["lang"], row.signals)
    found: list[Segment] = []
    place = 0
    for span, put in zip(spans, _replaced(settings, text, spans, row.record["lang"]), strict=True):
        found += [[text[place : span.start], "", text[place : span.start]], [put, f"personal:{span.kind}", put]]
        place = span.end
    found.append([text[place:], "", text[place:]])
    return [segment for segment in _limited(found) if segment[0]]


def compare(index: Index, one: tuple[int, int], other: tuple[int, int]) -> dict[str, list[Segment]]:
    """The beginnings of two documents (part, line) with what only either has marked "differs"."""
    texts = [row_of(index, *place)[1].record["text"][:COMPARED] for place in (one, other)]
    pieces = [PIECE.findall(text) for text in texts]
    found: list[list[Segment]] = [[], []]
    for what, *bounds in SequenceMatcher(None, pieces[0], pieces[1]).get_opcodes():
        for side, (start, end) in enumerate((bounds[:2], bounds[2:])):
            if start < end:
                text = "".join(pieces[side][start:end])
                found[side].append([text, "" if what == "equal" else "differs", text])
    return {"one": found[0], "other": found[1]}


def _replaced(settings: dict[str, Any], text: str, spans: Sequence[privacy.Span], lang: str) -> list[str]:
    """What stands in the place of each span: all are replaced together, as their numbers depend on one another.

    Without the secret of synthetic values a placeholder is shown.
    """
    if not spans:
        return []
    moved, place = [], 0
    for span in spans:
        moved.append(privacy.Span(place, place + len(span.value), span.kind, span.value))
        place += len(span.value) + 1
    joined = "\0".join(span.value for span in spans)
    style = settings["privacy"]
    try:
        key = secret_of(settings)
    except LuhuoError:  # whoever looks does not have it
        style, key = "placeholder", None
    return privacy.replace(joined, moved, style=style, key=key, lang=lang).split("\0")


def _limited(segments: list[Segment]) -> list[Segment]:
    """Segments up to `MOST` characters."""
    left, found = MOST, []
    for text, mark, hidden in segments:
        found.append([text[:left], mark, hidden[:left]])
        left = max(0, left - len(text))
    return found
