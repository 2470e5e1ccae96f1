"""Rewards of a stage: their configuration, their sum, what cannot be scored, and what is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_a_misspelt_kind_or_key_is_answered_with_the_nearest_one_of_that_kind() -> None:
    for config, nearest in (({"kind": "exakt"}, "“exact”"), ({"kind": "overlong", "margn": 1}, "“margin”")):
        with pytest.raises(LuhuoError) as caught:
            parse_rewards([config])
        assert nearest in str(caught.value.fix)


def test_two_failing_rewards_are_each_reported_and_a_weight_of_zero_only_logs() -> None:
    rewards = Rewards(parse_rewards([{"kind": "exact", "weight": 0.0, "name": "seen"}, {"kind": "repetition"}]))
    scores = rewards.score_all([ITEM, ITEM], ["七", "八"])
    assert scores.totals == [0.0, 0.0]
    assert scores.metrics()["reward.seen"] == 0.5


def test_a_configuration_with_rewards_never_imports_torch() -> None:
    code = "import sys, luhuo.align.rewards.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_reward_model_scores_as_it_does_by_itself_in_any_batch(tmp_path: Path) -> None:
    import torch

    from luhuo.align.reward_data import conversation_text
    from luhuo.align.reward_files import save_reward_model
    from luhuo.align.reward_model import with_head
    from luhuo.dialogue.conversation import Conversation
    from tests.small_chat import small_model

    judge = with_head(small_model(), 0)
    with torch.no_grad():
        judge.score.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(1))
    save_reward_model(judge, tmp_path / "judge")
    texts = ["七", "I think it is seven, because three and four are seven", ""]
    one_by_one = Rewards(parse_rewards([{"kind": "model", "model": str(tmp_path / "judge"), "tokens": 1}]))
    together = Rewards(parse_rewards([{"kind": "model", "model": str(tmp_path / "judge")}]))
    found = together.score_all([ITEM] * 3, texts).totals
    assert found == pytest.approx(one_by_one.score_all([ITEM] * 3, texts).totals, abs=1e-5)
    assert len({round(value, 3) for value in found if value is not None}) == 3
    said = Conversation.of([*ITEM["messages"], {"role": "assistant", "content": texts[0]}])
    assert judge.tokenizer is not None
    ids = torch.tensor([list(conversation_text(said, judge.tokenizer)[0])])
    with torch.inference_mode():
        assert found[0] == pytest.approx(judge.scores({"ids": ids})[0, 0].item(), abs=1e-5)
    too_long = together.score_all([ITEM] * 2, ["long " * 5000, "七"])
    assert too_long.totals[0] is None and too_long.totals[1] == pytest.approx(found[0], abs=1e-5)
