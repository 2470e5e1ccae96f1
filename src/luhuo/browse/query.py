"""What one looks for, and the search: on from a place in the corpus, until a page is full or its time is over."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luhuo.browse.columns import STATES, Columns, Index, prefix
from luhuo.core.config import Config
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.report.corpus_card.rows import Part, row_at, texts_of

BUDGET_S = 1.5
"""Time after which a page is given as it is; the next one goes on."""
AROUND = 90
"""Characters shown before and after what was found."""
BEGINNING = 200
NAMED_PARTS = 200
"""Parts that are asked for the names of sources, languages, reasons and signals."""
HEXADECIMAL = re.compile(r"[0-9a-f]{1,32}")


class Range(Config):
    """Values that a signal may have."""

    name: str
    min: float | None = None
    max: float | None = None


class Query(Config):
    """What fits: all that is given must hold."""

    text: str = ""
    regex: bool = False
    case: bool = False
    state: Literal["", "kept", "dropped", "changed"] = ""
    reason: str = ""
    source: str = ""
    lang: str = ""
    id: str = ""
    """The beginning of an id."""
    cluster: str = ""
    signals: tuple[Range, ...] = ()

    def pattern(self) -> re.Pattern[str] | None:
        """What is looked for in texts. Raises `LuhuoError` for an expression that is none."""
        if not self.text:
            return None
        flags = 0 if self.case else re.IGNORECASE
        try:
            return re.compile(self.text if self.regex else re.escape(self.text), flags)
        except (re.error, RecursionError, OverflowError) as error:
            raise LuhuoError(
                tr("This is not a regular expression.", "这不是正则表达式。"), found=error, where=self.text
            ) from None


@dataclass(frozen=True)
class Page:
    """Some of what was found."""

    hits: list[dict[str, Any]]
    next: tuple[int, int] | None
    """Part and line where the search goes on; None at the end."""
    looked: int
    """Parts that were gone through, of `parts`."""
    parts: int


def search(index: Index, query: Query, start: tuple[int, int], limit: int) -> Page:
    """Up to `limit` documents from a place (part, line) on. Raises `LuhuoError`."""
    pattern, everything = query.pattern(), index.parts
    deadline = time.monotonic() + BUDGET_S
    hits: list[dict[str, Any]] = []
    for number in range(start[0], len(everything)):
        part = everything[number]
        first = start[1] if number == start[0] else 0
        columns = index.columns(part)
        fitting = _fitting(columns, query)
        wanted = fitting[fitting >= first].tolist()
        for line, text in texts_of(index.corpus, part, iter(wanted)) if wanted else ():
            found = pattern.search(text) if pattern else None
            if pattern is None or found is not None:
                hits.append(_hit(number, line, columns, index, text, found))
            if len(hits) >= limit or time.monotonic() > deadline:
                return Page(hits, (number, line + 1), number, len(everything))
        if time.monotonic() > deadline and number + 1 < len(everything):
            return Page(hits, (number + 1, 0), number + 1, len(everything))
    return Page(hits, None, len(everything), len(everything))


def _fitting(columns: Columns, query: Query) -> NDArray[np.int64]:
    """Lines of a part whose columns fit."""
    fits = np.ones(len(columns), bool)
    if query.state == "changed":
        fits &= columns.changed
    elif query.state:
        fits &= columns.states == STATES.index(query.state)
    for name, column, kind in ((query.source, columns.sources, "sources"), (query.lang, columns.langs, "langs")):
        if name:
            fits &= column == _number(columns, kind, name)
    if query.reason:
        mask = np.zeros(len(columns), bool)
        mask[columns.reason_rows[columns.reason_codes == _number(columns, "reasons", query.reason)]] = True
        fits &= mask
    if query.id:
        low, high = _span(query.id)
        fits &= (columns.ids >= np.uint64(low)) & (columns.ids <= np.uint64(high))
    if query.cluster:
        fits &= columns.clusters == np.uint64(prefix(query.cluster))
    for wanted in query.signals:
        fits &= _in_range(columns, wanted)
    return np.flatnonzero(fits)


def _in_range(columns: Columns, wanted: Range) -> NDArray[np.bool_]:
    if wanted.name not in columns.names["signals"]:
        return np.zeros(len(columns), bool)
    values = columns.signals[:, columns.names["signals"].index(wanted.name)]
    fits = ~np.isnan(values)
    if wanted.min is not None:
        fits &= values >= np.float32(wanted.min)
    if wanted.max is not None:
        fits &= values <= np.float32(wanted.max)
    return fits


def _number(columns: Columns, kind: str, name: str) -> int:
    """The number of a name, or one that no document has."""
    return columns.names[kind].index(name) if name in columns.names[kind] else len(columns.names[kind])


def _span(start: str) -> tuple[int, int]:
    """The smallest and the largest number of ids that begin so."""
    digits = start.lower()
    if not HEXADECIMAL.fullmatch(digits):
        raise LuhuoError(
            tr("This is not the beginning of an id.", "这不是编号的开头。"),
            expected=tr("hexadecimal digits", "十六进制数字"),
            found=start,
        )
    return int(digits[:16].ljust(16, "0"), 16), int(digits[:16].ljust(16, "f"), 16)


def _hit(
    part: int, line: int, columns: Columns, index: Index, text: str, found: re.Match[str] | None
) -> dict[str, Any]:
    codes = columns.reason_codes[columns.reason_rows == line].tolist()
    start, end = (0, 0) if found is None else found.span()
    first = max(0, start - AROUND)
    last = min(len(text), max(end, start) + AROUND) if found else min(len(text), BEGINNING)
    # What was found may itself be as long as the text.
    end = min(end, start + 4 * AROUND)
    last = min(last, end + AROUND) if found else last
    return {
        "part": part,
        "line": line,
        "id": f"{int(columns.ids[line]):016x}",
        "source": columns.names["sources"][columns.sources[line]],
        "lang": columns.names["langs"][columns.langs[line]],
        "chars": len(text),
        "state": STATES[columns.states[line]],
        "changed": bool(columns.changed[line]),
        "reasons": [columns.names["reasons"][code] for code in codes],
        "before": ("…" if first else "") + text[first:start],
        "found": text[start:end],
        "after": text[end:last] + ("…" if last < len(text) else ""),
    }


def names(index: Index) -> dict[str, Any]:
    """What filters may name: {"sources", "langs", "reasons", "signals"}; of a large corpus from its report and from
    the parts that were looked at."""
    found: dict[str, dict[str, None]] = {kind: {} for kind in ("sources", "langs", "reasons", "signals")}
    for source, entry in index.corpus.report(index.corpus.filtered).get("sources", {}).items():
        found["sources"][source] = None
        for lang, row in entry.items():
            found["langs"][lang] = None
            found["reasons"] |= dict.fromkeys(row.get("dropped", {}))
    for part in index.parts[:1]:
        index.columns(part)
    for part in index.parts[:NAMED_PARTS]:
        for kind, known in (index.known_names(part) or {}).items():
            found[kind] |= dict.fromkeys(known)
    return {kind: sorted(known) for kind, known in found.items()}


def row_of(index: Index, part: int, line: int) -> tuple[Part, Any, Columns]:
    """A document by its place. Raises `LuhuoError` if there is none."""
    everything = index.parts
    if not 0 <= part < len(everything) or not 0 <= line < len(index.columns(everything[part])):
        raise LuhuoError(tr("There is no such document.", "没有这篇文档。"), found=f"{part}/{line}")
    columns = index.columns(everything[part])
    return everything[part], row_at(index.corpus, everything[part], line, int(columns.dropped_lines[line])), columns
