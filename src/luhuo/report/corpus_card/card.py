"""What the card says, as tables and pictures: made once, written as a page or as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath

from luhuo.core.artifact import REFERENCE_SCHEMES
from luhuo.core.language import tr
from luhuo.corpus import rules
from luhuo.corpus.privacy import KINDS
from luhuo.report.corpus_card.family import Corpus
from luhuo.report.corpus_card.gather import CLUSTERS, Facts, Sample
from luhuo.report.corpus_card.histogram import Histogram, binned, histogram
from luhuo.report.corpus_card.reasons import why_dropped, why_unread
from luhuo.report.corpus_card.sampling import doubling_edges
from luhuo.report.corpus_card.tables import Table, ranked, share, short, size
from luhuo.report.corpus_card.tokens import TokenCounts

SIZES = (2, 3, 5, 10, 100, 1000)
"""Where the classes of cluster sizes begin."""
PICTURED = 6
"""Languages with pictures of their own."""
MOST_REASONS = 40
MOST_ROWS = 60
"""Rows of a table that has one for each source or language."""
CASE_LANGUAGES = 3
"""Languages whose documents are shown for a reason."""


TOLD = {
    "unread": ("not readable", "无法读取"),
    "repaired": ("repaired", "已修复"),
    "converted": ("converted", "已转换"),
    "unsampled": ("not sampled", "未抽中"),
}
"""Counts of a source that get a column where one of them is not 0."""


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
        head.append(tr("text", "文本"))
        rows, told = [], {name: self._told(name) for name in sorted(read)[:MOST_ROWS]}
        more = [key for key in TOLD if any(counts.get(key) for counts in told.values())]
        for name, counts in told.items():
            licence = ", ".join(sorted(self.facts.licences.get(name, {raw.get(name, {}).get("licence", "—")})))
            row = [name, licence, _public(raw.get(name, {}).get("reference", "—")), f"{read[name]:,}"]
            row += [f"{kept[name]:,}", share(kept[name], read[name]), size(text[name])]
            rows.append([*row, *(f"{counts[key]:,}" if key in counts else "—" for key in more)])
        return Table([*head, *(tr(*TOLD[key]) for key in more)], rows, 3)

    def _told(self, source: str) -> dict[str, int]:
        """What the stage that read a source says of it."""
        counts = dict(self.annotate_report.get(source, {}))
        bad = counts.get("quarantined", self.plain_report.get(source, {}).get("broken", {}))
        return {key: counts[key] for key in TOLD if isinstance(counts.get(key), int)} | {"unread": sum(bad.values())}

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
        for lang in self.languages[:MOST_ROWS]:
            scripts = Counter({script: n for (own, script), n in self.facts.scripts.items() if own == lang and script})
            told = ", ".join(f"{script} {share(n, read[lang])}" for script, n in ranked(scripts))
            row = [lang, told or "—", f"{read[lang]:,}", f"{kept[lang]:,}", share(kept[lang], read[lang])]
            rows.append([*row, size(text[lang]), share(text[lang], sum(text.values()))])
        return Table(head, rows, 2)

    def changes(self) -> Table:
        """What was done to texts before they were measured."""
        names = {"repaired": tr("mojibake repaired", "修复乱码"), "converted_from": tr("converted from", "转换自")}
        rows = [[names[kind], what, f"{count:,}"] for (kind, what), count in sorted(self.facts.changes.items())]
        return Table([tr("change", "改动"), "", tr("documents", "文档")], rows, 2)

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
            words = why_dropped(self.corpus, code, [lang for lang, _ in ranked(langs)])
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
        rows = [
            (source, lang, counts.total(), [("", counts[""]), *ranked({c: n for c, n in counts.items() if c})])
            for (source, lang), counts in sorted(found.items(), key=lambda pair: (-pair[1].total(), pair[0]))
        ]
        return rows[:MOST_ROWS]

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
        """Dropped beside kept, for each reason and the languages in which it is most frequent. What repeats stands
        beside what it repeats among the clusters."""
        found = []
        for reason in self.reasons:
            if reason.code.startswith("duplicate_"):
                continue
            rules_of = {
                lang: self._rule(reason.code, lang) for lang, _ in ranked(dict(reason.shares))[:CASE_LANGUAGES]
            }
            for lang, rule in rules_of.items():
                if rule is not None:
                    pair = [self.facts.near.get((reason.code, lang, broken)) for broken in (True, False)]
                    dropped, kept = (held.values() if held else [] for held in pair)
                    found.append(Case(reason.code, rule.why or reason.why, _limit(rule), dropped, kept))
            if not any(rules_of.values()):
                lang = next(iter(rules_of))
                kept = self.facts.kept[lang].values() if lang in self.facts.kept else []
                found.append(Case(reason.code, reason.why, "", self.facts.dropped[reason.code].values(), kept))
        return [case for case in found if case.dropped]

    def _rule(self, code: str, lang: str) -> rules.Rule | None:
        return next((rule for rule in self.corpus.decider.rules_of(lang) if rule.reason == code), None)

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


def _limit(rule: rules.Rule) -> str:
    sides = (f"≥ {rule.min:g}" if rule.min is not None else "", f"≤ {rule.max:g}" if rule.max is not None else "")
    return " ".join(filter(None, (rule.signal, *sides)))


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
