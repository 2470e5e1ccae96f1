"""Judges: both orders, what they cannot say, their agreement with people, the cache, and the two stages."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import Done, produce
from luhuo.core.errors import LuhuoError, RequirementMissed, RunFailed
from luhuo.evaluation.judges.calls import Calls
from luhuo.evaluation.judges.config import JudgeConfig
from luhuo.evaluation.judges.human import read_set
from luhuo.evaluation.judges.judge import open_judge
from luhuo.evaluation.judges.pairwise import Pair, judge_pairs, position_bias, standing
from luhuo.evaluation.judges.rubric import read_rubrics
from luhuo.evaluation.judges.rules import refuses
from luhuo.evaluation.judges.validate import recorded, validate
from luhuo.evaluation.judges.verdict import Shown, read_pair, read_rating
from luhuo.model.save import save
from luhuo.stages import configured
from tests.small_chat import small_model

DATA = os.environ.get("LUHUO_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LUHUO_TEST_DATA names no folder of benchmark data")
FOLDER = Path(DATA or "")
Says = Callable[[list[dict[str, Any]]], Any]


@contextmanager
def server(says: Says) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """A judge behind an endpoint that says what a test wants: (its configuration, what it was asked last)."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"][-1]["content"])
            said = says(body["messages"])
            if isinstance(said, float):
                time.sleep(said)
                return
            status, choice = (said, {}) if isinstance(said, int) else (200, said)
            if isinstance(choice, str):
                choice = {"message": {"content": choice}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            data = json.dumps({"choices": [choice], "usage": usage} if status == 200 else {"error": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        place = {"url": f"http://127.0.0.1:{http.server_port}/v1", "model": "m", "tries": 1, "concurrency": 1}
        yield {"name": "asked", "responder": {"endpoint": place}}, asked
    finally:
        http.shutdown()
        http.server_close()


def verdict_rubric() -> str:
    from luhuo.evaluation.judges.rubric import BUNDLED

    return str(BUNDLED / "verdict.yaml")


def spoken(config: dict[str, Any]) -> JudgeConfig:
    """A judge that compares in words."""
    return JudgeConfig.parse(config | {"rubric": verdict_rubric()})


def pair(a: str, b: str, question: str = "Why?", name: str = "q") -> Pair:
    return Pair(name, "x", "y", Shown((question,), (a,), (b,)))


def shown_first(asked: str) -> str:
    found = re.search(r"\[Answer A\]\n(.*?)\n\n\[Answer B\]", asked, re.S)
    assert found
    return found[1]


def prefers(wanted: str) -> Says:
    """A judge who prefers the answer that holds a word."""
    return lambda messages: "[[A]]" if wanted in shown_first(messages[-1]["content"]) else "[[B]]"


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
    assert sorted(map(shown_first, asked)) == ["bad", "good", "same"]


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


# People


@needs_data
def test_judges_whose_verdicts_come_with_a_set_are_measured_too() -> None:
    group = read_set("pandalm", FOLDER / "pandalm")
    assert len(group.items) == 999 and group.form == "pairwise"
    rows = {row["judge"].split()[0]: row for row in recorded(group)}
    assert rows["pandalm-7b"]["accuracy"] == pytest.approx(0.6677, abs=5e-5)
    assert rows["gpt-3.5-turbo"]["accuracy_all"] == pytest.approx(0.6977, abs=5e-4)
    assert rows["pandalm-7b"]["people"]["fleiss"]["value"] > 0.85


@needs_data
def test_a_length_rule_is_no_judge_and_a_list_of_phrases_finds_most_refusals() -> None:
    calls = Calls(None)
    with open_judge(JudgeConfig.parse({"rule": "longer"}), "pairwise", calls) as judge:
        row, said = validate(judge, read_set("pandalm", FOLDER / "pandalm", 300))
    assert 0.1 < row["kappa"]["value"] < 0.5 < row["people"]["fleiss"]["value"]
    assert row["bias"]["first"] == 0.5 and row["bias"]["length"]["judge"] == 1.0 and len(said) == 300
    config = JudgeConfig.parse({"rule": "refusal"})
    with open_judge(config, "label", calls) as judge:
        row, _ = validate(judge, read_set("xstest", FOLDER / "xstest"))
    assert row["accuracy"] > 0.9 and row["kappa"]["low"] > 0.75 and row["items"] == 1350
    for name, folder, count in (("pyrit", "pyrit_scorer_evals", 172), ("gptfuzzer", "gptfuzzer", 1540)):
        group = read_set(name, FOLDER / folder)
        assert len(group.items) > 0.95 * count and all(len(one.labels) == 1 for one in group.items)


def test_rows_of_ones_own_are_read_and_broken_ones_refused(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "answers": ["a", "b"], "labels": [1, 1, 2]},
        {"prompt": "q", "answers": ["a"], "labels": [1]},
    ]
    good = [dict(rows[0], id=number) for number in range(9)]
    found = read_set("mine", write(tmp_path / "good.jsonl", good), 3)
    assert [one.id for one in found.items] == ["0", "3", "6"] and found.items[0].labels == ("a", "a", "b")
    write(tmp_path / "own.jsonl", rows)
    with pytest.raises(LuhuoError, match="no judged answer") as error:
        read_set("mine", tmp_path / "own.jsonl")
    assert "row 2" in str(error.value.where)
    with pytest.raises(LuhuoError, match="not there"):
        read_set("pandalm", tmp_path / "nowhere")
    with pytest.raises(LuhuoError, match="Unknown set"):
        read_set("pandlm", tmp_path)


# The stages


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(name: str, target: Path, **values: Any) -> Done:
    return produce(name, configured(name, values), target)


def read(done: Done, name: str) -> Any:
    return json.loads((done.path / name).read_text(encoding="utf-8"))


def answers(folder: Path, models: dict[str, str], count: int = 6) -> dict[str, str]:
    return {
        model: write(
            folder / f"{model}.jsonl",
            [
                {"id": i, "prompt": f"Q{i}?", "answer": f"{text} {i}", "category": ["maths", "prose"][i % 2]}
                for i in range(count)
            ],
        )
        for model, text in models.items()
    }


def test_the_stage_compares_all_models_by_all_judges_and_says_who_was_validated(tmp_path: Path) -> None:
    files = answers(tmp_path, {"small": "ok", "large": "good and long", "middle": "so so"})
    with server(prefers("good")) as (config, _):
        judges = [{"rule": "longer"}, {"rule": "first"}, config | {"rubric": verdict_rubric()}]
        done = run("judge", tmp_path / "out", answers=files, judges=judges, cache=str(tmp_path / "c.db"))
    found = read(done, "scores.json")
    duels = {tuple(one["models"]): one for one in found["judges"]["longer"]["duels"]}
    assert len(duels) == 3 and duels["small", "large"]["losses"] == 6
    assert set(duels["small", "large"]["categories"]) == {"maths", "prose"}
    assert found["judges"]["first"]["bias"]["first"] == 1.0
    assert found["judges"]["asked"]["validity"] == []
    assert {tuple(one["judges"]) for one in found["between"]} >= {("asked", "longer"), ("asked", "first", "longer")}
    page = (done.path / "report.html").read_text(encoding="utf-8")
    assert "NOT VALIDATED" in page and "small : large" in page and "http" not in page.replace("https://", "")
    rows = [json.loads(line) for line in (done.path / "judged.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3 * 18 and all(row["orders"] for row in rows)


def test_against_a_baseline_rates_at_equal_length_learn_from_the_other_models(tmp_path: Path) -> None:
    files = answers(tmp_path, {"base": "plain words", "wordy": "plain words " * 9, "short": "w"}, 12)
    done = run(
        "judge",
        tmp_path / "out",
        answers=files,
        judges=[{"rule": "longer"}],
        baseline="base",
        cache=str(tmp_path / "c"),
    )
    duels = read(done, "scores.json")["judges"]["longer"]["duels"]
    assert {tuple(one["models"]) for one in duels} == {("wordy", "base"), ("short", "base")}
    assert all(one["length_controlled"]["others"] == 1 for one in duels)
    with pytest.raises(LuhuoError, match="Unknown baseline"):
        run("judge", tmp_path / "bad", answers=files, judges=[{"rule": "longer"}], baseline="bass")


def test_single_answers_are_rated_with_intervals_and_lost_ones_counted(tmp_path: Path) -> None:
    files = answers(tmp_path, {"a": "fine", "b": "odd"})
    says: Says = lambda m: "[[8]]" if "fine" in m[-1]["content"] else "[[3]]" if "odd 1" in m[-1]["content"] else "?"  # noqa: E731
    with server(says) as (config, _):
        done = run("judge", tmp_path / "out", answers=files, judges=[config], kind="single", cache=str(tmp_path / "c"))
    models = read(done, "scores.json")["judges"]["asked"]["models"]
    assert models["a"]["ratings"]["all"]["mean"] == 8.0 and models["a"]["unjudged"] == 0
    assert models["b"]["ratings"]["all"]["n"] == 1 and models["b"]["reasons"] == {"nonsense": 5}
    assert "category maths" in models["a"]["ratings"]


@needs_data
def test_mt_benchs_files_are_judged_turn_by_turn_with_their_references(tmp_path: Path) -> None:
    bench = FOLDER / "mt_bench"
    reference = bench / "reference_answer_gpt-4.jsonl"
    wrong = [
        {"question_id": row["question_id"], "choices": [{"turns": ["No idea.", "No."]}]}
        for row in map(json.loads, reference.read_text(encoding="utf-8").splitlines())
    ]
    files = {"gpt-4": str(reference), "clueless": write(tmp_path / "clueless.jsonl", wrong)}
    said = []

    def says(messages: list[dict[str, Any]]) -> str:
        said.append(messages)
        return "Rating: [[1]]" if "No idea." in messages[-1]["content"] else "Rating: [[9]]"

    with server(says) as (config, _):
        judge = config | {"rubric": str(bench / "judge_prompts.jsonl")}
        given = {"questions": str(bench / "question.jsonl"), "references": str(reference), "limit": 4}
        done = run(
            "judge", tmp_path / "out", answers=files, judges=[judge], kind="single", cache=str(tmp_path / "c"), **given
        )
    models = read(done, "scores.json")["judges"]["asked"]["models"]
    assert models["gpt-4"]["ratings"]["all"]["mean"] == 9.0 and models["clueless"]["ratings"]["turn 2"]["mean"] == 1.0
    assert models["gpt-4"]["n"] == 8 and sum("Reference" in m[-1]["content"] for m in said) == 16


def test_a_judge_below_the_wanted_agreement_does_not_judge(tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.jsonl",
        [
            {
                "prompt": f"q{i}",
                "answers": ["long text", "x"] if i % 2 else ["x", "long text"],
                "labels": [1 + i % 2] * 2,
            }
            for i in range(20)
        ],
    )
    files = answers(tmp_path, {"a": "text", "b": "more text"})
    judges, cache = [{"rule": "longer"}, {"rule": "shorter"}], str(tmp_path / "c.db")
    checked = run(
        "judge-validation", tmp_path / "checked", judges=judges, data=[{"name": "own", "path": own}], cache=cache
    )
    table = {row["judge"]: row for row in read(checked, "validation.json")["table"]}
    assert table["longer"]["kappa"]["value"] == -1.0 and table["shorter"]["kappa"]["value"] == 1.0
    given: dict[str, Any] = {"answers": files, "validation": str(checked.path), "min_kappa": 0.6, "cache": cache}
    done = run("judge", tmp_path / "good", judges=[{"rule": "shorter"}], **given)
    assert read(done, "scores.json")["judges"]["shorter"]["validity"][0]["kappa"]["value"] == 1.0
    for rule in ("longer", "first"):
        with pytest.raises(RequirementMissed, match="agreement with people"):
            run("judge", tmp_path / rule, judges=[{"rule": rule}], **given)


def test_a_server_that_is_gone_takes_no_other_judges_verdicts_with_it(tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", [{"prompt": "q", "answers": ["a", "bb"], "labels": [2, 2]}] * 2)
    gone = {"name": "gone", "responder": {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m", "tries": 1}}}
    data, cache = [{"name": "own", "path": own}], str(tmp_path / "c.db")
    done = run("judge-validation", tmp_path / "out", judges=[gone, {"rule": "longer"}], data=data, cache=cache)
    found = read(done, "validation.json")
    assert [row["judge"] for row in found["table"]] == ["longer"]
    assert "cannot be reached" in found["failed"][0]["reason"] and found["failed"][0]["judge"] == "gone"
    with pytest.raises(LuhuoError, match="No judge could judge any set"):
        run("judge-validation", tmp_path / "none", judges=[gone], data=data, cache=cache)


def test_a_run_that_was_cut_off_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    files, left = answers(tmp_path, {"a": "good", "b": "bad"}, 40), [40]

    def says(messages: list[dict[str, Any]]) -> str | int:
        left[0] -= 1
        return 401 if left[0] < 0 else prefers("good")(messages)  # a key that has expired ends a run

    with server(says) as (config, asked):
        given: dict[str, Any] = {"answers": files, "judges": [config | {"rubric": verdict_rubric()}]}
        with pytest.raises(LuhuoError, match="refuses to answer"):
            run("judge", tmp_path / "out", cache=str(tmp_path / "c.db"), **given)
        left[0], before = 1000, len(asked)
        done = run("judge", tmp_path / "out", cache=str(tmp_path / "c.db"), **given)
        assert len(asked) - before == 80 - 32  # a whole group of 32 verdicts had been kept
    assert read(done, "scores.json")["judges"]["asked"]["duels"][0]["wins"] == 40


def test_a_judge_that_only_ever_fails_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    files = answers(tmp_path, {"a": "x", "b": "y"}, 20)
    with server(lambda _: 400) as (config, _), pytest.raises(RunFailed, match="No question could be answered"):
        run("judge", tmp_path / "out", answers=files, judges=[config], cache=str(tmp_path / "c"))


def test_mistakes_in_what_is_to_be_judged_are_told(tmp_path: Path) -> None:
    files = answers(tmp_path, {"a": "x", "b": "y"})
    rule = [{"rule": "longer"}]
    for values, told in (
        ({"answers": {"a": files["a"]}, "judges": rule}, "needs two models"),
        ({"answers": files, "judges": rule * 2}, "same name"),
        ({"answers": files, "judges": [{"rule": "longer", "reward_model": "x"}]}, "only one|one of rule"),
        ({"answers": {**files, "c": write(tmp_path / "c.jsonl", [{"text": "?"}])}, "judges": rule}, "no known layout"),
        (
            {"answers": {**files, "c": write(tmp_path / "d.jsonl", [{"prompt": "?", "answer": "!"}])}, "judges": rule},
            "in common",
        ),
        ({"answers": files, "judges": rule, "validation": files["a"]}, "no judge-validation"),
    ):
        with pytest.raises(LuhuoError, match=told):
            run("judge", tmp_path / "out", cache=str(tmp_path / "cache.db"), **values)
