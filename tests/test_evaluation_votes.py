"""Votes of the public arenas are read and cleaned, and agreement is measured as the textbooks do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.agreement import cohen_kappa, fleiss_kappa, interval, krippendorff_alpha, majority
from luhuo.evaluation.votes import Cleaning, read_votes

DATA = os.environ.get("LUHUO_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LUHUO_TEST_DATA names no folder of benchmark data")


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def published(**changed: Any) -> dict[str, Any]:
    row = {"question_id": "1", "model_a": "m1", "model_b": "m2", "winner": "model_a", "judge": "j", "turn": 1}
    row |= {"anony": True, "language": "English", "tstamp": 2.0}
    row |= {"conversation_a": conversation("Hi?", "Hello."), "conversation_b": conversation("Hi?", "Good day.")}
    return row | changed


def written(folder: Path, rows: list[dict[str, Any]], name: str = "votes.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_published_table_is_read_in_order_of_time_with_all_four_verdicts(tmp_path: Path) -> None:
    kinds = ["model_b", "tie", "tie (bothbad)", "model_a"]
    rows = [published(winner=kind, tstamp=10 - i, judge=str(i)) for i, kind in enumerate(kinds)]
    votes, told = read_votes(written(tmp_path, rows))
    assert [vote.winner for vote in votes] == ["a", "bad", "tie", "b"] and told == {"kept": 4}
    assert votes[0].answers == (("Hello.",), ("Good day.",)) and votes[0].language == "English"


def test_votes_are_cleaned_by_the_published_rules_and_each_loss_is_named(tmp_path: Path) -> None:
    rows = [
        published(),
        published(),  # the same person, models and question again
        published(conversation_a=conversation("Who are you?", "I am ChatGPT.")),
        published(conversation_b=conversation("你是谁？", "我是通义千问。"), judge="k"),
        published(anony=False, judge="l"),
        published(model_b="m1", judge="m"),
        published(winner="none of these"),
        published(judge="bot"),
    ]
    votes, told = read_votes(written(tmp_path, rows), Cleaning(banned_judges=frozenset({"bot"})))
    assert len(votes) == 1
    assert told == {"kept": 1, "repeated": 1, "identity": 2, "named": 1, "one_model": 1, "unknown": 1, "banned": 1}
    everything, _ = read_votes(
        tmp_path / "votes.jsonl", Cleaning(identity=False, anonymous_only=False, repeated=False)
    )
    assert len(everything) == 6
    _, told = read_votes(tmp_path / "votes.jsonl", Cleaning(repeated=False, per_judge=1, identity=False))
    assert told["too_many"] == 2


def test_the_raw_log_of_a_server_is_read(tmp_path: Path) -> None:
    def state(name: str, answer: str) -> dict[str, Any]:
        return {"model_name": name, "messages": [["Human", "Hi?"], ["Assistant", answer]]}

    rows = [
        {
            "type": "leftvote",
            "models": ["", ""],
            "states": [state("m1", "x"), state("m2", "y")],
            "ip": "1",
            "tstamp": 1,
        },
        {"type": "chat", "states": [state("m1", "x"), state("m2", "y")]},
        {"type": "bothbad_vote", "models": ["m1", "m2"], "states": [state("m1", "x"), state("m2", "y")], "ip": "2"},
    ]
    votes, told = read_votes(written(tmp_path, rows))
    assert [(vote.model_a, vote.winner, vote.answers[1]) for vote in votes] == [("m1", "a", ("y",))]
    assert told == {"kept": 1, "unknown": 1, "named": 1}


def test_the_style_of_published_metadata_is_taken_where_answers_are_not_there(tmp_path: Path) -> None:
    told = {"sum_assistant_a_tokens": 9, "sum_assistant_b_tokens": 4}
    for side, bold in (("a", 2), ("b", 0)):
        told |= {f"header_count_{side}": {"h1": 1, "h2": 2}, f"list_count_{side}": {"ordered": 0, "unordered": 3}}
        told |= {f"bold_count_{side}": {"**": bold, "__": 0}}
    row = {"model_a": "x", "model_b": "y", "winner": "tie", "conv_metadata": told}
    (vote,), _ = read_votes(written(tmp_path, [row]))
    assert vote.style == {"length": (9, 4), "headers": (3, 3), "lists": (3, 3), "bold": (2, 0)}


def test_a_file_without_votes_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="This is no vote") as error:
        read_votes(written(tmp_path, [{"text": "x"}]))
    assert error.value.found == "text"
    with pytest.raises(LuhuoError, match="No vote of this file counts"):
        read_votes(written(tmp_path, [published(winner="?")]))
    with pytest.raises(LuhuoError, match="no such file"):
        read_votes(tmp_path / "nowhere.jsonl")


# Agreement


def test_kappa_of_the_textbook_is_found() -> None:
    cohen = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohen_kappa(cohen) == pytest.approx(0.4)
    assert cohen_kappa([("a", "a")] * 3) is None and cohen_kappa([]) is None
    # Fleiss 1971, table 1, is 30 patients; this is the worked example with 10 subjects and 14 raters.
    table = [
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
    items = [[label for label, number in enumerate(row) for _ in range(number)] for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.2099, abs=1e-4)
    with pytest.raises(LuhuoError, match="same number of raters"):
        fleiss_kappa([["a", "b"], ["a"]])


def test_krippendorffs_alpha_of_his_own_example_is_found() -> None:
    """Krippendorff 2011, section C and D: four observers, twelve units, values missing."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in unit if value is not None] for unit in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(units, "interval") == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha([[1.0], [2.0]]) is None and krippendorff_alpha([[1, 1], [1, 1]]) is None


def test_an_interval_of_agreement_holds_its_value_and_a_majority_needs_one() -> None:
    chance = np.random.default_rng(0)
    pairs = [(int(x), int(x) if chance.random() < 0.7 else 1 - int(x)) for x in chance.integers(0, 2, 300)]
    found = interval(pairs, cohen_kappa)
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low < found.value < found.high and found.n == 300
    assert majority([1, 1, 2]) == 1 and majority([1, 2]) is None and majority([]) is None
