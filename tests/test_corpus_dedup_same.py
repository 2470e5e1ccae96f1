"""Deduplication gives the same in any order, for any number of workers, and after a kill at any point."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.dedup import candidates, clusters, deduplicate, exact, repeated
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.tables import read_columns, write_columns
from tests.dedup_cases import aligned, annotated, edited, record

WORDS = ["river", "stone", "miller", "bread", "morning", "wheel", "cart", "horse", "village", "road", "garden"]
SIGNS = "河石面包早晨轮车马村路园信冬桥灯歌山水火木金土人天地日月星风雨雪花草树鸟鱼虫羊牛"
EVERYTHING = {
    "paragraphs": {"min_columns": 40, "times": 3},
    "lines": {"min_columns": 12, "times": 3},
    "substrings": {"tokens": 20},
    "priority": ["books"],
}


def corpus(seed: int = 0) -> list[dict[str, Any]]:
    """Texts in two languages with exact and near copies and shared paragraphs."""
    rng = random.Random(seed)
    shared = [
        "The same notice stands below everything that was printed in the village.",
        "本页由村里的印刷所打印，" * 3,
    ]
    span, line = " ".join(rng.choices(WORDS, k=24)), "Read on below this line of the page."
    rows = []
    for number in range(60):
        zh = number % 2 == 0
        body = "".join(rng.choices(SIGNS, k=120)) if zh else " ".join(rng.choices(WORDS, k=60)) + f" {number}"
        text = f"{body}\n\n{shared[number % 2]}" if number % 3 == 0 else body
        if number % 3 == 1:
            text = f"{body[:40]}\n{line}\n{body[40:]}"
        if number % 7 == 0:
            text = f"{body[:30]} {span} {text}"
        copies = [text]
        if number % 4 == 0:
            copies.append(edited(text, 0.03, rng))
        if number % 5 == 0:
            copies += [text, text.upper()]
        sources = ("web", "books", "forum")
        rows += [record(copy, rng.choice(sources), place=len(rows) + place) for place, copy in enumerate(copies)]
    return rows


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several ranges of keys although there is little."""
    monkeypatch.setattr(exact, "RANGE_DOCUMENTS", 50)
    monkeypatch.setattr(candidates, "RANGE_KEYS", 2000)
    monkeypatch.setattr(repeated, "RANGE_SPANS", 1000)
    monkeypatch.setattr(deduplicate, "PAIRS_TOGETHER", 10)
    monkeypatch.setattr(clusters, "AT_ONCE", 30)


def run(folder: Path, artifact: Path, **config: Any) -> Path:
    stage = DeduplicateStage.parse({"annotated": str(artifact), "executor": "inline"} | EVERYTHING | config)
    return produce("deduplicate", stage, folder).path


def files(done: Path) -> dict[str, bytes]:
    return {path.relative_to(done).as_posix(): path.read_bytes() for path in sorted(done.glob("verdicts/*"))} | {
        "report.json": (done / "report.json").read_bytes()
    }


def by_record(artifact: Path, done: Path) -> list[Any]:
    found = [(row["id"], row["origin"]["line"], verdict) for row, verdict in aligned(artifact, done)]
    return sorted(found, key=lambda entry: entry[:2])


def test_order_and_division_of_the_documents_make_no_difference(tmp_path: Path) -> None:
    rows = corpus()
    artifact = annotated(tmp_path / "a", rows, 3)
    first = by_record(artifact, run(tmp_path / "first", artifact))
    assert {verdict.reason for *_, verdict in first} == {None, "exact", "near"}
    assert {kind for *_, verdict in first for *_, kind in verdict.cuts} == {"paragraph", "line", "substring"}
    for number, units in enumerate((1, 2, 5)):
        shuffled = random.Random(number).sample(rows, len(rows))
        artifact = annotated(tmp_path / f"b{number}", shuffled, units)
        done = run(tmp_path / f"again{number}", artifact)
        assert by_record(artifact, done) == first
        assert (done / "report.json").read_bytes() == (tmp_path / "first/report.json").read_bytes()


def test_of_equal_documents_of_one_source_the_same_one_stays_in_any_order(tmp_path: Path) -> None:
    rows = [record("One text, many times." * 3, place=place) for place in range(6)]
    kept = set()
    for number in range(4):
        artifact = annotated(tmp_path / f"a{number}", random.Random(number).sample(rows, len(rows)), 2)
        found = by_record(artifact, run(tmp_path / f"b{number}", artifact))
        kept.add(tuple(line for _, line, verdict in found if verdict.kept))
    assert len(kept) == 1 and len(kept.pop()) == 1


@pytest.mark.parametrize("size", [3, 200])
def test_a_large_group_of_copies_becomes_one_cluster_in_any_order(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "ALL_PAIRS", 8)
    monkeypatch.setattr(deduplicate, "PAIRS_TOGETHER", 1000)
    rng = random.Random(2)
    text = " ".join(rng.choices(WORDS, k=80))
    rows = [record(edited(text, 0.02, rng, "word"), place=place) for place in range(size)]
    artifact = annotated(tmp_path / "a", rows, 2)
    found = by_record(artifact, run(tmp_path / "b", artifact))
    assert len({verdict.cluster for *_, verdict in found}) == 1
    assert [verdict.kept for *_, verdict in found].count(True) == 1


@pytest.mark.parametrize("workers", [2, 4, pytest.param(1, marks=pytest.mark.slow)])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, workers: int) -> None:
    artifact = annotated(tmp_path / "a", corpus(), 4)
    config = {"paragraphs": None, "lines": None, "substrings": None}
    expected = files(run(tmp_path / "inline", artifact, **config))
    assert files(run(tmp_path / "many", artifact, executor="process", workers=workers, **config)) == expected


CHILD = """
import sys, time
from pathlib import Path
from tests import test_corpus_dedup_same as cases
from luhuo.corpus.dedup import candidates, deduplicate, exact, repeated
from luhuo.corpus.factory import executors
exact.RANGE_DOCUMENTS, candidates.RANGE_KEYS, repeated.RANGE_SPANS, deduplicate.PAIRS_TOGETHER = 50, 2000, 1000, 10
finished = executors.write_json
def slowly(*given, **named):
    time.sleep(0.02)
    finished(*given, **named)
executors.write_json = slowly
cases.run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def marked(folder: Path) -> int:
    """How many units are marked as done. The folder goes away when the stage ends."""
    try:
        return len(list(folder.rglob("*.json")))
    except FileNotFoundError:
        return 0


def killed(target: Path, artifact: Path, after: int) -> bool:
    """Start the stage in a process and kill it when it has marked this many units more; False if it ended before."""
    marks = target.parent / f".{target.name}.partial" / ".done"
    before = marked(marks)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(target), str(artifact)], cwd=Path(__file__).parents[1])
    while child.poll() is None:
        if marked(marks) >= before + after:
            child.kill()
            child.wait()
            return True
        time.sleep(0.005)
    return False


def check_kills(tmp_path: Path, kills: int, seed: int) -> None:
    artifact, rng = annotated(tmp_path / "a", corpus(), 4), random.Random(seed)
    expected = files(run(tmp_path / "whole", artifact))
    for _ in range(kills):
        if not killed(tmp_path / "cut", artifact, rng.randint(1, 90 // kills)):
            break
    assert files(run(tmp_path / "cut", artifact)) == expected


def test_after_kills_the_stage_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    check_kills(tmp_path, 3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_after_twenty_kills_the_stage_goes_on_to_the_same_bytes(tmp_path: Path, seed: int) -> None:
    check_kills(tmp_path, 20, seed)


def test_a_truncated_intermediate_file_is_made_anew(tmp_path: Path) -> None:
    artifact = annotated(tmp_path / "a", corpus(), 4)
    expected = files(run(tmp_path / "whole", artifact))
    assert killed(tmp_path / "cut", artifact, 20)
    damaged = 0
    for path in (tmp_path / ".cut.partial/.work").rglob("*.columns"):
        path.write_bytes(path.read_bytes()[:-100])
        damaged += 1
    assert damaged > 5
    assert files(run(tmp_path / "cut", artifact)) == expected


def test_columns_are_refused_when_damaged_or_made_by_another_algorithm(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "some.columns"
    write_columns(path, "minhash 1", {"key": np.arange(100, dtype=np.uint64), "none": np.zeros((0, 2))})
    assert read_columns(path, "minhash 1")["key"][99] == 99
    with pytest.raises(LuhuoError, match="another algorithm") as caught:
        read_columns(path, "minhash 2")
    assert caught.value.found == "minhash 1" and "--force" in str(caught.value)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LuhuoError, match="damaged"):
        read_columns(path, "minhash 1")
    path.write_bytes(b"")
    with pytest.raises(LuhuoError, match="damaged"):
        read_columns(path, "minhash 1")
