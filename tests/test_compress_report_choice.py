"""What a report on compression tries and recommends: limits, candidates, costs, the front, the picture of it."""

from __future__ import annotations

import itertools
import random
from typing import Any, Literal

import pytest

from luhuo.compress.quantise_stage import QuantizeStage
from luhuo.compress.report.candidates import Candidate, Step, chosen, discover
from luhuo.compress.report.costs import Costs
from luhuo.compress.report.front import pareto, recommend
from luhuo.compress.report.limits import Limit, parse_limits, shown_bytes
from luhuo.compress.report.outcome import Outcome, hopeless, impossible
from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.stage import Stage
from luhuo.report.compression.plot import LOSSES, Point, picture
from luhuo.stages import stage_class
from tests.compression_cases import SIZES, compressing


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
