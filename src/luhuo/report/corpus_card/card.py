"""What the card says, as tables and pictures: made once, written as a page or as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from luhuo.core.artifact import REFERENCE_SCHEMES
from luhuo.core.language import tr
from luhuo.corpus import rules
from luhuo.corpus.privacy import KINDS
from luhuo.report.corpus_card.family import Corpus
from luhuo.report.corpus_card.gather import CLUSTERS, Facts, Sample
from luhuo.report.corpus_card.histogram import Histogram, binned, histogram
from luhuo.report.corpus_card.reasons import why_dropped, why_unread
from luhuo.report.corpus_card.sampling import doubling_edges
from luhuo.report.corpus_card.tokens import TokenCounts

SIZES = (2, 3, 5, 10, 100, 1000)
"""Where the classes of cluster sizes begin."""
PICTURED = 6
"""Languages with pictures of their own."""
MOST_REASONS = 40


@dataclass(frozen=True)
class Table:
    """Header and rows; columns from `numbers` on are numbers."""

    head: list[str]
    rows: list[list[str]]
    numbers: int = 1


@dataclass(frozen=True)
class Reason:
    """Why documents were dropped."""

    code: str
    why: str
    first: int
    """Documents that count under it."""
    named: int
    alone: int
    shares: list[tuple[str, int]]
    """By language."""
    sources: list[tuple[str, int]]


@dataclass(frozen=True)
class Case:
    """Documents dropped for a reason beside documents that were kept; where a limit says it, those closest to it."""

    code: str
    why: str
    limit: str
    dropped: list[Sample]
    kept: list[Sample]


@dataclass(frozen=True)
class Signals:
    """Signals of the documents of one language."""

    lang: str
    limited: list[Histogram] = field(default_factory=list)
    """Those with rules."""
    others: list[Histogram] = field(default_factory=list)
    constant: list[tuple[str, str]] = field(default_factory=list)
    """(name, value) of those that are the same everywhere."""


class Card:
    """Everything on the card. `tokens`: None where no tokenizer was named."""

    def __init__(self, corpus: Corpus, facts: Facts, tokens: TokenCounts | None) -> None:
        self.corpus, self.facts, self.tokens = corpus, facts, tokens
        self.filter_report = corpus.report(corpus.filtered)
        self.annotate_report = corpus.report(corpus.annotated).get("sources", {})
        self.plain_report = {} if corpus.filtered else corpus.report(corpus.documents).get("sources", {})
        self.read = sum(facts.documents.values())
        self.kept = sum(count for key, count in facts.documents.items() if not key[2])
        self.languages = [lang for lang, _ in ranked(self._by(1))]

    def _by(self, place: int, *, kept: bool | None = None, size: bool = False) -> Counter[str]:
        """Documents (or bytes) by source (0) or language (1)."""
        found: Counter[str] = Counter()
        for key, count in (self.facts.bytes if size else self.facts.documents).items():
            if kept is None or kept == (not key[2]):
                found[key[place]] += count
        return found

    def splits(self) -> dict[str, dict[str, int]]:
        """{split: {"documents", "bytes", "chars"}} of what was written."""
        return self.corpus.report(self.corpus.documents).get("splits", {})

    def tiles(self) -> list[tuple[str, str]]:
        """The few numbers that matter most."""
        found = [(f"{self.read:,}", tr("documents read", "篇文档读入"))]
        if self.facts.decided:
            found.append(
                (f"{self.kept:,}", tr(f"kept, {share(self.kept, self.read)}", f"保留，{share(self.kept, self.read)}"))
            )
        written = sum(row["bytes"] for row in self.splits().values())
        found.append((size(written or sum(self.facts.bytes.values())), tr("of text", "文本")))
        found.append((f"{len(self.languages)}", tr("languages", "种语言")))
        if self.tokens is not None and self.tokens.names:
            found.append((short(self.tokens.count(0).tokens), tr("tokens", "词元") + f" · {self.tokens.names[0]}"))
        return found

    def sources(self) -> Table:
        """A row a source."""
        read, kept = self._by(0), self._by(0, kept=True)
        text = self._by(0, kept=True, size=True)
        raw = {row["name"]: row for row in self.corpus.sources}
        head = [
            tr("source", "来源"),
            tr("licence", "许可证"),
            tr("reference", "引用"),
            tr("documents", "文档"),
            tr("kept", "保留"),
            tr("share", "占比"),
        ]
        head += [
            tr("text", "文本"),
            tr("not readable", "无法读取"),
            tr("repaired", "已修复"),
            tr("converted", "已转换"),
            tr("not sampled", "未抽中"),
        ]
        rows = []
        for name in sorted(read):
            told = self.annotate_report.get(name, {})
            bad = told.get("quarantined", self.plain_report.get(name, {}).get("broken", {}))
            licence = ", ".join(sorted(self.facts.licences.get(name, {raw.get(name, {}).get("licence", "—")})))
            row = [
                name,
                licence,
                _public(raw.get(name, {}).get("reference", "—")),
                f"{read[name]:,}",
                f"{kept[name]:,}",
            ]
            row += [share(kept[name], read[name]), size(text[name]), f"{sum(bad.values()):,}"]
            rows.append(
                [*row, *(f"{told[key]:,}" if key in told else "—" for key in ("repaired", "converted", "unsampled"))]
            )
        return Table(head, rows, 3)

    def language_table(self) -> Table:
        """A row a language; for Chinese also its scripts."""
        read, kept, text = self._by(1), self._by(1, kept=True), self._by(1, kept=True, size=True)
        head = [
            tr("language", "语言"),
            tr("scripts", "字形"),
            tr("documents", "文档"),
            tr("kept", "保留"),
            tr("share", "占比"),
            tr("text", "文本"),
            tr("share", "占比"),
        ]
        rows = []
        for lang in self.languages:
            scripts = Counter({script: n for (own, script), n in self.facts.scripts.items() if own == lang and script})
            told = ", ".join(f"{script} {share(n, read[lang])}" for script, n in ranked(scripts))
            row = [lang, told or "—", f"{read[lang]:,}", f"{kept[lang]:,}", share(kept[lang], read[lang])]
            rows.append([*row, size(text[lang]), share(text[lang], sum(text.values()))])
        return Table(head, rows, 2)

    def length_pictures(self) -> list[Histogram]:
        """Characters of the documents, a picture a language; tokens, a picture a tokenizer."""
        found = []
        for lang in self.languages[:PICTURED]:
            both = [self.facts.lengths.get((lang, dropped), Counter()) for dropped in (False, True)]
            found.append(_lengths(f"{lang} · {tr('characters', '字符')}", *both))
        for name, lengths in zip(self.tokens.names, self.tokens.lengths, strict=True) if self.tokens else ():
            found.append(_lengths(f"{name} · {tr('tokens', '词元')}", lengths, Counter()))
        return [picture for picture in found if picture is not None]

    @cached_property
    def reasons(self) -> list[Reason]:
        """Why documents were dropped, the most frequent reason first."""
        by_code: dict[str, list[tuple[str, str, int]]] = {}
        for (source, lang, code), count in self.facts.documents.items():
            if code:
                by_code.setdefault(code, []).append((source, lang, count))
        found = []
        for code, rows in by_code.items():
            langs, sources = Counter[str](), Counter[str]()
            for source, lang, count in rows:
                langs[lang] += count
                sources[source] += count
            words = why_dropped(self.corpus, code, list(langs))
            first = sum(langs.values())
            shares = [(lang, langs[lang]) for lang in self.languages if langs[lang]]
            named, alone = self.facts.named[code], self.facts.alone[code]
            found.append(Reason(code, words, first, named, alone, shares, ranked(sources)[:5]))
        return sorted(found, key=lambda reason: (-reason.first, reason.code))[:MOST_REASONS]

    def fates(self) -> list[tuple[str, str, int, list[tuple[str, int]]]]:
        """(source, language, documents, [(reason or "", documents)]) of each source and language."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for (source, lang, code), count in self.facts.documents.items():
            found.setdefault((source, lang), Counter())[code] += count
        return [
            (
                source,
                lang,
                counts.total(),
                [("", counts[""]), *ranked({c: n for c, n in counts.items() if c})],
            )
            for (source, lang), counts in sorted(found.items())
        ]

    @cached_property
    def signal_pictures(self) -> list[Signals]:
        """Pictures of the signals, a group a language; those that are the same everywhere are only named."""
        found = []
        for lang in self.languages[:PICTURED]:
            columns, dropped = _columns(self.facts.signals[lang].values())
            table = {rule.signal: rule for rule in self.corpus.decider.rules_of(lang)}
            flags = rules.flags(lang)
            group = Signals(lang)
            for name in [
                *(name for name in table if name in columns),
                *(name for name in columns if name not in table),
            ]:
                rule = table.get(name) or flags.get(name)
                limits = (rule.min, rule.max) if rule else (None, None)
                picture = histogram(name, columns[name], dropped, *limits)
                if len({value for value in columns[name] if value == value}) < 2:
                    group.constant.append((name, f"{columns[name][0]:g}"))
                elif picture is not None:
                    (group.limited if name in table else group.others).append(picture)
            found.append(group)
        return [group for group in found if group.limited or group.others]

    def cluster_table(self) -> Table:
        """How large the clusters of duplicates are."""
        sizes = Counter(self.facts.clusters.sizes().values())
        rows = []
        for low, high in pairwise((*SIZES, math.inf)):
            mine = {one: count for one, count in sizes.items() if low <= one < high}
            name = f"{low}" if high == low + 1 else f"{low}+" if high == math.inf else f"{low} – {int(high) - 1}"
            if mine:
                documents = sum(one * count for one, count in mine.items())
                rows.append([name, f"{sum(mine.values()):,}", f"{documents:,}"])
        return Table([tr("size", "大小"), tr("clusters", "簇"), tr("documents", "文档")], rows)

    def clusters(self) -> list[tuple[int, list[Sample]]]:
        """(size, some documents) of the largest clusters."""
        return [(count, self.facts.members.get(name, [])) for name, count in self.facts.clusters.largest(CLUSTERS)]

    def cases(self) -> list[Case]:
        """Dropped beside kept, for each reason."""
        found = []
        for reason in self.reasons:
            lang = reason.shares[0][0]
            rule = next((rule for rule in self.corpus.decider.rules_of(lang) if rule.reason == reason.code), None)
            limit = ""
            dropped = self.facts.dropped[reason.code].values()
            kept = self.facts.kept[lang].values() if lang in self.facts.kept else []
            if rule is not None:
                sides = [
                    f"≥ {rule.min:g}" if rule.min is not None else "",
                    f"≤ {rule.max:g}" if rule.max is not None else "",
                ]
                limit = f"{rule.signal} {' '.join(filter(None, sides))}"
                pair = [self.facts.near.get((reason.code, lang, broken)) for broken in (True, False)]
                dropped, kept = (held.values() if held else [] for held in pair)
            found.append(Case(reason.code, reason.why, limit, dropped, kept))
        # What repeats stands beside what it repeats among the clusters.
        return [case for case in found if case.dropped and not case.code.startswith("duplicate_")]

    def kept_samples(self) -> list[Sample]:
        """A few kept documents of each language."""
        return [
            one
            for lang in self.languages[:PICTURED]
            if lang in self.facts.kept
            for one in self.facts.kept[lang].values()
        ]

    def personal(self) -> Table:
        """What was found of each kind, and what was replaced in what is kept."""
        langs = [lang for lang in self.languages if any(own == lang for _, own in self.facts.personal)]
        replaced = self.filter_report.get("replaced", {})
        rows = []
        for kind in KINDS:
            counts = [int(self.facts.personal[kind, lang]) for lang in langs]
            if sum(counts) or replaced.get(kind):
                row = [kind, tr(KINDS[kind].about_en, KINDS[kind].about_zh), *(f"{count:,}" for count in counts)]
                rows.append([*row, f"{replaced.get(kind, 0):,}"])
        return Table([tr("kind", "类别"), "", *langs, tr("replaced", "已替换")], rows, 2)

    def benchmarks(self) -> Table:
        """Documents that hold items of evaluation sets."""
        rows = [
            [name, f"{count:,}", ", ".join(sorted(self.facts.hit_ids.get(name, ()))) or "—"]
            for name, count in ranked(self.facts.hits)
        ]
        return Table([tr("benchmark", "评测集"), tr("documents", "文档"), tr("items, for example", "题目举例")], rows)

    def split_table(self) -> Table:
        """Train, validation and test, with tokens under each tokenizer."""
        names = self.tokens.names if self.tokens else []
        rows = []
        for split, counts in self.splits().items():
            row = [split, f"{counts['documents']:,}", size(counts["bytes"]), f"{counts['chars']:,}"]
            rows.append([*row, *(self._tokens(number, split=split) for number in range(len(names)))])
        return Table(
            [tr("split", "划分"), tr("documents", "文档"), tr("text", "文本"), tr("characters", "字符"), *names], rows
        )

    def token_table(self) -> Table:
        """Tokens by tokenizer and language, and how many characters and bytes a token holds."""
        if self.tokens is None:
            return Table([], [])
        head = [tr("tokenizer", "分词器"), tr("vocabulary", "词表"), tr("language", "语言"), tr("tokens", "词元")]
        head += [tr("characters a token", "每词元字符"), tr("bytes a token", "每词元字节")]
        rows = []
        for number, name in enumerate(self.tokens.names):
            for lang in (None, *self.languages):
                if lang is None or any(key[2] == lang for key in self.tokens.groups):
                    chars, octets = self.tokens.per_token(number, lang)
                    row = [name, f"{self.tokens.vocabularies[number]:,}", lang or tr("all", "全部")]
                    rows.append([*row, self._tokens(number, lang=lang), f"{chars:.2f}", f"{octets:.2f}"])
        return Table(head, rows, 3)

    def _tokens(self, number: int, **which: str | None) -> str:
        assert self.tokens is not None
        count = self.tokens.count(number, **which)
        return f"{count.tokens:,.0f}" + (f" ± {share(count.margin, count.tokens)}" if count.margin else "")

    def quarantine(self) -> Table:
        """What could not be read, by source and reason."""
        told = {name: row.get("quarantined", {}) for name, row in self.annotate_report.items()}
        told |= {name: row.get("broken", {}) for name, row in self.plain_report.items()}
        rows = [
            [source, reason, why_unread(reason), f"{count:,}"]
            for source, reasons in sorted(told.items())
            for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        ]
        return Table([tr("source", "来源"), tr("reason", "原因"), "", tr("records", "记录")], rows, 3)

    def cuts(self) -> Table:
        """Repeated parts that were cut out of kept documents."""
        names = {
            "paragraph": tr("repeated paragraphs", "重复段落"),
            "line": tr("repeated lines", "重复行"),
            "substring": tr("repeated spans", "重复片段"),
        }
        rows = [[names.get(kind, kind), f"{count:,}"] for kind, count in self.filter_report.get("cut", {}).items()]
        return Table([tr("cut out", "删去"), tr("times", "次数")], rows)

    def steps(self) -> list[tuple[str, str]]:
        """(stage, its log of processor time)."""
        found = [(stage, folder / "steps.log") for stage, folder in self.corpus.parts]
        return [(stage, file.read_text(encoding="utf-8")) for stage, file in found if file.is_file()]


def _public(reference: str) -> str:
    """A reference without the folders of this machine."""
    return reference if reference.startswith(REFERENCE_SCHEMES) else PurePath(reference).name


def _lengths(title: str, kept: Counter[int], dropped: Counter[int]) -> Histogram | None:
    bins = max([*kept, *dropped, 0]) + 3
    counts = [[counter[number] for number in range(bins)] for counter in (kept, dropped)]
    return binned(title, counts[0], counts[1], list(doubling_edges(bins)))


def _columns(
    rows: Iterable[tuple[tuple[str, ...], Sequence[float], bool]],
) -> tuple[dict[str, list[float]], list[bool]]:
    """Rows as columns by name; what a row lacks is not a number."""
    columns: dict[str, list[float]] = {}
    dropped: list[bool] = []
    for names, values, lost in rows:
        for name, value in zip(names, values, strict=True):
            column = columns.setdefault(name, [])
            column += [math.nan] * (len(dropped) - len(column))
            column.append(value)
        dropped.append(lost)
    for column in columns.values():
        column += [math.nan] * (len(dropped) - len(column))
    return columns, dropped


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first; of equals by name, so that the order of the corpus does not show."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def share(part: float, whole: float) -> str:
    """A share in per cent, with as many digits as it takes to tell it from 0 and from 100."""
    value = 100 * part / whole if whole else 0.0
    return f"{value:.1f}%" if value == 0 or 0.05 <= value <= 99.95 or value == 100 else f"{value:.3f}%"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def short(count: float) -> str:
    """A large number as people read it."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f}{unit}"
    return f"{count:.0f}"


def reasons_text(reasons: Sequence[Sequence[Any]]) -> str:
    """Reasons with their values, in one line."""
    return ", ".join(str(code) if value is None else f"{code} ({value})" for code, value in reasons)
