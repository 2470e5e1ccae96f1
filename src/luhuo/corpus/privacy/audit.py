"""What was found, without saying it: counts by kind, source and language, and a few masked samples of each kind."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from typing import Any

from luhuo.core.language import tr
from luhuo.corpus.privacy.kinds import KINDS, Span

SAMPLES = 5
"""Samples kept of each kind."""
AROUND = 16
"""Characters of the text shown on each side of a sample."""
_SHOWN = re.compile(r"[^\W_]")


def masked(value: str) -> str:
    """A value of which nothing but its form is left: letters are x, Han characters 某, digits 0; a long one is cut."""

    def sign(match: re.Match[str]) -> str:
        character = match[0]
        return "0" if character.isdigit() else "x" if character.isascii() else "某"

    form = _SHOWN.sub(sign, value.replace("\n", " "))
    return form if len(form) <= 40 else form[:39] + "…"


class Audit:
    """Counts and samples of any number of documents; of two audits the sum is the same in either order.

    The samples are those with the smallest hashes, so that neither order nor division of the work changes them.
    """

    def __init__(self) -> None:
        self.documents: Counter[tuple[str, str]] = Counter()
        """Documents with a span, by (source, language)."""
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Spans by (kind, source, language)."""
        self.samples: dict[str, dict[str, tuple[str, str, str]]] = {}
        """By kind and hash: (source, language, masked text around)."""

    def add(self, text: str, spans: Sequence[Span], lang: str, source: str) -> None:
        """Account for the spans of one document."""
        if not spans:
            return
        self.documents[source, lang] += 1
        for kind in {span.kind for span in spans}:
            mine = [span for span in spans if span.kind == kind]
            self.counts[kind, source, lang] += len(mine)
            hashes = {
                hashlib.sha256(f"{s.value}\0{s.start}\0{source}".encode("utf-8", "replace")).hexdigest()[:16]: s
                for s in mine
            }
            kept = self.samples.setdefault(kind, {})
            for name in nsmallest(SAMPLES, hashes):
                if len(kept) < SAMPLES or name < max(kept):
                    kept[name] = (source, lang, _around(text, hashes[name], spans))
                    self._trim(kept)

    def merge(self, other: Audit) -> None:
        """Add what another audit saw."""
        self.documents += other.documents
        self.counts += other.counts
        for kind, samples in other.samples.items():
            kept = self.samples.setdefault(kind, {})
            kept |= samples
            self._trim(kept)

    def report(self) -> dict[str, Any]:
        """JSON: {"documents", "spans", "kinds": {kind: {"spans", "sources", "languages", "samples"}}}."""
        kinds: dict[str, Any] = {}
        for kind in KINDS:
            mine = {where: count for where, count in self.counts.items() if where[0] == kind}
            if mine:
                kinds[kind] = {
                    "spans": sum(mine.values()),
                    "sources": _summed(mine, 1),
                    "languages": _summed(mine, 2),
                    "samples": [
                        {"source": source, "lang": lang, "text": text}
                        for _, (source, lang, text) in sorted(self.samples[kind].items())
                    ],
                }
        return {"documents": self.documents.total(), "spans": self.counts.total(), "kinds": kinds}

    def state(self) -> dict[str, Any]:
        """Everything, as JSON values that `restored` takes."""
        return {
            "documents": [[*where, count] for where, count in sorted(self.documents.items())],
            "counts": [[*where, count] for where, count in sorted(self.counts.items())],
            "samples": {
                kind: {n: list(s) for n, s in sorted(kept.items())} for kind, kept in sorted(self.samples.items())
            },
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Audit:
        """The audit of which this is the state."""
        audit = cls()
        audit.documents.update({(source, lang): count for source, lang, count in state["documents"]})
        audit.counts.update({(kind, source, lang): count for kind, source, lang, count in state["counts"]})
        for kind, kept in state["samples"].items():
            audit.samples[kind] = {name: (source, lang, text) for name, (source, lang, text) in kept.items()}
        return audit

    def page(self) -> str:
        """The report as an HTML fragment; nothing of a text is taken for a tag."""
        heads = [tr("kind", "类别"), tr("count", "数量"), tr("sources", "来源"), tr("masked samples", "脱敏样例")]
        rows = []
        for kind, found in self.report()["kinds"].items():
            about = tr(KINDS[kind].about_en, KINDS[kind].about_zh)
            sources = ", ".join(f"{name}: {count:,}" for name, count in found["sources"].items())
            samples = "<br>".join(html.escape(sample["text"]) for sample in found["samples"])
            cells = (html.escape(kind), f"{found['spans']:,}", html.escape(sources), samples)
            rows.append(f'<tr title="{html.escape(about)}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

    @staticmethod
    def _trim(kept: dict[str, tuple[str, str, str]]) -> None:
        for name in sorted(kept)[SAMPLES:]:
            del kept[name]


def _around(text: str, span: Span, spans: Sequence[Span]) -> str:
    """The span and what stands around it, with everything hidden that was found, and every other digit."""
    start, end = max(0, span.start - AROUND), min(len(text), span.end + AROUND)
    parts, place = list[str](), start
    for other in (s for s in spans if s.end > start and s.start < end):
        parts += [_undigited(text[place : max(place, other.start)]), f"⟦{masked(other.value)}⟧"]
        place = max(place, other.end)
    parts.append(_undigited(text[place:end]) if place < end else "")
    return "".join(parts).replace("\n", " ")


def _undigited(text: str) -> str:
    return re.sub(r"\d", "0", text)


def _summed(counts: dict[tuple[str, str, str], int], place: int) -> dict[str, int]:
    found: Counter[str] = Counter()
    for where, count in counts.items():
        found[where[place]] += count
    return dict(sorted(found.items()))
