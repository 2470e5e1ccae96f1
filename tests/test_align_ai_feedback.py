"""AI feedback: critique and revision, judgements in both orders, comparisons by who answered; all of it resumable."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.align.ai_feedback.constitution import BUNDLED, LABELS, comparison, language_asked, read_constitution
from luhuo.align.ai_feedback.labels import Tally
from luhuo.align.ai_feedback.responders import NoReply, Question, Reply, chosen, opened
from luhuo.align.ledger import Ledger
from luhuo.core.artifact import Done, Workspace, produce
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.layouts import read_conversations
from luhuo.dialogue.preferences import read_preferences
from luhuo.model.save import save
from luhuo.stages import configured
from tests.chat_endpoint import Messages, Says, chat_endpoint
from tests.small_chat import small_model


@contextmanager
def server(says: Says) -> Iterator[tuple[dict[str, Any], list[Messages]]]:
    """A model behind an endpoint: (the configuration that names it, what it was asked)."""
    with chat_endpoint(says) as (place, asked):
        yield {"endpoint": place}, asked


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def questions(path: Path, count: int = 5) -> str:
    return write(path, [{"prompt": f"question {i}", "id": i} for i in range(count)])


def run(name: str, target: Path, **values: Any) -> Done:
    return produce(name, configured(name, values), target)


def rows(done: Done, name: str) -> list[dict[str, Any]]:
    return list(Ledger(done.path / f"{name}.jsonl"))


# Principles


def test_every_bundled_principle_is_whole_in_both_languages():
    found = read_constitution(None).principles
    assert len(found) >= 8
    for principle in found:
        assert all((*principle.en.model_dump().values(), *principle.zh.model_dump().values())), principle.id


def test_a_principle_is_used_in_the_language_of_the_question_or_in_the_one_there_is(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("principles: [{id: x, zh: {choice: 哪个更好？}}]", encoding="utf-8")
    own = read_constitution(str(tmp_path / "own.yaml")).draw("choice", random.Random(0))
    asked = [{"role": "user", "content": "hello there"}]
    assert "哪个更好？" in comparison(asked, "{a}", "{b}", own) and "[Answer A]\n{a}" in comparison(
        asked, "{a}", "b", own
    )
    assert language_asked([{"role": "user", "content": "今天天气怎么样"}]) == "zh"
    with pytest.raises(LuhuoError, match="no principle for this use"):
        read_constitution(str(tmp_path / "own.yaml")).draw("critique", random.Random(0))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "principles: []", "principles: [{id: a, en: {x: y}}]", "a: &a [*a]", "principles: [{id: a}, {id: a}]"],
)
def test_a_file_of_no_principles_is_refused(tmp_path: Path, text: str):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(LuhuoError):
        read_constitution(str(tmp_path / "p.yaml"))


# Asking


def test_instruction_and_examples_stand_before_each_question(tmp_path: Path):
    shots = write(tmp_path / "shots.jsonl", [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]}
        for i in range(3)
    ])  # fmt: skip
    with server(lambda messages: "ok") as (place, asked):
        config = ResponderConfig.parse(place | {"system": "Be good.", "shots": shots, "shot_count": 2})
        with opened(config) as model:
            own = {"role": "system", "content": "Be brief."}
            model.ask([Question([own, {"role": "user", "content": "?"}])])
    assert asked[0][0] == {"role": "system", "content": "Be good.\n\nBe brief."}
    assert [message["content"] for message in asked[0][1:]] == ["q0", "a0", "q1", "a1", "?"]


def test_a_local_model_chooses_by_the_probability_of_each_label(tmp_path: Path):
    model = small_model()
    save(model, tmp_path / "model")
    asked = [[{"role": "user", "content": "A or B?"}], [{"role": "user", "content": "x" * 400}]]
    with opened(ResponderConfig.parse({"model": str(tmp_path / "model"), "device": "cpu"})) as responder:
        found, too_long = responder.choose(asked, LABELS)
        reply = responder.ask([Question(asked[0], max_tokens=3), Question(asked[1])])
    assert isinstance(found, dict) and sum(found.values()) == pytest.approx(1)
    from luhuo.inference.engine import Engine

    engine = Engine(model)
    from luhuo.dialogue.conversation import Conversation

    ids = engine.prompt_ids(Conversation.of(asked[0]))
    with torch.no_grad():
        scores = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
    a, b = (float(scores[engine.tokenizer.encode(label)[0]]) for label in LABELS)
    assert found["A"] == pytest.approx(1 / (1 + math.exp(b - a)), abs=1e-4)
    assert isinstance(too_long, NoReply) and "too_long" in too_long.reason
    assert isinstance(reply[0], Reply) and isinstance(reply[1], NoReply)


def test_labels_are_read_from_the_likeliest_tokens_or_from_the_text():
    places = [{"The": -0.1}, {" A": math.log(0.6), "B": math.log(0.2), "(A": math.log(0.2)}]
    assert chosen(Reply("The A", True, places), LABELS) == pytest.approx({"A": 0.8, "B": 0.2})
    assert chosen(Reply("<think>A? B?</think>(B)", True), LABELS) == {"A": 0.0, "B": 1.0}
    for text in ("", "Both", "A or B", "ABBA"):
        assert isinstance(chosen(Reply(text, True), LABELS), NoReply)


def test_a_run_in_which_nothing_is_answered_ends_and_says_why():
    with (
        server(lambda messages: 400) as (place, _),
        opened(ResponderConfig.parse(place)) as model,
        pytest.raises(RunFailed, match="refused"),
    ):
        model.ask([Question([{"role": "user", "content": "?"}])] * 20)


# Constitutional AI


def improving(messages: list[dict[str, Any]]) -> Any:
    """First answers "bad"; criticised by name of the round; each revision is better by one."""
    last = messages[-1]["content"]
    if last.startswith("Look at") or last.startswith("请审视"):
        return f"critique of {messages[-2]['content']}"
    if last.startswith("Now write") or last.startswith("请重写"):
        return f"better than {messages[-4]['content']}" if "2" not in messages[0]["content"] else ""
    return {"question 0": ("cut", "length"), "question 1": "<think>hm</think>bad"}.get(last, "bad")


def test_answers_are_criticised_and_revised_and_become_conversations_and_pairs(tmp_path: Path):
    prompts = questions(tmp_path / "prompts.jsonl")
    with server(improving) as (place, _):
        done = run("constitutional", tmp_path / "out", prompts=prompts, responder=place, rounds=2, together=2)
    assert done.manifest["metrics"]["conversations"] == done.manifest["metrics"]["pairs"] == 3
    failed = {row["id"]: row["reason"] for row in rows(done, "failed")}
    assert failed[0].startswith("answer_cut_off") and failed[2] == "revision_empty" and len(failed) == 2
    assert done.manifest["metrics"]["failed.revision_empty"] == 1
    pair = rows(done, "pairs")[0]
    assert pair["id"] == 1 and pair["rejected"] == "bad"
    assert pair["chosen"] == "better than better than bad"
    assert len(pair["provenance"]["principles"]) == 2 and pair["provenance"]["responder"] == "m"
    chain = rows(done, "chains")[1]["rounds"]
    assert [one["critique"] for one in chain] == ["critique of bad", "critique of better than bad"]
    assert len(list(read_preferences(done.path / "pairs.jsonl")[1])) == 3
    [first, *_] = read_conversations(done.path / "conversations.jsonl")[1]
    assert first.messages[-1].content == pair["chosen"] and first.messages[-1].is_target
    principles = {one.id for one in read_constitution(None).principles}
    assert {one["principle"] for row in rows(done, "chains") for one in row["rounds"]} <= principles


def test_chinese_is_criticised_in_chinese_and_an_unchanged_answer_makes_no_pair(tmp_path: Path):
    prompts = write(tmp_path / "p.jsonl", [{"prompt": "今天天气怎么样"}, {"prompt": "hello there"}])

    def says(messages: list[dict[str, Any]]) -> str:
        return "same" if "hello" in messages[0]["content"] else str(len(messages))

    with server(says) as (place, asked):
        done = run("constitutional", tmp_path / "out", prompts=prompts, responder=place, rounds=1)
    assert any(messages[-1]["content"].startswith("请审视") for messages in asked)
    assert len(rows(done, "pairs")) == 1 and len(rows(done, "conversations")) == 2
    assert done.manifest["metrics"]["failed.unchanged"] == 1


def test_what_was_revised_before_a_kill_is_not_asked_for_again(tmp_path: Path):
    prompts = questions(tmp_path / "prompts.jsonl", 6)
    with server(improving) as (place, asked):
        stage = configured("constitutional", {"prompts": prompts, "responder": place, "rounds": 1, "together": 2})
        whole = produce("constitutional", stage, tmp_path / "whole")
        (tmp_path / "cut").mkdir()
        lines = (whole.path / "chains.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "cut" / "chains.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
        asked.clear()
        stage.run(Workspace(tmp_path / "cut", MetricsLog(tmp_path / "cut" / "metrics.jsonl")))
    assert {messages[0]["content"] for messages in asked} == {"question 4", "question 5"}
    for name in ("chains", "pairs", "conversations", "failed"):
        assert (tmp_path / "cut" / f"{name}.jsonl").read_text() == (whole.path / f"{name}.jsonl").read_text()


def test_a_local_model_revises_itself(tmp_path: Path):
    save(small_model(max_positions=1024), tmp_path / "model")
    prompts = questions(tmp_path / "prompts.jsonl", 4)
    model = {"model": str(tmp_path / "model"), "max_tokens": 4, "device": "cpu"}
    stage = configured("constitutional", {"prompts": prompts, "responder": model, "rounds": 1, "threads": 1})
    (tmp_path / "out").mkdir()
    try:
        stage.run(Workspace(tmp_path / "out", MetricsLog(tmp_path / "out" / "metrics.jsonl")))
    except RunFailed as error:  # random text may never end by itself: then nothing is kept, and that is said
        assert "cut_off" in str(error)
    assert Ledger(tmp_path / "out" / "chains.jsonl").count == 4


# Judging


def preferring(good: str, favour: float = 0.0) -> Says:
    """A judge who finds answers with `good` in them better, and favours the first by so much."""

    def says(messages: list[dict[str, Any]]) -> dict[str, Any]:
        text = messages[0]["content"]
        a, b = (good in part for part in text.split("[Answer A]")[1].split("[Answer B]"))
        p = min(0.99, max(0.01, 0.5 + 0.3 * (a - b) + favour))
        places = [{"token": "A", "logprob": math.log(p), "top_logprobs": [
            {"token": "A", "logprob": math.log(p)}, {"token": "B", "logprob": math.log(1 - p)},
        ]}]  # fmt: skip
        return {
            "message": {"content": "A" if p > 0.5 else "B"},
            "logprobs": {"content": places},
            "finish_reason": "stop",
        }

    return says


def pair(chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": "which?", "chosen": chosen, "rejected": rejected}


def test_pairs_are_judged_in_both_orders_and_the_favour_of_a_place_cancels(tmp_path: Path):
    data = write(tmp_path / "d.jsonl", [pair("good", "bad"), pair("bad", "good one"), pair("bad", "worse")])
    with server(preferring("good", favour=0.1)) as (place, asked):
        done = run("ai-feedback", tmp_path / "out", data=data, judge=place)
    assert len(asked) == 6
    first, second = rows(done, "pairs")
    assert first["chosen"] == "good" and second["chosen"] == "good one"
    assert first["probability"] == pytest.approx(0.8) and second["probability"] == pytest.approx(0.8)
    assert len(rows(done, "ties")) == 1
    metrics = done.manifest["metrics"]
    assert metrics["position_bias"] == pytest.approx(0.1) and metrics["flipped"] == pytest.approx(1 / 3)
    assert metrics["agreement"] == 0.5 and metrics["agreement.low"] < 0.5 < metrics["agreement.high"]
    assert first["provenance"]["judge"] == "m"
    assert len(list(read_preferences(done.path / "pairs.jsonl")[1])) == 2


def test_answers_of_one_prompt_are_compared_two_by_two(tmp_path: Path):
    answers = [{"text": "good", "score": 1}, {"text": "bad"}, {"text": "bad"}, {"text": "good too"}]
    data = write(tmp_path / "d.jsonl", [{"prompt": [{"role": "user", "content": "?"}], "answers": answers}])
    with server(preferring("good")) as (place, _):
        done = run("ai-feedback", tmp_path / "out", data=data, judge=place)
    assert [(row["chosen"], row["rejected"]) for row in rows(done, "pairs")] == [("good", "bad"), ("good too", "bad")]
    assert "agreement" not in done.manifest["metrics"]


def test_a_judge_may_compare_in_words_first(tmp_path: Path):
    data = write(tmp_path / "d.jsonl", [pair("good", "bad")])

    def says(messages: list[dict[str, Any]]) -> Any:
        return preferring("good")(messages) if len(messages) == 3 else "the one is good"

    with server(says) as (place, asked):
        done = run("ai-feedback", tmp_path / "out", data=data, judge=place, reasoning=True)
    assert len(asked) == 4 and asked[-1][1] == {"role": "assistant", "content": "the one is good"}
    assert asked[-1][2]["content"] == "Reply with one letter only: A or B."
    assert rows(done, "pairs")[0]["chosen"] == "good"


def test_what_cannot_be_judged_or_read_is_kept_with_the_reason(tmp_path: Path):
    data = write(tmp_path / "d.jsonl", [pair("good", "bad"), {"prompt": "?"}, pair("odd", "bad")])

    def says(messages: list[dict[str, Any]]) -> Any:
        return "I cannot say" if "odd" in messages[0]["content"] else preferring("good")(messages)

    with server(says) as (place, _):
        done = run("ai-feedback", tmp_path / "out", data=data, judge=place)
    assert done.manifest["metrics"]["pairs"] == 1 and done.manifest["metrics"]["failed"] == 2
    assert done.manifest["metrics"]["failed.no_label"] == 1
    assert {row.get("line") for row in rows(done, "failed")} == {2, None}


def test_a_judge_without_opinion_is_told_apart_from_one_that_flips():
    tally = Tally()
    for orders in ([0.5, 0.5], [0.9, 0.1], [0.9, 0.9]):
        tally.add({"orders": orders, "probability": sum(orders) / 2, "labelled": True})
    assert tally.results()["flipped"] == pytest.approx(1 / 3)
    assert tally.results()["position_bias"] == pytest.approx((0.5 + 0.9 + 0.5) / 3 - 0.5)
    assert tally.results()["agreement"] == 1.0


# Comparisons by assumption


def by_system(messages: list[dict[str, Any]]) -> Any:
    """The good instruction gives long answers, the middle one shorter ones, the bad one a few words."""
    kind = messages[0]["content"] if messages[0]["role"] == "system" else "bad"
    number = int(messages[-1]["content"].split()[-1])
    if kind == "good":
        return {
            1: "As an AI I will not",
            2: "word " * 12,
            3: ("a b c d e f g h", "length"),
            4: "你好世界你好啊朋友们",
        }.get(number, "one two three four five six seven eight")
    return "one two three four five six" if kind == "middle" else "one two"


def responders(place: dict[str, Any]) -> list[dict[str, Any]]:
    return [place | {"system": kind, "name": kind} for kind in ("good", "middle")] + [place | {"name": "bad"}]


def test_better_models_answers_are_preferred_where_no_filter_doubts_it(tmp_path: Path):
    prompts = questions(tmp_path / "prompts.jsonl", 5)
    with server(by_system) as (place, asked):
        done = run("synthetic-comparisons", tmp_path / "out", prompts=prompts, responders=responders(place))
    pairs = rows(done, "pairs")
    assert all(row["provenance"]["ranks"][0] < row["provenance"]["ranks"][1] for row in pairs)
    whole = [row for row in pairs if row["id"] == 0]
    assert [(row["provenance"]["chosen"], row["provenance"]["rejected"]) for row in whole] == [
        ("good", "middle"), ("good", "bad"), ("middle", "bad"),
    ]  # fmt: skip
    reasons = {(row["id"], row["reason"]) for row in rows(done, "failed")}
    assert {(1, "phrase"), (2, "repeated"), (3, "cut_off"), (4, "other_language")} <= reasons
    [ranked] = [row for row in rows(done, "ranked") if row["id"] == 0]
    assert ranked["ranks"] == [1, 2, 3] and ranked["answers"][2] == "one two"
    assert done.manifest["metrics"]["words.3"] == 2
    assert len(asked) == 15
    assert len(list(read_preferences(done.path / "pairs.jsonl")[1])) == len(pairs)


def test_short_better_answers_are_doubted_and_a_reward_can_doubt_any(tmp_path: Path):
    prompts = questions(tmp_path / "prompts.jsonl", 1)
    with server(by_system) as (place, _):
        swapped = responders(place)[::-1]
        with pytest.raises(RunFailed, match="short 1"):
            run("synthetic-comparisons", tmp_path / "a", prompts=prompts, responders=swapped, pairs="ends")
        few = {"longer": False, "rewards": [{"kind": "length", "low": 8, "high": 9, "unit": "words"}]}
        values = {"prompts": prompts, "responders": responders(place), "filters": few, "pairs": "ends"}
        done = run("synthetic-comparisons", tmp_path / "b", **values)
        assert len(rows(done, "pairs")) == 1 and not rows(done, "ranked")
        with pytest.raises(RunFailed, match="reward 1"):
            run("synthetic-comparisons", tmp_path / "c", **values | {"responders": swapped})


def test_models_that_answered_before_a_kill_are_not_asked_again(tmp_path: Path):
    prompts = questions(tmp_path / "prompts.jsonl", 4)
    with server(by_system) as (place, asked):
        values = {"prompts": prompts, "responders": responders(place), "together": 1}
        stage = configured("synthetic-comparisons", values)
        whole = produce("synthetic-comparisons", stage, tmp_path / "whole")
        (tmp_path / "cut").mkdir()
        for name, count in (("answers-1", 4), ("answers-2", 2)):
            lines = (whole.path / f"{name}.jsonl").read_text().splitlines(keepends=True)
            (tmp_path / "cut" / f"{name}.jsonl").write_text("".join(lines[:count]))
        asked.clear()
        stage.run(Workspace(tmp_path / "cut", MetricsLog(tmp_path / "cut" / "metrics.jsonl")))
    assert len(asked) == 6
    for name in ("pairs", "ranked", "failed"):
        assert (tmp_path / "cut" / f"{name}.jsonl").read_text() == (whole.path / f"{name}.jsonl").read_text()


def test_a_responder_is_a_model_or_an_endpoint():
    with pytest.raises(LuhuoError, match="either model or endpoint"):
        ResponderConfig.parse({})
    assert BUNDLED.is_file()
