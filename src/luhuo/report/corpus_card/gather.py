"""One pass over the documents of a corpus: what the card counts, and samples of bounded size."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.corpus import privacy
from luhuo.corpus.dedup import verdicts
from luhuo.corpus.rules import Rule
from luhuo.report.corpus_card.family import Corpus
from luhuo.report.corpus_card.rows import Part, Row, parts, rows
from luhuo.report.corpus_card.sampling import ClusterSizes, Smallest, doubling, named, place

SIGNAL_DOCUMENTS = 10_000
"""Documents of a language whose signals are kept for the histograms."""
SAMPLES = 4
"""Documents shown of each kind."""
EXCERPT = 500
"""Characters shown of a document."""
CLUSTERS = 8
MEMBERS = 4
"""Documents shown of a cluster."""
HIT_IDS = 8


@dataclass(frozen=True)
class Sample:
    """A document on the page: its beginning, with personal data masked."""

    id: str
    lang: str
    source: str
    chars: int
    text: str
    reasons: list[list[Any]]
    value: float | None = None


@dataclass
class Facts:
    """What was counted."""

    documents: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By source, language, first reason ("" is kept)."""
    bytes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    """Documents by each reason they broke, not only the first."""
    alone: Counter[str] = field(default_factory=Counter)
    """Documents that only this reason dropped."""
    scripts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By language and script."""
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what was done ("repaired", "converted_from") and how."""
    licences: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    lengths: dict[tuple[str, bool], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """By language and whether dropped: documents by `doubling` of their characters."""
    personal: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Finds by kind and language, before anything was dropped."""
    hits: Counter[str] = field(default_factory=Counter)
    """Documents by benchmark."""
    hit_ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    clusters: ClusterSizes = field(default_factory=ClusterSizes)
    signals: dict[str, Smallest[tuple[tuple[str, ...], array[float], bool]]] = field(
        default_factory=lambda: defaultdict(lambda: Smallest(SIGNAL_DOCUMENTS))
    )
    kept: dict[str, Smallest[Sample]] = field(default_factory=lambda: defaultdict(lambda: Smallest(SAMPLES)))
    """By language."""
    dropped: dict[str, Smallest[Sample]] = field(default_factory=lambda: defaultdict(lambda: Smallest(SAMPLES)))
    """By first reason."""
    near: dict[tuple[str, str, bool], Smallest[Sample]] = field(
        default_factory=lambda: defaultdict(lambda: Smallest(SAMPLES))
    )
    """By reason, language and whether dropped: those closest to a limit."""
    members: dict[int, list[Sample]] = field(default_factory=dict)
    """By cluster."""
    decided: bool = False
    """Whether anything was kept or dropped at all."""


def gather(corpus: Corpus) -> Facts:
    """Go through the corpus once, and once more through the largest clusters. Raises `LuhuoError`."""
    facts = Facts(decided=corpus.filtered is not None or corpus.duplicates is not None)
    all_parts = parts(corpus)
    with Progress(tr("reading", "读取"), len(all_parts), tr("parts", "部分")) as progress:
        for part in all_parts:
            for row in rows(corpus, part):
                _count(corpus, facts, row)
            progress.advance()
    wanted = {cluster for cluster, _ in facts.clusters.largest(CLUSTERS)}
    if wanted and corpus.annotated is not None:
        facts.members = _members(corpus, all_parts, wanted)
    return facts


def reasons_of(row: Row) -> list[list[Any]]:
    """Why a row is dropped; where nothing was filtered, duplicates still are told."""
    if row.reasons is None and row.verdict is not None and not row.verdict.kept:
        return [[f"duplicate_{row.verdict.reason}", None]]
    return row.reasons or []


def _count(corpus: Corpus, facts: Facts, row: Row) -> None:
    record, reasons = row.record, reasons_of(row)
    lang, source = record["lang"], record["source"]
    chars = int(row.signals.get("chars", len(record["text"])))
    key = (source, lang, str(reasons[0][0]) if reasons else "")
    facts.documents[key] += 1
    facts.bytes[key] += len(record["text"].encode())
    codes = {str(code) for code, _ in reasons}
    facts.named.update(codes)
    if len(codes) == 1:
        facts.alone.update(codes)
    facts.scripts[lang, record.get("script", "")] += 1
    facts.changes.update((kind, str(record[kind])) for kind in ("repaired", "converted_from") if record.get(kind))
    if "licence" in record:
        facts.licences[source].add(record["licence"])
    facts.lengths[lang, bool(reasons)][doubling(chars)] += 1
    if row.verdict is not None and not row.verdict.kept:
        facts.clusters.add(row.verdict.cluster)
    at = place(record["id"])
    _signals(facts, row, at, bool(reasons))
    if reasons:
        _offer(facts.dropped[key[2]], at, row, None)
    else:
        _offer(facts.kept[lang], at, row, None)
    for rule in corpus.decider.rules_of(lang) if facts.decided else ():
        _near(facts, rule, row, at)


def _signals(facts: Facts, row: Row, at: int, dropped: bool) -> None:
    names, values = [], array("d")
    for name, value in row.signals.items():
        family, _, kind = name.partition(".")
        if family == "privacy":
            facts.personal[kind, row.record["lang"]] += value
        elif family == "benchmark":
            facts.hits[kind] += 1
            facts.hit_ids[kind] = set(sorted({*facts.hit_ids[kind], *map(str, value)})[:HIT_IDS])
        elif isinstance(value, int | float):
            names.append(name)
            values.append(float(value))
    held = facts.signals[row.record["lang"]]
    if held.wants((at, dropped)) and len(names) > 1:
        held.add((at, dropped), (tuple(names), values, dropped))


def _near(facts: Facts, rule: Rule, row: Row, at: int) -> None:
    """Offer a row as one of those closest to the limit of a rule, on either side of it."""
    value = row.signals.get(rule.signal)
    reasons = reasons_of(row)
    if not isinstance(value, int | float):
        return
    broken = not rule.holds(value)
    if reasons and not broken:
        return  # dropped for something else: it says nothing about this limit
    limits = [limit for limit in (rule.min, rule.max) if limit is not None]
    distance = min(abs(value - limit) for limit in limits)
    if not broken and value == 0:
        return  # has nothing of what is measured
    _offer(facts.near[rule.reason, row.record["lang"], broken], (distance, at), row, value)


def _offer(held: Smallest[Sample], key: Any, row: Row, value: float | None) -> None:
    if held.wants(key):
        held.add(key, sample_of(row, value))


def sample_of(row: Row, value: float | None = None) -> Sample:
    """A row as it may be shown to anybody."""
    record = row.record
    text = masked_excerpt(record["text"], record["lang"])
    chars = int(row.signals.get("chars", len(record["text"])))
    return Sample(record["id"], record["lang"], record["source"], chars, text, reasons_of(row), value)


def masked_excerpt(text: str, lang: str) -> str:
    """The beginning of a text; of personal data only the form is left. A little more than is shown is searched, so
    that what lies across the end is found."""
    part = text[: EXCERPT + 200]
    pieces, start = [], 0
    for span in privacy.find(part, lang):
        if span.start >= EXCERPT:
            break
        pieces += [part[start : span.start], f"⟦{privacy.masked(span.value)}⟧"]
        start = span.end
    pieces.append(part[start:EXCERPT])
    return "".join(pieces) + ("…" if len(text) > EXCERPT else "")


def _members(corpus: Corpus, all_parts: Iterable[Part], wanted: set[int]) -> dict[int, list[Sample]]:
    """Some documents of these clusters, the one that is kept first."""
    assert corpus.duplicates is not None
    found: dict[int, Smallest[Sample]] = {cluster: Smallest(MEMBERS) for cluster in wanted}
    for part in all_parts:
        if not any(named(verdict.cluster) in wanted for verdict in verdicts(corpus.duplicates, part.file)):
            continue
        for row in rows(corpus, part):
            if row.verdict is None or named(row.verdict.cluster) not in wanted:
                continue
            key = (bool(reasons_of(row)), not row.verdict.kept, row.record["id"], part.name, row.line)
            held = found[named(row.verdict.cluster)]
            if held.wants(key):
                held.add(key, sample_of(row))
    return {cluster: found[cluster].values() for cluster in sorted(wanted)}
