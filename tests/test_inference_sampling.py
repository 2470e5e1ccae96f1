"""Choosing tokens: the distribution is the one the settings describe, and rows do not influence one another."""

from __future__ import annotations

import math
import random

import pytest
import torch
from pydantic import ValidationError

from luhuo.inference.sampler import choose, inverse_cdf, penalise, probabilities
from luhuo.inference.sampling import Sampling

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5]])


def kept(**settings: float) -> list[int]:
    chances = probabilities(LOGITS, [Sampling(**settings)])  # type: ignore[arg-type]
    assert math.isclose(chances.sum().item(), 1, abs_tol=1e-6)
    return chances[0].nonzero().flatten().tolist()


def test_without_cuts_the_distribution_is_the_softmax_at_that_temperature():
    chances = probabilities(LOGITS, [Sampling(temperature=0.5)])
    torch.testing.assert_close(chances, (LOGITS / 0.5).softmax(-1))


def test_top_k_keeps_the_k_best():
    assert kept(top_k=2) == [0, 4]
    assert kept(top_k=99) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass():
    ordered = LOGITS.softmax(-1)[0].sort(descending=True).values.cumsum(0)
    assert kept(top_p=float(ordered[0]) - 0.01) == [0]
    assert kept(top_p=float(ordered[0]) + 0.01) == [0, 4]
    assert kept(top_p=1e-9) == [0]


def test_min_p_drops_what_is_far_below_the_best():
    assert kept(min_p=math.exp(-0.6)) == [0, 4]
    assert kept(min_p=math.exp(-1.1)) == [0, 1, 4]


def test_equal_logits_are_cut_by_the_smaller_id():
    chances = probabilities(torch.zeros(1, 6), [Sampling(top_k=2)])
    assert chances[0].tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_each_row_follows_its_own_settings():
    mixed = [Sampling(top_k=1), Sampling(), Sampling(temperature=2.0, top_p=0.5), Sampling(min_p=0.5)]
    together = probabilities(LOGITS.expand(4, -1), mixed)
    alone = torch.cat([probabilities(LOGITS, [settings]) for settings in mixed])
    torch.testing.assert_close(together, alone)


def test_repetition_penalty_lowers_seen_tokens_of_either_sign_only():
    logits = torch.tensor([[2.0, -2.0, 3.0]])
    seen = torch.tensor([[True, True, False]])
    assert penalise(logits, seen, [2.0]).tolist() == [[1.0, -4.0, 3.0]]


def test_the_inverse_of_the_distribution_hits_each_token_in_its_share():
    chances = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
    picks = [inverse_cdf(chances, [u / 100])[0].item() for u in range(100)]
    assert [picks.count(token) for token in range(4)] == [25, 0, 50, 25]
    assert inverse_cdf(chances, [1 - 1e-16])[0] == 3


def test_sampled_frequencies_agree_with_the_distribution():
    chance, count = random.Random(0), 20_000
    settings = Sampling(temperature=0.8, top_p=0.95)
    expected = probabilities(LOGITS, [settings])[0]
    picks = choose(LOGITS.expand(count, -1), [settings] * count, [chance.random() for _ in range(count)])
    seen = torch.bincount(picks, minlength=5).double()
    spot = expected > 0
    assert seen[~spot].sum() == 0
    chi_square = (((seen - count * expected) ** 2)[spot] / (count * expected[spot])).sum().item()
    assert chi_square < 16.3  # 99.9% point of the chi-square distribution with three degrees of freedom


def test_temperature_zero_takes_the_best_token_beside_sampling_rows():
    picks = choose(LOGITS.expand(3, -1), [Sampling(temperature=0), Sampling(), Sampling(temperature=0)], [0, 0.999, 0])
    assert picks.tolist() == [0, 4, 0]


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}, {"n": 0}, {"stopp": ["x"]}])
def test_settings_that_make_no_sense_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Sampling(**wrong)
