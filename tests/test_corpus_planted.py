"""The whole factory on the world's dirty corpus: precision and recall for every planted defect, in both languages."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import produce
from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.corpus.factory import records
from luhuo.stages import configured

MADE = {
    "megabytes": 0.2,
    "dialogues": 200,
    "dirty_documents": 900,
    "test_per_family": 60,
    "preferences": 20,
    "prompts": 20,
}
REASONS = {
    "advertising": {"advertising", "boilerplate"},
    "mojibake": {"mojibake"},
    "exact_duplicate": {"duplicate_exact", "duplicate_near"},
    "near_duplicate": {"duplicate_near"},
    "benchmark_leak": {"benchmark"},
}
"""What a defect may be dropped for."""


@dataclass
class Outcome:
    """What became of every document of the dirty corpus."""

    labels: list[dict[str, Any]]
    texts: list[str]
    langs: list[str]
    reason: dict[int, str] = field(default_factory=dict)
    """By number of the document; kept ones are not in it."""
    kept_instead: dict[int, str] = field(default_factory=dict)
    clean: str = ""
    """All that was kept."""

    def of(self, defect: str, lang: str) -> list[int]:
        return [
            number
            for number, label in enumerate(self.labels)
            if label["defect"] == defect and self.langs[number] == lang
        ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("planted")
    world = produce("world", configured("world", MADE), root / "world").path
    raw = world / "dirty/corpus.jsonl"
    fields = {"question": ["messages"], "answer": ["response"], "id": ["id"]}
    test = {"world": {"path": str(world / "dialogue/test.jsonl"), **fields}}
    source = {"name": "dirty", "path": str(raw)}
    stage = configured("annotate", {"sources": [source], "benchmarks": test, "executor": "inline"})
    annotated = str(produce("annotate", stage, root / "annotated").path)
    stage = configured("deduplicate", {"annotated": annotated, "executor": "inline"})
    twins = str(produce("deduplicate", stage, root / "twins").path)
    stage = configured("filter", {"annotated": annotated, "duplicates": twins, "executor": "inline"})
    clean = produce("filter", stage, root / "clean").path
    rows, labels = (
        [json.loads(line) for line in (raw.parent / name).open()] for name in ("corpus.jsonl", "labels.jsonl")
    )
    outcome = Outcome(labels, [row["text"] for row in rows], [row["lang"] for row in rows])
    for row in records.read_lines(clean / "dropped/dirty-00000.jsonl.zst"):
        outcome.reason[row["origin"]["line"] - 1] = row["reasons"][0][0]
        outcome.kept_instead[row["origin"]["line"] - 1] = row.get("of", "")
    outcome.clean = "\n".join(row["text"] for split in SPLITS for row in read_documents(clean, split))
    _report(outcome, root / "report.txt")
    return outcome


def _report(outcome: Outcome, file: Path) -> None:
    """Reasons by defect and language, for whoever looks into a failure."""
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for number, label in enumerate(outcome.labels):
        table[label["defect"], outcome.langs[number]][outcome.reason.get(number, "kept")] += 1
    lines = [f"{defect:20} {lang:6} {dict(counts)}" for (defect, lang), counts in sorted(table.items())]
    file.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def share(numbers: Iterable[bool]) -> float:
    values = list(numbers)
    assert values
    return sum(values) / len(values)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_advertising_is_dropped_and_little_else_for_that_reason(found: Outcome, lang: str) -> None:
    planted = found.of("advertising", lang)
    assert share(number in found.reason for number in planted) >= 0.98
    named = [n for n, reason in found.reason.items() if reason in REASONS["advertising"] and found.langs[n] == lang]
    assert share(found.labels[number]["defect"] == "advertising" for number in named) >= 0.98


def test_what_cannot_be_read_is_dropped_and_nothing_else_for_that_reason(found: Outcome) -> None:
    planted = found.of("mojibake", "zh")
    assert len(planted) >= 10 and share(number in found.reason for number in planted) >= 0.98
    named = [number for number, reason in found.reason.items() if reason == "mojibake"]
    assert share(found.labels[number]["defect"] == "mojibake" for number in named) == 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_of_exact_duplicates_one_is_kept(found: Outcome, lang: str) -> None:
    place = {label["id"]: number for number, label in enumerate(found.labels)}
    pairs = [(number, place[found.labels[number]["of"]]) for number in found.of("exact_duplicate", lang)]
    assert share(one in found.reason or other in found.reason for one, other in pairs) == 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_near_duplicates_are_found(found: Outcome, lang: str) -> None:
    place = {label["id"]: number for number, label in enumerate(found.labels)}
    pairs = [(number, place[found.labels[number]["of"]]) for number in found.of("near_duplicate", lang)]
    assert len(pairs) >= 5
    assert share(one in found.reason or other in found.reason for one, other in pairs) >= 0.9


def test_nothing_is_dropped_as_a_duplicate_of_another_text(found: Outcome) -> None:
    pairs = {(label["id"], label["of"]) for label in found.labels if "of" in label}
    derived = {name for pair in pairs for name in pair}
    wrong = [
        number
        for number, reason in found.reason.items()
        if reason.startswith("duplicate")
        and found.labels[number]["id"] not in derived
        # a page with personal data in a last sentence repeats the page
        and not any(
            found.texts[number][:-120] in text or text in found.texts[number]
            for n, text in enumerate(found.texts)
            if n != number
        )
    ]
    duplicates = [number for number, reason in found.reason.items() if reason.startswith("duplicate")]
    assert len(wrong) <= 0.01 * len(duplicates)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_personal_data_are_replaced(found: Outcome, lang: str) -> None:
    values = [value for number in found.of("personal_data", lang) for value in found.labels[number]["values"]]
    assert len(values) > 20
    assert share(value not in found.clean for value in values) == 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_leaked_items_that_say_something_are_dropped(found: Outcome, lang: str) -> None:
    planted = found.of("benchmark_leak", lang)
    long = [n for n in planted if len(found.texts[n].split()) >= 13 or (lang == "zh" and len(found.texts[n]) >= 40)]
    assert len(long) >= 5
    missed = [found.texts[number] for number in long if number not in found.reason]
    assert not missed


@pytest.mark.parametrize("lang", ["en", "zh", "mixed"])
def test_clean_pages_are_kept(found: Outcome, lang: str) -> None:
    clean = found.of("clean", lang)
    lost = [n for n in clean if n in found.reason and not found.reason[n].startswith("duplicate")]
    assert len(lost) <= 0.03 * len(clean), [(found.reason[n], found.texts[n][:80]) for n in lost]
