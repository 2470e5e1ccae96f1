"""Statistics of a round of samples, and the words in which a value out of its range is told."""

from __future__ import annotations

import math

from luhuo.align.health import PATIENCE, RULES, Health
from luhuo.align.rollout_statistics import Group, Outcome, summary


def group(*outcomes: tuple[float, int, bool]) -> Group:
    return Group(0, [Outcome(*outcome) for outcome in outcomes])


def test_statistics_tell_reward_length_and_endings() -> None:
    found = summary([group((0.0, 4, True), (1.0, 8, False)), group((2.0, 6, True), (2.0, 2, True))])
    assert found["reward"] == 1.25 and found["zero_variance"] == 0.5
    assert found["length"] == 5 and found["eos"] == 0.75 and found["truncated"] == 0.25


def test_a_score_of_zero_is_a_score_and_a_missing_one_is_not() -> None:
    found = summary([group((0.0, 1, True), (1.0, 1, True), (math.nan, 1, True), (math.nan, 1, True))])
    assert found["reward"] == 0.5 and found["unscored"] == 0.5


def test_hard_prompts_with_long_answers_are_no_reward_of_length() -> None:
    # Across groups length and score go together, within none.
    apart = [group((5.0, 50, True), (6.0, 50, True)), group((0.0, 5, True), (1.0, 5, True))]
    assert "length_correlation" not in summary(apart)
    inside = [group((0.0, 5, True), (1.0, 10, True)), group((0.0, 50, True), (1.0, 60, True))]
    assert summary(inside)["length_correlation"] > 0.9


def test_a_negative_kl_is_explained() -> None:
    told: list[str] = []
    health = Health(told.append)
    for _ in range(PATIENCE):
        health.look({"kl": -0.5})
    assert any("temperature" in text for text in told)


def test_health_speaks_once_and_again_after_it_was_well() -> None:
    health = Health(lambda text: None)
    spoken = [bool(health.look({"truncated": value})) for value in [0.9] * 8 + [0.0] + [0.9] * 5]
    assert [i for i, one in enumerate(spoken) if one] == [PATIENCE - 1, 8 + PATIENCE]


def test_every_rule_has_words_in_both_languages() -> None:
    assert all(rule.en and rule.zh and rule.low < rule.high for rule in RULES)
