"""The live curve: one page that loads nothing, bounded however long the run, true to files that grow and are cut."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import Workspace, produce, verify
from luhuo.core.errors import LuhuoError
from luhuo.core.stage import Stage
from luhuo.report import curve
from luhuo.report.curve import find_runs, live_curve, write_curve
from luhuo.report.series import MOST_POINTS, RunLog, Series
from tests.test_report import Strict

ATTACK = "</script><script>alert('x')</script> & \"quoted\""


def write_rows(folder: Path, first: int, last: int, loss: float = 3.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as handle:
        for step in range(first, last + 1):
            row = {"step": step, "tokens": 100 * step, "seconds": step / 2, "loss": loss + 5 / step, "lr": 0.01}
            handle.write(json.dumps(row) + "\n")


def make_run(folder: Path, steps: int = 60) -> Path:
    write_rows(folder, 1, steps)
    score = {"step": steps, "tokens": 100 * steps, "valid_bpb": 2.0, "valid_bpb.en": 1.8, "valid_bpb.zh": 2.2}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(score) + "\n")
    (folder / "watch").mkdir()
    events = [{"kind": "start", "step": 0, "steps": 100, "at": 1e9}]
    events += [{"kind": "skip", "step": 9, "tokens": 900, "seconds": 4.5, "at": 1e9, "message": ATTACK}]
    (folder / "watch/events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    samples = [{"step": 50, "prompt": "很久以前", "text": ATTACK, "chat": False}]
    (folder / "watch/samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return folder


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_loads_nothing_and_what_a_model_wrote_is_data(tmp_path: Path) -> None:
    page = write_curve([make_run(tmp_path / ATTACK.replace("/", "_"))]).read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert parser.open == [] and parser.links == []
    assert not re.search(r"url\(|@import|http-equiv|https?://(?!www\.w3\.org/2000/svg)", page)
    assert parser.tags.count("script") == 2, "the data and the program"
    assert embedded(page)["runs"][0]["samples"][0]["text"] == ATTACK
    assert "innerHTML" not in page and "outerHTML" not in page and "document.write" not in page


def test_a_run_is_read_with_its_scores_events_and_clock(tmp_path: Path) -> None:
    (log,) = find_runs([make_run(tmp_path / "base")])
    run = log.data()
    assert run["series"]["loss"]["value"][-1] == pytest.approx(3 + 5 / 60, rel=1e-5)
    assert run["series"]["valid_bpb.zh"] == {"step": [60], "tokens": [6000], "seconds": [30], "value": [2.2]}
    assert run["facts"]["steps"] == 100 and run["place"]["step"] == 60
    assert [event["kind"] for event in run["events"]] == ["skip"]


def test_whether_a_run_goes_on_is_known_from_what_it_wrote_last(tmp_path: Path) -> None:
    (log,) = find_runs([make_run(tmp_path / "base")])
    assert log.data()["state"] == "running"
    with (tmp_path / "base/watch/events.jsonl").open("a") as handle:
        handle.write('{"kind": "stop", "step": 60, "at": 1}\n')
    log.refresh()
    assert log.data()["state"] == "stopped"
    (tmp_path / "base/manifest.json").write_text("{}")
    assert log.data()["state"] == "finished"


def test_a_long_run_stays_small_and_keeps_means_and_extremes() -> None:
    series = Series()
    for step in range(1, 100_001):
        series.add((step, 10 * step, step / 2), 100.0 if step == 77_777 else 1.0)
    series.add((100_001, 0, 0), math.nan)
    columns = series.columns()
    assert MOST_POINTS / 2 <= len(columns["value"]) <= MOST_POINTS
    assert columns["step"] == sorted(columns["step"]) and columns["step"][-1] == 100_000
    assert max(columns["high"]) == 100 and min(columns["low"]) == 1
    assert sum(row[3] for row in series.rows) == 100_099 and sum(row[4] for row in series.rows) == 100_000


def test_only_what_is_new_is_read_and_a_file_that_was_cut_back_is_read_again(tmp_path: Path) -> None:
    write_rows(tmp_path, 1, 20)
    log = RunLog(tmp_path, "run")
    assert log.refresh() and not log.refresh()
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 21, "loss": 1')
    assert not log.refresh(), "half a line waits for its end"
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('.5}\nnot json\n[1]\n{"loss": 7}\n')
    assert log.refresh()
    assert log.series["loss"].rows[-1][3] == 1.5 and len(log.series["loss"].rows) == 21
    (tmp_path / "metrics.jsonl").unlink()
    write_rows(tmp_path, 1, 40, loss=9.0)
    log.refresh()
    assert len(log.series["loss"].rows) == 40 and log.series["loss"].rows[-1][3] > 9


def test_several_runs_stand_on_one_page_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    for run in ("first", "second"):
        make_run(tmp_path / run / "base")
    make_run(tmp_path / "second" / ".assistant.partial")
    (tmp_path / "second" / "scores").mkdir()
    (tmp_path / "second" / "scores" / "metrics.jsonl").write_text('{"accuracy": 1}\n')
    names = [log.name for log in find_runs([tmp_path / "first", tmp_path / "second"])]
    assert names == ["first/base", "assistant", "second/base"]
    assert [log.name for log in find_runs([tmp_path / "second" / "assistant"])] == ["assistant"]
    page = write_curve([tmp_path / "first", tmp_path / "second"], tmp_path / "both.html")
    assert [run["name"] for run in embedded(page.read_text(encoding="utf-8"))["runs"]] == names


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="nothing to draw"):
        write_curve([tmp_path])
    with pytest.raises(LuhuoError, match="no such folder"):
        write_curve([tmp_path / "nowhere"])


class Slow(Stage):
    """Trains, in a manner of speaking, until the page has been seen."""

    def run(self, out: Workspace) -> None:
        write_rows(out.path, 1, 5)
        page, end = out.path / "curve.html", time.monotonic() + 20
        while not page.exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert embedded(page.read_text(encoding="utf-8"))["runs"][0]["state"] == "running"
        write_rows(out.path, 6, 9)
        (out.path / "result.txt").write_text("done")


class Quiet(Stage):
    """Does not train."""

    def run(self, out: Workspace) -> None:
        (out.path / "result.txt").write_text("done")


def test_the_page_lies_beside_a_run_while_it_goes_on_and_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(curve, "EVERY_S", 0.05)
    done = produce("slow", Slow(), tmp_path / "base", watch=live_curve)
    run = embedded((done.path / "curve.html").read_text(encoding="utf-8"))["runs"][0]
    assert run["name"] == "base" and run["series"]["loss"]["step"][-1] == 9
    assert list(done.manifest["files"]) == ["result.txt"]
    verify(done.path)
    assert capsys.readouterr().err.count("curve.html") == 1
    quiet = produce("quiet", Quiet(), tmp_path / "quiet", watch=live_curve)
    assert not (quiet.path / "curve.html").exists()


def test_a_page_that_cannot_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_rows(tmp_path, 1, 3)
    (tmp_path / "curve.html").mkdir()
    for _ in range(2):
        with live_curve(tmp_path):
            pass
    assert capsys.readouterr().err.count("cannot be written") == 2, "once for each run"


def test_the_served_page_is_read_anew_and_only_for_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_run(tmp_path / "base")
    thread = threading.Thread(target=curve.serve, args=([tmp_path / "base"], 0), daemon=True)
    thread.start()
    end, told = time.monotonic() + 10, ""
    while not (found := re.search(r"http://\S+", told)) and time.monotonic() < end:
        time.sleep(0.02)
        told += capsys.readouterr().err
    assert found is not None
    for last in (60, 70):
        if last == 70:
            write_rows(tmp_path / "base", 61, 70)
        with urllib.request.urlopen(found[0]) as answer:
            assert embedded(answer.read().decode())["runs"][0]["series"]["loss"]["step"][-1] == last
    for request in (
        found[0] + "metrics.jsonl",
        urllib.request.Request(found[0], headers={"Host": "elsewhere.example"}),
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(request)


def browser(tmp_path: Path, *arguments: str) -> str:
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command = ["chromium", *options, "--window-size=1280,1600", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on the PATH")


@needs_browser
@pytest.mark.parametrize(("language", "word"), [("en", "training loss"), ("zh", "训练损失")])
def test_a_browser_builds_the_page_in_both_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, word: str
) -> None:
    monkeypatch.setenv("LUHUO_LANG", language)
    page = write_curve([make_run(tmp_path / "base")])
    built = browser(tmp_path, "--dump-dom", page.absolute().as_uri() + "#axis=seconds&logy=1&logx=1")
    drawn = built.split('<script type="application/json"')[0]
    assert word in drawn
    assert all(f'id="chart-{name}"' in drawn for name in ("loss", "bpb", "lr"))
    assert "&lt;script&gt;alert" in drawn and "<script>alert" not in drawn


@needs_browser
def test_a_browser_draws_the_curves(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    page = write_curve(runs, tmp_path / "both.html")
    picture = tmp_path / "curve.png"
    browser(tmp_path, f"--screenshot={picture}", page.absolute().as_uri() + "#theme=dark")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 40_000, "a blank page compresses to far less"
