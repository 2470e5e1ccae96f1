"""The report on compressing a model, from a request to the page, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from luhuo.compress.report.candidates import discover
from luhuo.compress.report.subject import open_subject
from luhuo.compression_report import Request, compress_report
from luhuo.core.errors import LuhuoError
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from luhuo.report.compression.write import write_page
from tests.compression_cases import compressing, model_folder, write_texts
from tests.evaluation_cases import data, task_file
from tests.test_report import Strict


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose folder's name attacks the page, and a text."""
    root = tmp_path_factory.mktemp("compress")
    model_folder(root / "a<b>&\"c'")
    write_texts(root / "texts.jsonl", documents=120)
    return root


def request(folder: Path, out: Path, **changes: Any) -> Request:
    given = {"model": str(folder / "a<b>&\"c'"), "data": str(folder / "texts.jsonl"), "out": out, "turns": 0}
    given |= {"tokens": 1000, "length": 64, "sequences": 8, "methods": ["rtn-8-bit", "rtn-4-bit", "rtn-3-bit"]}
    return Request(**given | changes)


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reported(folder: Path) -> Path:
    out = folder / "report"
    assert compress_report(request(folder, out, limit="1GB, loss<50%")) == out / "report.html"
    return out


def test_every_candidate_is_made_measured_and_compared(reported: Path) -> None:
    found = read(reported)
    names = [one["name"] for one in found["candidates"]]
    assert names == ["rtn-8-bit", "rtn-4-bit", "rtn-3-bit"]
    done = {one["name"]: one["figures"] for one in found["candidates"] if one["status"] == "done"}
    assert done["rtn-8-bit"]["size"] > done["rtn-4-bit"]["size"]
    assert 0 < done["rtn-8-bit"]["kl"]["mean"] < done["rtn-4-bit"]["kl"]["mean"]
    assert found["original"]["loss"]["mean"] == 0.0
    assert found["recommendation"]["fits"] and found["recommendation"]["name"] == "rtn-8-bit"
    assert set(found["front"]["size"]) <= set(done)
    load_decoder(found["recommendation"]["path"])


def test_the_command_on_the_page_makes_the_same_model(reported: Path, tmp_path: Path) -> None:
    import shlex

    from luhuo.cli import run_stage

    advice = read(reported)["recommendation"]
    assert len(advice["commands"]) == 1
    _, stage, *pairs = shlex.split(advice["commands"][0])
    assert stage == "quantize" and pairs[-2] == "--out"
    done = run_stage(stage, pairs[:-2], None, tmp_path / "again", False, show=False)
    digest = json.loads((Path(advice["path"]) / "manifest.json").read_text(encoding="utf-8"))["digest"]
    assert done.manifest["digest"] == digest


def test_the_same_command_makes_nothing_twice(folder: Path, reported: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reported.glob("*/*/manifest.json")}
    assert len(before) >= 3
    compress_report(request(folder, reported, limit="1GB, loss<50%"))
    assert {path: path.stat().st_mtime_ns for path in reported.glob("*/*/manifest.json")} == before


def test_what_is_finished_counts_even_where_no_time_is_left(folder: Path, reported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(reported, out)
    wanted = ["rtn-8-bit", "rtn-4-bit", "gptq-4-bit"]
    settings = {"limit": "loss<50%", "methods": wanted, "heldout": str(reported / "text/heldout.jsonl")}
    settings["data"] = str(reported / "text/calibration.jsonl")
    compress_report(request(folder, reported, budget="0.01s", **settings))
    states = {one["name"]: (one["status"], one["reason"]["en"]) for one in read(reported)["candidates"]}
    assert states["rtn-8-bit"][0] == states["rtn-4-bit"][0] == "done"
    assert states["gptq-4-bit"][0] == "skipped" and "of the budget are left" in states["gptq-4-bit"][1]
    shutil.rmtree(reported)
    shutil.copytree(out, reported)


def test_candidates_of_every_sort_are_made_and_measured(folder: Path, tmp_path: Path) -> None:
    wanted = ["rtn-4-bit--lqer", "rtn-4-bit-emb8", "rtn-mixed-4-bit", "prune-wanda-2-4--gptq-4-bit", "trim-vocabulary"]
    wanted += ["prune-structured-layers-2", "rtn-4-bit"]
    model = model_folder(tmp_path / "model", layers=3)
    settings = {"limit": "loss<900%", "model": str(model), "data": str(folder / "texts.jsonl"), "methods": wanted}
    compress_report(request(folder, tmp_path / "out", **settings))
    found = {one["name"]: one for one in read(tmp_path / "out")["candidates"]}
    assert {name: one["reason"]["en"] for name, one in found.items() if one["status"] != "done"} == {}
    assert set(found) == set(wanted)
    size = {name: one["figures"]["size"] for name, one in found.items()}
    assert size["rtn-4-bit-emb8"] < size["rtn-4-bit"] < size["rtn-4-bit--lqer"]  # the adapter and what it corrects
    kl = {name: one["figures"]["kl"]["mean"] for name, one in found.items() if one["figures"]["kl"]}
    assert kl["rtn-4-bit--lqer"] < kl["rtn-4-bit"]


def test_tasks_are_compared_item_by_item_with_the_original(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    task, place = task_file(tmp_path), data(tmp_path, count=40)
    settings = {"tasks": [str(task)], "task_data": {"quiz": str(place)}, "methods": ["rtn-8-bit", "rtn-3-bit"]}
    compress_report(request(folder, tmp_path / "out", limit="accuracy>-90%, loss<900%", **settings))
    found = read(tmp_path / "out")
    assert found["original"]["tasks"]["quiz"]["difference"]["mean"] == 0.0
    assert found["original"]["accuracy"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    rows = {
        name: [json.loads(line) for line in (tmp_path / f"out/measures/{name}/tasks/quiz.jsonl").open()]
        for name in ("original", "rtn-3-bit")
    }
    right = {name: {row["id"]: row["scores"]["acc"] for row in some} for name, some in rows.items()}
    change = sum(right["rtn-3-bit"][i] - right["original"][i] for i in right["original"]) / 40
    three = next(one["figures"] for one in found["candidates"] if one["name"] == "rtn-3-bit")
    assert three["tasks"]["quiz"]["n"] == 40 and three["accuracy"]["mean"] == pytest.approx(change)
    assert three["tasks"]["quiz"]["difference"]["low"] <= change <= three["tasks"]["quiz"]["difference"]["high"]
    assert found["recommendation"]["fits"]
    assert '<th class="n">quiz</th>' in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_with_no_time_at_all_there_is_a_page_that_says_so(folder: Path, tmp_path: Path) -> None:
    compress_report(request(folder, tmp_path / "out", budget="0.01s"))
    found = read(tmp_path / "out")
    assert found["recommendation"] is None and {one["status"] for one in found["candidates"]} == {"skipped"}
    assert "Nothing has been measured yet" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_a_method_that_fails_is_listed_and_the_others_go_on(folder: Path, tmp_path: Path) -> None:
    """Calibration text too short for one sequence: methods that need it fail."""
    short = tmp_path / "short.txt"
    short.write_text("hello world", encoding="utf-8")
    wanted = ["rtn-8-bit", "gptq-8-bit"]
    compress_report(
        request(folder, tmp_path / "out", data=str(short), heldout=str(folder / "texts.jsonl"), methods=wanted)
    )
    found = {one["name"]: one for one in read(tmp_path / "out")["candidates"]}
    assert found["rtn-8-bit"]["status"] == "done"
    assert (
        found["gptq-8-bit"]["status"] == "failed"
        and "shorter than one sequence" in found["gptq-8-bit"]["reason"]["en"]
    )


def test_calibration_and_held_out_text_have_nothing_in_common(reported: Path) -> None:
    texts = [
        {json.loads(line)["text"] for line in (reported / "text" / name).read_text(encoding="utf-8").splitlines()}
        for name in ("calibration.jsonl", "heldout.jsonl")
    ]
    assert len(texts[0]) > 20 < len(texts[1]) and not texts[0] & texts[1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_one_valid_file_in_either_language(
    reported: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUHUO_LANG", language)
    text = write_page(reported, read(reported)).read_text(encoding="utf-8")
    page = Strict()
    page.feed(text)
    page.close()
    assert page.open == [] and page.links == [] and "script" not in page.tags
    assert "a<b>&" in page.words  # shown, and not taken for a tag
    assert text.count('class="bar"') >= 2
    word = "Take rtn 8-bit" if language == "en" else "推荐 rtn 8-bit"
    assert word in page.words and ("帕累托前沿" in page.words) == (language == "zh")


def test_the_page_fits_a_desk_and_a_phone(reported: Path, browser: Any) -> None:
    from tests.page_browser import watched

    path = write_page(reported, read(reported))
    address = path.absolute().as_uri()
    for width in (1280, 390):
        with watched(browser, address, ready=False, viewport={"width": width, "height": 800}) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("svg circle, svg rect, svg path[style]").count() >= 3
            assert page.locator(".advice").inner_text().startswith("Take rtn 8-bit")
            assert len(page.screenshot()) > 10_000


def test_few_bits_already_are_refused_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    save(load_decoder(folder / "a<b>&\"c'", "int4"), tmp_path / "few")
    with pytest.raises(LuhuoError, match="quantised already") as caught:
        compress_report(request(folder, tmp_path / "out", model=str(tmp_path / "few")))
    assert "luhuo compression-measure" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": "tiny"}, "limit cannot be understood"),
        ({"budget": "1e15"}, "is a time"),
        ({"budget": "soon"}, "not a budget"),
        ({"methods": ["gpqt"]}, "gpqt"),
        ({"limit": "accuracy>-1%"}, "accuracy, which would not be measured"),
        ({"limit": "decode>2x"}, "decode, which would not be measured"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_made(
    folder: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(LuhuoError, match=said):
        compress_report(request(folder, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_text_that_cannot_be_divided_or_measured_on_is_refused(folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("hello world", encoding="utf-8")
    with pytest.raises(LuhuoError, match="too short to be divided") as caught:
        compress_report(request(folder, tmp_path / "out", data=str(short)))
    assert "--heldout" in str(caught.value)
    with pytest.raises(LuhuoError, match="too short to measure"):
        compress_report(request(folder, tmp_path / "out", heldout=str(short)))


def test_too_little_memory_or_disk_is_said_with_figures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = open_subject(str(folder / "a<b>&\"c'"), 1_000_000_000_000)
    with pytest.raises(LuhuoError, match="not enough memory") as caught:
        subject.check_memory()
    assert "GB" in str(caught.value) and "--tokens" in str(caught.value)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(LuhuoError, match="not enough disk"):
        compress_report(request(folder, tmp_path / "out"))


def test_a_candidate_with_too_little_disk_is_skipped(folder: Path, tmp_path: Path) -> None:
    subject = open_subject(str(folder / "a<b>&\"c'"), 1000)
    by_name = {one.name: subject.disk_of(one) for one in discover(compressing(), subject.sizes)}
    assert by_name["rtn-4-bit"] < by_name["rtn-8-bit"] < by_name["prune-wanda-2-4"]
    assert by_name["prune-wanda-2-4"] < by_name["prune-wanda-2-4--gptq-4-bit"]
