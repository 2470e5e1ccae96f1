"""Judges: both orders, what they cannot say, their agreement with people, the cache, and the two stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.judges.calls import Calls
from luhuo.evaluation.judges.config import JudgeConfig
from luhuo.evaluation.judges.judge import open_judge
from luhuo.evaluation.judges.pairwise import Pair, judge_pairs, position_bias, standing
from luhuo.evaluation.judges.rubric import read_rubrics
from luhuo.evaluation.judges.rules import refuses
from luhuo.evaluation.judges.verdict import Shown, read_pair, read_rating
from luhuo.model.save import save
from tests.chat_endpoint import Says
from tests.judge_cases import FOLDER, needs_data, pair, prefers, server, shown_first, spoken
from tests.small_chat import small_model

# Words


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Both are fine. [[A]]", 1.0, ""),
        ("[[ B ]]", 0.0, ""),
        ("so: [[C]]", 0.5, ""),
        ("[[A]] … no, [[A]]", 1.0, ""),
        ("[[A]] if A is better, [[B]] if B is", None, "ambiguous"),
        ("A is better", None, "nonsense"),
        ("", None, "nonsense"),
    ],
)
def test_a_verdict_is_read_from_double_brackets_or_not_at_all(text: str, value: float | None, kind: str) -> None:
    found = read_pair(text)
    assert (found.value, found.kind) == (value, kind) and found.text == text
    assert read_pair("it goes on and", ended=False).kind == "cut_off"


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Rating: [[7]]", 7.0, ""),
        ("[[6.5]] of [[10]]", 6.5, ""),
        ("Rating: [8]", 8.0, ""),
        ("[[99]]", None, "off_scale"),
        ("eight", None, "nonsense"),
    ],
)
def test_a_rating_is_a_number_of_the_scale(text: str, value: float | None, kind: str) -> None:
    found = read_rating(text, (1, 10))
    assert (found.value, found.kind) == (value, kind)


def test_refusals_are_known_by_their_phrases_in_both_languages() -> None:
    refused = [
        "I\u2019m sorry, but I can't assist with that.",
        "I cannot provide instructions.",
        "抱歉，我无法提供这些内容。",
    ]
    answered = [
        "Use SIGKILL: `kill -9 PID`.",
        "I can't recall who said it, but here is how.",
        "首先打开任务管理器。",
        "",
    ]
    assert all(map(refuses, refused)) and not any(map(refuses, answered))


# Rubrics


def test_what_an_answer_says_is_never_taken_for_a_place_to_fill() -> None:
    rubric = read_rubrics(None, "pairwise").of("pairwise", Shown(("q {answer_b}",), ("{question}",), ("b",)))
    text = rubric.messages(Shown(("q {answer_b}",), ("{question}",), ("b",)))[-1]["content"]
    assert "q {answer_b}" in text and "[Answer A]\n{question}\n" in text


def test_a_rubric_speaks_the_language_of_the_question() -> None:
    chinese = Shown(("水为什么会结冰？",), ("因为冷。",), ("不知道。",))
    for name in ("pairwise", "verdict", "single", "refusal"):
        rubrics = read_rubrics(None, name)
        kind = next(iter(rubrics.content.values()))["kind"]
        assert "【" in rubrics.of(kind, chinese).messages(chinese)[-1]["content"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nkind: pairwise\nen: {prompt: '{answer_c}'}", "answer_b"),
        ("name: x\nkind: label\nanswer: choice\nen: {prompt: p}", "two options"),
        ("name: x\nkind: single\nanswer: choice\nen: {prompt: p}", "a rating is a verdict"),
        ("name: x\nkind: pairwise", "en or zh"),
        ("- a list", "no rubric"),
        ("name: [", "no rubric"),
    ],
)
def test_a_broken_rubric_is_refused_with_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(LuhuoError) as error:
        read_rubrics(str(tmp_path / "r.yaml"), "pairwise")
    assert told in str(error.value)


@needs_data
def test_mt_benchs_prompts_are_chosen_by_category_and_turn() -> None:
    rubrics = read_rubrics(str(FOLDER / "mt_bench/judge_prompts.jsonl"), "pairwise")
    one, two = ("q1",), ("q1", "q2")
    maths = {"category": "math"}
    names = {
        "pair-v2": Shown(one, ("a",), ("b",), (), {"category": "writing"}),
        "pair-v2-multi-turn": Shown(two, ("a", "c"), ("b", "d")),
        "pair-math-v1": Shown(one, ("a",), ("b",), ("r",), maths),
        "pair-math-v1-multi-turn": Shown(two, ("a", "c"), ("b", "d"), ("r1", "r2"), maths),
    }
    for name, shown in names.items():
        rubric = rubrics.of("pairwise", shown)
        text = rubric.messages(shown)[-1]["content"]
        assert rubric.name == name and all(part in text for part in (*shown.questions, *shown.first, *shown.second))
        assert all(part in text for part in shown.reference) and "{" not in text
        assert rubrics.of("single", shown).name == name.replace("pair-v2", "single-v1").replace("pair", "single")
    # a category with a reference needs one: without it, it is judged like any other
    assert rubrics.of("pairwise", Shown(one, ("a",), ("b",), (), maths)).name == "pair-v2"


# Both orders


def test_a_side_wins_that_wins_in_both_orders_and_all_else_is_a_tie() -> None:
    pairs = [pair("good", "bad"), pair("bad", "good"), pair("same", "same")]
    with server(prefers("good")) as (config, asked), open_judge(spoken(config), "pairwise", Calls(None)) as judge:
        found = judge_pairs(judge, pairs)
    assert [one.outcome for one in found] == ["a", "b", "tie"]
    assert [one.consistent for one in found] == [True, True, False]
    told = standing(found)
    assert (told["wins"], told["ties"], told["losses"], told["win_rate"]) == (1, 1, 1, 0.5)
    assert sorted(shown_first(messages[-1]["content"]) for messages in asked) == ["bad", "good", "same"]


def test_a_judge_that_favours_a_place_wins_nobody_anything_and_is_found_out() -> None:
    with server(lambda _: "[[A]]") as (config, _), open_judge(spoken(config), "pairwise", Calls(None)) as judge:
        found = judge_pairs(judge, [pair(f"a{i}", f"b{i}") for i in range(8)])
    bias = position_bias(found)
    assert {one.outcome for one in found} == {"tie"}
    assert bias.first == 1.0 and bias.consistent == 0.0 and bias.low > 0.75


def test_nonsense_is_counted_by_its_name_and_never_scored() -> None:
    replies = {"p": "[[A]]", "q": "I like both!", "r": "[[A]] or [[B]]", "s": ""}
    with (
        server(lambda messages: replies[re.findall(r"Why (\w)", messages[-1]["content"])[0]]) as (config, _),
        open_judge(spoken(config), "pairwise", Calls(None)) as judge,
    ):
        found = judge_pairs(judge, [pair("x", "y", f"Why {name}?", name) for name in replies])
    told = standing(found)
    assert told["n"] == 1 and told["unjudged"] == 3 and told["reasons"] == {"ambiguous": 1, "nonsense": 2}
    assert found[1].preference is None and found[1].outcome is None and "I like both!" in found[1].reason


def test_an_answer_that_takes_too_long_is_lost_alone_and_asked_for_again() -> None:
    slow = [True]
    says: Says = lambda messages: 1.2 if slow[0] and "slow" in messages[-1]["content"] else "[[A]]"  # noqa: E731
    calls = Calls(None)
    pairs = [pair("x", "y", "quick?", "1"), pair("x", "y", "slow?", "2"), pair("v", "w", "quick?", "3")]
    with server(says) as (config, asked):
        config["responder"]["endpoint"]["seconds"] = 0.4
        with open_judge(spoken(config), "pairwise", calls) as judge:
            found = judge_pairs(judge, pairs)
        assert standing(found)["reasons"] == {"timeout": 1} and "timeout" in found[1].reason
        slow[0], before = False, len(asked)
        with open_judge(spoken(config), "pairwise", calls) as judge:
            again = judge_pairs(judge, pairs)
        assert len(asked) == before + 2 and standing(again)["unjudged"] == 0


def test_a_verdict_is_asked_for_once_whoever_asks_and_its_cost_stays_known(tmp_path: Path) -> None:
    pairs = [pair("good", "bad"), pair("bad", "good", "And?")]
    with server(prefers("good")) as (config, asked):
        priced = config | {"price_in": 10.0, "price_out": 100.0}
        with open_judge(spoken(priced), "pairwise", Calls(tmp_path / "c.db")) as judge:
            first = judge_pairs(judge, pairs)
            cost = judge.cost
        assert (cost.asked, cost.kept, len(asked)) == (4, 0, 4)
        assert cost.prompt_tokens == pytest.approx(400) and cost.tokens == pytest.approx(40)
        assert cost.price == pytest.approx((400 * 10 + 40 * 100) / 1e6)
        renamed = spoken(priced | {"name": "another name"})
        with open_judge(renamed, "pairwise", Calls(tmp_path / "c.db")) as judge:
            assert [one.outcome for one in judge_pairs(judge, pairs)] == [one.outcome for one in first]
            assert (judge.cost.asked, judge.cost.kept) == (0, 4)
            assert judge.cost.price == pytest.approx(cost.price)
        assert len(asked) == 4
        config["responder"]["temperature"] = 0.5  # another way of asking is another verdict
        with open_judge(spoken(config), "pairwise", Calls(tmp_path / "c.db")) as judge:
            judge_pairs(judge, pairs)
        assert len(asked) == 8


def test_a_file_that_is_no_cache_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("something else entirely, longer than a header" * 10)
    with pytest.raises(LuhuoError, match="no judges' verdicts"):
        Calls(tmp_path / "x.db")
    assert (tmp_path / "x.db").read_text().startswith("something else")


def test_letters_are_chosen_by_their_probability_where_the_endpoint_tells_it() -> None:
    def says(messages: list[dict[str, Any]]) -> dict[str, Any]:
        first = shown_first(messages[-1]["content"])
        low, high = (-0.2, -1.7) if first == "good" else (-0.9, -0.5)
        top = [{"token": "A", "logprob": low}, {"token": "B", "logprob": high}]
        place = {"token": "A", "logprob": low, "top_logprobs": top}
        return {"message": {"content": "A"}, "finish_reason": "stop", "logprobs": {"content": [place]}}

    with server(says) as (config, _), open_judge(JudgeConfig.parse(config), "pairwise", Calls(None)) as judge:
        (found,) = judge_pairs(judge, [pair("good", "bad")])
        (unsure,) = judge_pairs(judge, [pair("good", "bad", "And?")], tie=0.4)
    assert found.plain.value == pytest.approx(0.8176, abs=1e-3) and found.outcome == "a"
    assert found.swapped.value == pytest.approx(0.5987, abs=1e-3)
    assert unsure.outcome == "tie"


# The other judges


def test_rules_judge_by_length_place_and_words() -> None:
    shown = Shown(("what is water",), ("water is wet",), ("nothing at all, really",))
    expected = {"longer": "b", "shorter": "a", "first": "tie", "overlap": "a"}
    for rule, outcome in expected.items():
        with open_judge(JudgeConfig.parse({"rule": rule}), "pairwise", Calls(None)) as judge:
            assert judge_pairs(judge, [Pair("q", "x", "y", shown)])[0].outcome == outcome, rule


def test_a_reward_model_judges_by_its_scores_whatever_the_order(tmp_path: Path) -> None:
    from luhuo.align.reward_files import save_reward_model
    from luhuo.align.reward_model import with_head

    save_reward_model(with_head(small_model(), 3), tmp_path / "rm")
    config = JudgeConfig.parse({"reward_model": str(tmp_path / "rm")})
    pairs = [pair("yes", "no"), pair("no", "yes"), pair("yes", "yes")]
    with open_judge(config, "pairwise", Calls(None)) as judge:
        found = judge_pairs(judge, pairs)
    assert [one.outcome for one in found] in (["a", "b", "tie"], ["b", "a", "tie"])
    assert found[0].preference == pytest.approx(1 - (found[1].preference or 0))
    with open_judge(config, "single", Calls(None)) as judge:
        assert len({one.value for one in judge.say([pair("yes", "").shown, pair("no", "").shown])}) == 2
    with pytest.raises(LuhuoError, match="this kind of judgement"), open_judge(config, "label", Calls(None)):
        pass


def test_a_local_model_judges_by_letters_and_what_is_too_long_for_it_is_named(tmp_path: Path) -> None:
    save(small_model(max_positions=1024), tmp_path / "model")
    config = JudgeConfig.parse({"responder": {"model": str(tmp_path / "model"), "dtype": "fp32"}, "name": "small"})
    pairs = [pair("yes", "no"), pair("long " * 2000, "no")]
    with open_judge(config, "pairwise", Calls(None)) as judge:
        found = judge_pairs(judge, pairs)
        assert judge.cost.prompt_tokens > 100
    assert found[0].preference is not None and 0 < found[0].preference < 1
    assert standing(found)["reasons"] == {"too_long": 1}
