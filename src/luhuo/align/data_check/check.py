"""`check`: one pass over the files, all checks, one report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luhuo.align.data_check.findings import Finding, Findings
from luhuo.align.data_check.leaks import Leaks
from luhuo.align.data_check.rendering import RenderChecks
from luhuo.align.data_check.repeats import Exact, Near, key_of
from luhuo.align.data_check.samples import Kind, Sample, read_samples
from luhuo.align.data_check.statistics import Statistics
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.dialogue.clean import texts
from luhuo.dialogue.look_alikes import REASONING
from luhuo.dialogue.render import Rendered
from luhuo.files.records import Broken
from luhuo.tokenizer.tokenizer import Tokenizer

SHOWN = 4
"""Rendered rows that a report shows."""
BOILERPLATE = 0.05
"""Share of all answers from which on one text is too much of them."""
BOILERPLATE_CHARS = 20
"""Shorter answers ("yes", "4") come again by right."""
ONE_SIDED = 0.9
"""Share of pairs in which one side is longer that tells of a bias."""
FEW = 20
"""Rows below which shares mean nothing."""
REJECTED = {"other_layout": "other_layout", "bad_conversation": "bad_row", "role_order": "role_order"}


@dataclass
class Report:
    """All that a check found out."""

    files: list[tuple[str, Kind, str]] = field(default_factory=list)
    """(file, kind, layout)."""
    findings: list[Finding] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    examples: list[tuple[str, list[Rendered]]] = field(default_factory=list)
    """(where, renderings): of a pair both."""
    rejected: int = 0
    compared_all: bool = True
    """Whether all rows were compared for near duplicates."""

    @property
    def errors(self) -> int:
        """Kinds of mistakes that spoil training."""
        return sum(finding.severity == "error" for finding in self.findings)


class Checker:
    """The checks of rows, whoever reads them. `near`: also compare for near duplicates; `leaks`: what must not be in
    the data."""

    def __init__(self, tokenizer: Tokenizer, length: int, *, near: bool = True, leaks: Leaks | None = None) -> None:
        self.findings, self.statistics = Findings(), Statistics()
        self.rendering = RenderChecks(tokenizer, length, self.findings)
        self.near = Near() if near else None
        self.leaks = leaks
        special = (tokenizer.added_tokens[i] for i in sorted(tokenizer.special_ids) if i in tokenizer.added_tokens)
        self._control = tuple(name for name in special if len(name) > 3 and name not in REASONING)
        self._rows, self._questions = Exact(), Exact()
        self._pairs: dict[int, tuple[int, int]] = {}
        self._answers: Counter[int] = Counter()
        self._texts: dict[int, str] = {}
        self._places: list[tuple[str, int]] = []

    def see(self, sample: Sample, parts: Sequence[Sequence[Rendered]], kind: Kind = "conversations") -> None:
        """Check one row and its renderings."""
        self.statistics.see(sample)
        for conversation, found in zip(sample.conversations or (None,), parts, strict=False):
            self.statistics.see_lengths(found)
            self.rendering.see(conversation, found, sample.file, sample.line)
        if kind == "preference" and len(parts) == 2:
            self.statistics.see_pair(*(sum(part.targets for part in side) for side in parts))
        self._texts_of(sample)
        self._repeats(sample, kind)
        if kind != "prompt-only" and sample.conversations and not any(c.has_target for c in sample.conversations):
            self._add("all_masked", sample, sample.question)

    def reject(self, broken: Broken) -> None:
        """Count a row that could not be used."""
        code, _, reason = broken.reason.partition(":")
        self.findings.add(
            REJECTED.get(code, "unreadable"), broken.file, broken.line, f"{reason or code} {broken.excerpt}"
        )

    def finish(self, kind: Kind) -> None:
        """What only all rows together can tell."""
        self.rendering.finish(prompts=kind == "prompt-only")
        answers = self._answers.total()
        for key, count in self._answers.items():
            if answers >= FEW and count > BOILERPLATE * answers and key in self._texts:
                for _ in range(count):
                    self.findings.add("boilerplate", excerpt=self._texts[key])
        pairs = self.statistics.unequal
        if pairs >= FEW:
            longer = self.statistics.longer_chosen / pairs
            if longer >= ONE_SIDED or longer <= 1 - ONE_SIDED:
                code = "longer_wins" if longer >= ONE_SIDED else "shorter_wins"
                self.findings.add(code, excerpt=f"{longer:.0%} / {1 - longer:.0%}")
        if len(self.statistics.labels) == 1 and self.statistics.rows >= FEW:
            self.findings.add("one_label", excerpt=str(next(iter(self.statistics.labels))))

    def _add(self, code: str, sample: Sample, excerpt: str) -> None:
        self.findings.add(code, sample.file, sample.line, excerpt)

    def _texts_of(self, sample: Sample) -> None:
        whole = sample.whole()
        instructions = "".join(m.content for c in sample.conversations for m in c.messages[:1] if m.role == "system")
        if not sample.question.strip():
            self._add("empty_question", sample, whole)
        if (spoilt := texts.mojibake(whole)) is not None:
            self._add("mojibake", sample, spoilt)
        if (control := texts.control_text(whole, self._control)) is not None:
            self._add("special_text", sample, f"{control} … {whole[max(0, whole.find(control) - 40) :]}")
        seen = set()
        for asked, answer in sample.answers():
            fault = self._fault(asked, answer, instructions)
            if fault is not None and fault not in seen:
                seen.add(fault)
                tail = answer[-100:] if fault == "cut_off" else answer
                self._add(fault, sample, f"{asked[:60]} → {tail}")
            self._count(answer)

    def _fault(self, asked: str, answer: str, instructions: str) -> str | None:
        if not answer.strip():
            return "empty_answer"
        if texts.cut_off(answer):
            return "cut_off"
        return "other_language" if texts.in_other_language(asked, answer, instructions) else None

    def _count(self, answer: str) -> None:
        """Count answers with the same text, as long as there are not too many different ones."""
        if len(answer) >= BOILERPLATE_CHARS:
            key = key_of(answer)
            if key in self._answers or len(self._answers) < 100_000:
                self._answers[key] += 1
                if self._answers[key] == 2:
                    self._texts[key] = answer[:200]
        elif answer:
            self._answers[0] += 1

    def _repeats(self, sample: Sample, kind: Kind) -> None:
        number, whole = len(self._places), sample.whole()
        self._places.append((sample.file, sample.line))
        first = self._rows.see(key_of(whole), number)
        if first is not None:
            self._add("duplicate", sample, self._like(first, whole))
            return
        asked = self._questions.see(key_of(sample.question), number)
        if asked is not None and kind in ("conversations", "text"):
            self._add("same_question", sample, self._like(asked, sample.question))
        elif self.near is not None and (like := self.near.see(whole, number)) is not None:
            self._add("near_duplicate", sample, self._like(like, whole))
        if kind == "preference":
            self._reversed(sample)
        if self.leaks is not None and (leak := self.leaks.find(sample.question, whole)) is not None:
            self._add("leak", sample, tr(f"question {leak}: ", f"第 {leak} 题：") + sample.question)

    def _reversed(self, sample: Sample) -> None:
        """Remember a pair, and find one that says the contrary."""
        chosen, rejected = (key_of("\n".join(m.content for m in c.messages)) for c in sample.conversations)
        if self._pairs.get(chosen ^ rejected) == (rejected, chosen):
            self._add("reversed_pair", sample, sample.question)
        self._pairs.setdefault(chosen ^ rejected, (chosen, rejected))

    def _like(self, number: int, text: str) -> str:
        file, line = self._places[number]
        return f"= {Path(file).name}:{line}  {text}"


def check(
    files: Sequence[Path], tokenizer: Tokenizer, length: int, against: Sequence[Path] = (), *, plain: bool = False
) -> Report:
    """Check files of training data as `tokenizer` and its chat template would show them to a model.

    `length` is that of a row in training, `against` are evaluation sets whose questions must not be in the data;
    `plain`: prompts and completions are plain text, without a chat template.
    Raises `LuhuoError` for a file of no known layout.
    """
    leaks = remembered(against) if against else None
    checker = Checker(tokenizer, length, leaks=leaks)
    report = Report(statistics=checker.statistics)

    def reject(broken: Broken) -> None:
        report.rejected += 1
        checker.reject(broken)

    kinds: set[Kind] = set()
    for file in files:
        kind, layout, samples = read_samples(file, reject, plain=plain)
        if not kinds:
            checker.rendering.tokenizer_alone(templated=kind != "text")
        kinds.add(kind)
        report.files.append((file.as_posix(), kind, layout))
        for sample in track(samples, tr(f"checking {file.name}", f"检查 {file.name}"), unit=tr("rows", "行")):
            parts = checker.rendering.render(sample, prompts=kind == "prompt-only")
            checker.see(sample, parts, kind)
            if len(report.examples) < SHOWN and parts:
                report.examples.append((f"{file.name}:{sample.line}", [part for side in parts for part in side]))
    checker.finish("prompt-only" if kinds == {"prompt-only"} else next(iter(sorted(kinds - {"prompt-only"}))))
    report.findings = list(checker.findings.listed(checker.statistics.rows + report.rejected))
    report.compared_all = checker.near is None or not checker.near.full
    return report


def remembered(files: Sequence[Path]) -> Leaks:
    """The questions of evaluation sets, in any layout; their numbers count from 1."""
    leaks = Leaks()
    for number, sample in enumerate(_evaluation(files), 1):
        leaks.remember(sample.question, number)
    return leaks


def _evaluation(files: Sequence[Path]) -> Iterator[Sample]:
    for file in files:
        yield from read_samples(file, lambda _: None)[2]
