"""Rewards of a stage: their configuration, their sum, what cannot be scored, and what is told."""

from __future__ import annotations

import pytest

from luhuo.align.rewards import CompletionInfo, Rewards, parse_rewards
from luhuo.core.errors import LuhuoError, RunFailed

ITEM = {"messages": [{"role": "user", "content": "3加4等于几？"}], "answer": "七", "value": 7}


def test_the_total_is_the_weighted_sum_of_the_rewards() -> None:
    rewards = Rewards(
        parse_rewards(
            [
                {"kind": "exact", "weight": 2.0},
                {"kind": "format", "tags": ["think", "answer"], "weight": 0.5},
                {"kind": "overlong", "limit": 10, "margin": 4},
            ]
        )
    )
    good = "<think>三加四</think><answer>七</answer>"
    scores = rewards.score_all([ITEM, ITEM], [good, "八"], [CompletionInfo(8), CompletionInfo(2)])
    assert scores.totals == [2.0 + 0.5 - 0.5, 0.0]
    assert scores.components == {"exact": [1.0, 0.0], "format": [1.0, 0.0], "overlong": [-0.5, 0.0]}


def test_a_reward_of_exactly_zero_is_a_reward() -> None:
    assert Rewards(parse_rewards([{"kind": "exact"}])).score(ITEM, "八") == 0.0


def test_a_reward_that_does_not_apply_is_none_and_not_zero() -> None:
    rewards = Rewards(parse_rewards([{"kind": "exact", "key": "gold"}]))
    assert rewards.score(ITEM, "七") is None


def test_rewards_that_never_apply_stop_the_run_and_name_the_keys_there_are() -> None:
    rewards = Rewards(parse_rewards([{"kind": "exact", "key": "gold"}]))
    with pytest.raises(RunFailed, match="No reward applies") as caught:
        rewards.score_all([ITEM] * 8, ["七"] * 8)
    assert "answer" in str(caught.value)


def test_strict_and_lenient_readings_are_both_logged_and_one_counts() -> None:
    text = "我想是七吧，也可能不是"
    for extraction, total in (("strict", 0.0), ("lenient", 1.0)):
        scores = Rewards(parse_rewards([{"kind": "exact", "extraction": extraction}])).score_all([ITEM], [text])
        assert scores.totals == [total]
        assert scores.metrics()["reward.exact.strict"] == 0.0
        assert scores.metrics()["reward.exact.lenient"] == 1.0


def test_unknown_kinds_and_two_rewards_of_one_name_are_refused() -> None:
    with pytest.raises(LuhuoError, match="not valid"):
        parse_rewards([{"kind": "exakt"}])
    with pytest.raises(LuhuoError, match="same name"):
        Rewards(parse_rewards([{"kind": "exact"}, {"kind": "exact"}]))
