"""What a reward model learns from: every layout of judgements, as token ids that stand together in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luhuo.align.reward_data import RewardLoader, assemble, read_reward_data
from luhuo.core.errors import LuhuoError
from tests.reward_cases import read
from tests.small_chat import small_tokenizer


def test_texts_end_with_the_end_of_the_turn_and_pairs_share_a_row(tmp_path: Path) -> None:
    data = read(
        tmp_path, [{"prompt": "你好", "chosen": "hello", "rejected": "苹果苹果", "margin": 0.5, "defect": "x"}]
    )
    (item,) = data.items
    end = small_tokenizer().end_of_turn_id
    assert [ids[-1] for ids in item.ids] == [end, end]
    assert [
        small_tokenizer().decode(ids[len(ids) - n : -1]) for ids, n in zip(item.ids, item.answers, strict=True)
    ] == [
        "hello",
        "苹果苹果",
    ]
    batch = assemble([[item, item]], "pairwise", 200, 1)
    assert batch["better"].tolist() == [[1, 3]] and batch["worse"].tolist() == [[2, 4]]
    assert batch["margin"].tolist() == [[0.5, 0.5]] and item.meta == {"defect": "x"}


def test_whole_conversations_without_a_prompt_are_cut_where_they_part(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "hello"}]
    row = {name: [*asked, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    same_row = {"prompt": "hello", "chosen": "chosen", "rejected": "rejected"}
    assert read(tmp_path, [row]).items == read(tmp_path, [same_row]).items


def test_ties_are_no_pairs_and_a_ranking_of_ties_alone_is_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "answers": ["x", "y", "z"], "ranks": [1, 1, 2]},
        {"prompt": "b", "answers": ["x", "y"], "ranks": [1, 1]},
    ]
    data = read(tmp_path, rows)
    assert [item.pairs for item in data.items] == [((0, 2, 0.0), (1, 2, 0.0))]
    assert data.counts["all_tied"] == 1


def test_steps_end_where_their_text_does(tmp_path: Path) -> None:
    steps = ["1 + 1 = 2。", "hello world", "所以是2"]
    data = read(tmp_path, [{"prompt": "q", "completions": steps, "labels": [True, False, True]}])
    (item,) = data.items
    start = len(item.ids[0]) - item.answers[0]
    told = [small_tokenizer().decode(item.ids[0][start : place + 1]) for place in item.steps]
    assert told == ["1 + 1 = 2。\n", "1 + 1 = 2。\nhello world\n", "1 + 1 = 2。\nhello world\n所以是2<|im_end|>"]


def test_rows_that_cannot_be_used_are_named_and_none_is_an_error(tmp_path: Path) -> None:
    wrong: list[Any] = []
    rows = [
        {"prompt": "a", "chosen": "x", "rejected": "x"},
        {"prompt": "a", "chosen": "x", "rejected": 3},
        {"prompt": "a", "chosen": "x", "rejected": "y" * 400},
        {"prompt": "a", "chosen": "x", "rejected": "y"},
        {"prompt": "a"},
    ]
    data = read(tmp_path, rows, wrong=wrong)
    assert dict(data.counts) == {"read": 5, "used": 1, "broken": 3, "too_long": 1}
    assert [row.line for row in wrong] == [1, 2, 5]
    with pytest.raises(LuhuoError, match="nothing to learn"):
        read(tmp_path, rows[:2])
    with pytest.raises(LuhuoError, match="known layout"):
        read(tmp_path, [{"text": "a"}])


def test_any_layout_of_judgements_is_learned_the_same_way(tmp_path: Path) -> None:
    answers = [{"role": "assistant", "content": text} for text in ("good", "bad")]
    asked = [{"role": "user", "content": "hello"}]
    same = [
        {"prompt": "hello", "chosen": "good", "rejected": "bad"},
        {"input": {"messages": asked}, "preferred_output": answers[:1], "non_preferred_output": answers[1:]},
        {"chosen": "Human: hello\n\nAssistant: good", "rejected": "Human: hello\n\nAssistant: bad"},
        {"prompt": "hello", "chosen": "good", "rejected": "bad", "score_chosen": 9.0, "score_rejected": 1.0},
        {"prompt": "hello", "answers": ["good", "bad"], "ranks": [1, 2]},
    ]
    assert [read(tmp_path, [row]).items for row in same] == [read(tmp_path, same[:1]).items] * 5
    judged = {"messages": [*asked, answers[0]], "label": 1.0}
    single = {"prompt": "hello", "completion": "good", "label": True}
    assert read(tmp_path, [judged]).items == read(tmp_path, [single]).items
    table = tmp_path / "data.csv"
    table.write_text("prompt,chosen,rejected,margin\nhello,good,bad,0.5\n", encoding="utf-8")
    data = read_reward_data([table], small_tokenizer(), 255, pytest.fail)
    assert data.items == read(tmp_path, [same[0] | {"margin": 0.5}]).items and data.items[0].pairs == ((0, 1, 0.5),)


@pytest.mark.parametrize(
    "bad",
    [
        {"prompt": "q", "answers": ["a", "b"], "ranks": [1]},
        {"prompt": "q", "answers": ["a"], "ranks": [1]},
        {"prompt": "q", "answers": ["a", "b"], "ranks": [1, "first"]},
        {"prompt": "q", "answers": ["a"] * 17, "ranks": [1] * 17},
        {"prompt": "q", "completion": "a", "score": float("nan")},
        {"prompt": "q", "completion": "a", "score": "much"},
    ],
)
def test_a_ranking_or_score_that_says_nothing_is_named(bad: dict[str, Any], tmp_path: Path) -> None:
    wrong: list[Any] = []
    good = {"answers": ["a", "b"], "ranks": [1, 2]} if "answers" in bad else {"completion": "a", "score": 1}
    data = read(tmp_path, [bad, {"prompt": "q"} | good], wrong=wrong)
    assert dict(data.counts) == {"read": 2, "used": 1, "broken": 1} and [row.line for row in wrong] == [1]


def test_a_resumed_loader_goes_on_with_the_same_rows(tmp_path: Path) -> None:
    data = read(tmp_path, [{"prompt": f"{i}", "chosen": "x" * i, "rejected": "y"} for i in range(1, 30)])
    options: dict[str, Any] = {"batch": 2, "length": 80, "seed": 5, "pad_id": 1}
    batches, loader = iter(first := RewardLoader(data, **options)), RewardLoader(data, **options)
    for _ in range(7):
        next(batches)
    loader.restore(first.state())
    assert all(np.array_equal(a, b) for a, b in zip(next(batches).values(), next(iter(loader)).values(), strict=True))
