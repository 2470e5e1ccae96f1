"""The report on compressing a model: limits, candidates, costs, the front, the recommendation, the page."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any, Literal

import pytest

from luhuo.compress.quantise_stage import QuantizeStage
from luhuo.compress.report.candidates import Candidate, Step, chosen, discover
from luhuo.compress.report.costs import Costs
from luhuo.compress.report.front import pareto, recommend
from luhuo.compress.report.limits import Limit, parse_limits, shown_bytes
from luhuo.compress.report.outcome import Outcome, hopeless, impossible
from luhuo.compress.report.subject import open_subject
from luhuo.compression_report import Request, compress_report
from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.stage import Stage
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from luhuo.report.compression.plot import LOSSES, Point, picture
from luhuo.report.compression.write import write_page
from luhuo.stages import STAGES, stage_class
from tests.compression_cases import model_folder, write_texts
from tests.evaluation_cases import data, task_file
from tests.test_report import Strict

SIZES = {"layers": 4, "intermediate_size": 96}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1GB, loss<1%", [Limit("size", 1e9), Limit("loss", 0.01)]),
        ("700 mb", [Limit("size", 7e8)]),
        ("1.5GiB；kl<=0.02", [Limit("size", 1.5 * 2**30), Limit("kl", 0.02)]),
        ("size<512k,memory<2G", [Limit("size", 512e3), Limit("memory", 2e9)]),
        ("agreement>95%,decode>1.5x", [Limit("agreement", 0.95), Limit("decode", 1.5, relative=True)]),
        ("decode≥120 tok/s、prefill>800", [Limit("decode", 120), Limit("prefill", 800)]),
        ("accuracy>-1%", [Limit("accuracy", -0.01)]),
        (
            "准确率至少−2％，损失不超过0.5%，大小<1GB",
            [Limit("accuracy", -0.02), Limit("loss", 0.005), Limit("size", 1e9)],
        ),
        ("解码>1.3倍", [Limit("decode", 1.3, relative=True)]),
    ],
)
def test_limits_are_read_as_people_write_them(text: str, expected: list[Limit]) -> None:
    assert parse_limits(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1GB, los<1%", "“los” is not known"),
        ("5", "no unit"),
        ("loss>1%", "loss takes <"),
        ("decode<2x", "decode takes >"),
        ("1GB, size<2GB", "size is limited twice"),
        ("loss<1GB", "“gb” is no unit of this"),
        ("size<1%", "a size is written as"),
        ("decode>2GB", "a rate is written as"),
        ("small please", "small please"),
        (" , ", "empty"),
        ("0GB", "a size is written as"),
    ],
)
def test_a_limit_that_is_not_understood_is_named_with_what_there_is(text: str, named: str) -> None:
    with pytest.raises(LuhuoError) as caught:
        parse_limits(text)
    assert named in str(caught.value)
    assert all(example in str(caught.value) for example in ("1GB", "loss<1%", "decode>1.5x", "accuracy>-1%"))


def test_sizes_are_shown_with_three_digits() -> None:
    assert [shown_bytes(n) for n in (999, 1_530, 2_950_756, 9.994e8, 1.1e9)] == [
        "999 B", "1.53 kB", "2.95 MB", "999 MB", "1.1 GB",
    ]  # fmt: skip


def test_the_front_is_what_nothing_dominates() -> None:
    chance = random.Random(0)
    for _ in range(50):
        points = [(f"p{i}", chance.randrange(8) * 1.0, chance.randrange(8) * 1.0) for i in range(12)]
        found = pareto(points)
        places = {name: (x, y) for name, x, y in points}
        for name, x, y in points:
            better = [q for q in points if q[1] <= x and q[2] <= y and (q[1], q[2]) != (x, y)]
            assert bool(better) == ((x, y) not in {places[one] for one in found}), name
        assert [places[n][0] for n in found] == sorted(places[n][0] for n in found)


def figures(name: str, size: float, loss: float, kl: float | None = None, **others: Any) -> dict[str, Any]:
    found = {"name": name, "label": name, "size": size, "size_ratio": size / 10e6, "loss": spread(loss)}
    kl = abs(loss) if kl is None else kl
    return found | {"kl": spread(kl), "agreement": spread(1 - kl), "accuracy": None, "decode_ratio": None} | others


def spread(mean: float, by: float = 0.001) -> dict[str, float]:
    return {"mean": mean, "low": mean - by, "high": mean + by}


MODELS = [
    figures("int8", 6e6, 0.001),
    figures("int4", 3e6, 0.008),
    figures("int3", 2e6, 0.2),
    figures("int2", 1e6, 5.0),
]


@pytest.mark.parametrize(
    ("limit", "name"),
    [("loss<1%", "int4"), ("7MB, loss<1%", "int8"), ("4MB", "int4"), ("2.5MB", "int3"), ("loss<0.5%", "int8")],
)
def test_with_room_limited_the_least_loss_is_taken_and_otherwise_the_smallest(limit: str, name: str) -> None:
    found = recommend(MODELS, parse_limits(limit))
    assert found is not None and found.fits and found.name == name


def test_what_keeps_a_limit_for_certain_goes_before_what_only_seems_to() -> None:
    models = [figures("seems", 2e6, 0.0095), figures("sure", 3e6, 0.005)]
    found = recommend(models, parse_limits("loss<1%"))
    assert found is not None and found.name == "sure"
    found = recommend(models[:1], parse_limits("loss<1%"))
    assert found is not None and found.fits and "measure on more text" in found.words[0]["en"]


def test_where_nothing_fits_the_nearest_is_named_with_what_it_misses() -> None:
    found = recommend(MODELS, parse_limits("2.9MB, loss<1%"))
    assert found is not None and not found.fits and found.name == "int4"
    english, chinese = (" ".join(line[lang] for line in found.words) for lang in ("en", "zh"))
    assert "Nothing that was tried fits" in english and "size on disk at most 2.9 MB (it has 3 MB)" in english
    assert "都不满足" in chinese and "实际为 3 MB" in chinese
    found = recommend(MODELS, parse_limits("10kB"))
    assert found is not None and "No model that was tried keeps the limit on size" in found.words[-1]["en"]


def test_a_limit_on_what_was_not_measured_is_not_kept() -> None:
    found = recommend(MODELS, parse_limits("decode>1.5x"))
    assert found is not None and not found.fits
    fast = [one | {"decode_ratio": 2.0} for one in MODELS[1:2]]
    found = recommend([*MODELS[:1], *fast], parse_limits("decode>1.5x"))
    assert found is not None and found.fits and found.name == "int4"


def test_smaller_and_faster_ones_that_fit_are_named_beside_the_recommended() -> None:
    models = [MODELS[0] | {"decode_ratio": 1.2}, MODELS[1] | {"decode_ratio": 1.9}]
    found = recommend(models, parse_limits("1GB, loss<1%"))
    assert found is not None and found.name == "int8"
    english = " ".join(line["en"] for line in found.words)
    assert "The smallest that fits is int4" in english and "The fastest that fits is int4" in english


def compressing() -> dict[str, type[Stage]]:
    return {n: stage_class(n) for n, entry in STAGES.items() if entry.target.startswith("luhuo.compress.")}


def test_every_method_of_the_stage_quantize_is_a_candidate() -> None:
    from typing import get_args

    found = discover(compressing(), SIZES)
    methods = {one.steps[0].values["method"] for one in found if one.steps[0].stage == "quantize"}
    known = set(get_args(QuantizeStage.model_fields["method"].annotation))
    assert {"rtn", "gptq", "awq"} <= methods <= known
    assert len({one.name for one in found}) == len(found)


def test_candidates_are_accepted_by_their_stages_and_get_text_only_where_it_is_needed() -> None:
    for one in discover(compressing(), SIZES):
        for step in one.steps:
            values: dict[str, Any] = {"model": "-", **step.values}
            if not step.reads:
                stage_class(step.stage).parse(values)
                continue
            with pytest.raises(LuhuoError):
                stage_class(step.stage).parse(values)


def test_what_is_tried_first_needs_no_text_and_few_bits_come_late() -> None:
    found = discover(compressing(), SIZES)
    names = [one.name for one in found]
    assert names.index("rtn-4-bit") < names.index("gptq-4-bit") < names.index("rtn-3-bit") < names.index("rtn-2-bit")
    assert all(len(one.steps) == 1 for one in found if one.late < 2)


class NewStage(Stage):
    """A way to compress that this test adds."""

    model: Input = field(..., "Model.", "模型。")
    method: Literal["old", "brandnew"] = field("old", "How.", "方法。")
    ratio: float = field(0.5, "Share.", "比例。", lt=0.7)

    def run(self, out: Any) -> None: ...


def test_a_new_stage_of_the_room_joins_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert discover({"new": NewStage}, SIZES) == []
    monkeypatch.setattr(NewStage, "__module__", "luhuo.compress.new")
    found = discover({"new": NewStage, "quantize": QuantizeStage}, SIZES)
    labels = {one.label for one in found if one.steps[0].stage == "new"}
    assert labels == {"new old 60%", "new brandnew 60%"}  # it does not accept 80%, and 60% is no first choice


def test_sizes_of_smaller_models_follow_from_the_model() -> None:
    found = {one.label for one in discover(compressing(), SIZES) if one.steps[0].stage == "prune"}
    assert {"prune structured layers=3", "prune structured width=48", "prune wanda 2:4"} <= found


def test_the_embedding_is_rounded_with_its_output_matrix_where_they_are_two() -> None:
    for tied in (True, False):
        found = discover(compressing(), SIZES, tied=tied)
        values = [one.steps[0].values for one in found if "emb8" in one.label]
        assert values and all(("head_bits" in value) != tied for value in values)


def test_what_corrects_follows_the_rounding_it_corrects() -> None:
    found = [one for one in discover(compressing(), SIZES) if one.steps[-1].corrects]
    assert "gptq 3-bit + lqer" in {one.label for one in found}
    assert all(one.steps[0].stage == "quantize" for one in found)
    assert hopeless(found[0], [lost(Candidate(found[0].steps[:1]), 9.0)], 0.01) is None


def test_methods_are_named_by_stage_method_or_bits() -> None:
    found = discover(compressing(), SIZES)
    assert {one.label for one in chosen(found, ["rtn"])} >= {"rtn 8-bit", "rtn 4-bit", "rtn 4-bit g32"}
    assert all("rtn" in one.label for one in chosen(found, ["rtn"]))
    assert [one.label for one in chosen(found, ["gptq-4-bit"])] == ["gptq 4-bit"]
    both = chosen(found, ["trim-vocabulary", "gptq"])
    assert "trim-vocabulary + gptq 4-bit" in {one.label for one in both}
    with pytest.raises(LuhuoError, match="gpqt") as caught:
        chosen(found, ["gpqt"])
    assert "gptq" in str(caught.value)


def test_costs_are_learned_from_what_was_done() -> None:
    gptq, awq = (Candidate((Step("quantize", {"method": m, "bits": 4}, True),)) for m in ("gptq", "awq"))
    costs = Costs(10.0)
    first = costs.of(gptq, set())
    costs.add(gptq.steps[0], 500.0)
    costs.measured.append(7.0)
    assert first < 100
    assert costs.of(gptq, set()) == 507.0
    assert costs.of(awq, set()) >= 507.0  # a method of the same sort may take as long
    both = Candidate((*gptq.steps, Step("quantize", {"method": "rtn"}, False)))
    assert costs.of(both, {gptq.steps}) < 50 < 500 < costs.of(both, set())


def points(count: int) -> list[Point]:
    chance = random.Random(count)
    losses = [chance.choice((-0.05, 0.01, 0.5, 4.0, 80.0, 9e4)) for _ in range(count)]
    return [
        Point(f"n{i}", f"label {i}", chance.uniform(1e6, 9e6), loss, loss - 0.01, loss + 0.02, f"s{i % 7}", "")
        for i, loss in enumerate(losses)
    ]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_points_and_labels_lie_within_the_picture_and_labels_do_not_cover_one_another(count: int) -> None:
    some = points(count)
    drawn = picture("t", ("x", "y"), some, [some[0].name], original=12e6, shown=[], scale=1e6, limit=1.0)
    assert drawn is not None and len(drawn.dots) == count
    for dot in drawn.dots:
        assert drawn.left <= dot.x <= drawn.right and drawn.top <= dot.y <= drawn.bottom
        assert drawn.top <= dot.high <= dot.low <= drawn.bottom
    texts = [(d.text, len(d.point.label)) for d in drawn.dots if d.text]
    boxes = []
    for (x, y, anchor), letters in texts:
        left = x - {"start": 0, "end": 6.3 * letters, "middle": 3.15 * letters}[anchor]
        boxes.append((left, y - 11, left + 6.3 * letters, y + 2))
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert len(drawn.x_ticks) >= 2 and len(drawn.y_ticks) >= 2


def test_the_axis_of_the_loss_keeps_the_order_of_losses_of_all_sizes() -> None:
    some = [Point(f"n{i}", "", 1e6 + i, v, v, v, "s", "") for i, v in enumerate(LOSSES)]
    drawn = picture("t", ("x", "y"), some, [], original=None, shown=[])
    assert drawn is not None
    heights = [dot.y for dot in drawn.dots]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == len(heights)


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


def lost(candidate: Candidate, low: float | None) -> Outcome:
    outcome = Outcome(candidate)
    loss = None if low is None else {"mean": low + 0.01, "low": low, "high": low + 0.02}
    outcome.done({"loss": loss}, "", 1.0, 1.0)
    return outcome


def test_fewer_bits_are_not_tried_where_more_have_lost_far_too_much() -> None:
    by_name = {one.name: one for one in discover(compressing(), SIZES)}
    three, two, grouped = (by_name[name] for name in ("gptq-3-bit", "gptq-2-bit", "gptq-2-bit-g32"))
    reason = hopeless(two, [lost(three, 0.2)], 0.01)
    assert reason is not None and "gptq 3-bit has raised perplexity by 21%; fewer bits lose more" in reason[0]
    assert "位数更少只会更差" in reason[1]
    assert hopeless(grouped, [lost(three, 0.2)], 0.01) is None  # smaller groups are another matter
    assert hopeless(by_name["awq-2-bit"], [lost(three, 0.2)], 0.01) is None
    assert hopeless(three, [lost(two, 0.2)], 0.01) is None
    assert hopeless(two, [lost(three, 0.2)], None) is None and hopeless(two, [lost(three, 0.2)], 0.1) is None
    assert hopeless(two, [lost(three, None)], None) is not None  # a model that gives no numbers


def test_nothing_is_rounded_on_top_of_what_has_lost_far_too_much_alone() -> None:
    by_name = {one.name: one for one in discover(compressing(), SIZES)}
    both, first = by_name["prune-wanda-2-4--gptq-4-bit"], by_name["prune-wanda-2-4"]
    reason = hopeless(both, [lost(first, 0.3)], 0.01)
    assert reason is not None and "prune wanda 2:4 alone raises perplexity by 31%" in reason[0]
    assert hopeless(both, [lost(by_name["prune-sparsegpt-2-4"], 0.3)], 0.01) is None


def test_stages_that_cannot_follow_one_another_fail_once() -> None:
    by_name = {one.name: one for one in discover(compressing(), SIZES)}
    pairs = [one for name, one in by_name.items() if name.startswith("factorise") and len(one.steps) == 2]
    failed = Outcome(pairs[0])
    failed.fail(LuhuoError("They do not go together.", where="here"))
    reason = impossible(pairs[1], [failed])
    assert reason is not None and reason[0] == f"{pairs[0].label} failed: They do not go together."
    assert impossible(by_name["prune-wanda-2-4--gptq-4-bit"], [failed]) is None


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
