"""Work units through functions: equal files from any executor, resumed, verified, and in spite of bad records."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.corpus.factory.executors import Executor, Job, Outcome, Unit, run
from luhuo.corpus.factory.watch import Watch

UNITS = [Unit(f"u{number}", 10, {"words": [f"{number}-{word}" for word in range(5)]}) for number in range(6)]


def shout(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """The work of these tests: words in capitals; some words do harm."""
    left = []
    for number, word in enumerate(unit.payload["words"]):
        if number in watch.skips:
            continue
        watch.at(number)
        if word == settings.get("deadly"):
            os.kill(os.getpid(), 9)
        if word == settings.get("endless"):
            time.sleep(60)
        if word == settings.get("wrong"):
            raise ValueError(word)
        if word == settings.get("refused"):
            raise LuhuoError("refused", found=word)
        left.append(word.upper() + settings["end"])
    (folder / f"{unit.name}.txt").write_text("\n".join(left), encoding="utf-8")
    with (folder / "calls.log").open("a") as handle:
        handle.write(unit.name + "\n")
    return Outcome([f"{unit.name}.txt"], {"words": len(left), "skips": sorted(watch.skips)})


def job(**settings: str) -> Job:
    return Job(f"{__name__}:shout", {"end": "!", **settings})


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.parametrize(("executor", "workers"), [("inline", 1), ("process", 1), ("process", 3)])
def test_every_executor_writes_the_same_files(tmp_path: Path, executor: Executor, workers: int) -> None:
    told = run(job(), UNITS, tmp_path, title="shout", executor=executor, workers=workers)
    assert [row["words"] for row in told] == [5] * 6
    assert files(tmp_path) == {f"u{n}.txt": "\n".join(f"{n}-{w}!" for w in range(5)) for n in range(6)}


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    first = run(job(), UNITS[:4], tmp_path, title="shout", executor="inline")
    again = run(job(), UNITS, tmp_path, title="shout", executor="inline")
    assert again[:4] == first
    assert (tmp_path / "calls.log").read_text().split() == [f"u{n}" for n in range(6)]


def test_a_truncated_file_is_made_again(tmp_path: Path) -> None:
    run(job(), UNITS, tmp_path, title="shout", executor="inline")
    whole = files(tmp_path)
    (tmp_path / "u2.txt").write_text(whole["u2.txt"][:4])
    (tmp_path / "u3.txt").unlink()
    run(job(), UNITS, tmp_path, title="shout", executor="process", workers=2)
    assert files(tmp_path) == whole
    assert (tmp_path / "calls.log").read_text().split().count("u2") == 2
    assert (tmp_path / "calls.log").read_text().split().count("u1") == 1


def test_a_record_that_kills_its_process_is_left_out(tmp_path: Path) -> None:
    told = run(job(deadly="1-3"), UNITS, tmp_path, title="shout", workers=2)
    assert [row["skips"] for row in told] == [[], [3], [], [], [], []]
    assert files(tmp_path)["u1.txt"] == "1-0!\n1-1!\n1-2!\n1-4!"


def test_a_record_that_never_ends_is_left_out(tmp_path: Path) -> None:
    told = run(job(endless="0-0"), UNITS[:1], tmp_path, title="shout", workers=1, record_s=1)
    assert told == [{"words": 4, "skips": [0]}]


def test_a_fault_in_one_record_does_not_end_the_run(tmp_path: Path) -> None:
    told = run(job(wrong="2-4"), UNITS, tmp_path, title="shout", workers=1)
    assert told[2]["skips"] == [4]


def test_bad_input_is_told_and_not_skipped(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="refused") as error:
        run(job(refused="2-4"), UNITS, tmp_path, title="shout", workers=1)
    assert error.value.found == "2-4"
    assert json.loads((tmp_path / ".done/shout/u0.json").read_text())["told"]["words"] == 5


def test_a_worker_that_cannot_start_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="again and again"):
        run(Job("no_such_module:none", {}), UNITS[:1], tmp_path, title="shout", workers=1)


def test_on_ray_the_files_are_the_same_and_bad_records_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not part of the test environment")
    told = run(job(deadly="1-3", wrong="2-4"), UNITS, tmp_path, title="shout", executor="ray", workers=2)
    assert [row["skips"] for row in told] == [[], [3], [4], [], [], []]
    assert files(tmp_path)["u0.txt"] == "\n".join(f"0-{word}!" for word in range(5))
    with pytest.raises(LuhuoError, match="refused"):
        run(job(refused="2-4"), UNITS, tmp_path / "again", title="shout", executor="ray", workers=2)
