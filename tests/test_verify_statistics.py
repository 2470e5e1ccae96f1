"""Statistics against closed forms and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from luhuo.verify.statistics import bootstrap_macro, bootstrap_mean, near_chance, paired_difference, sign_test, wilson


def test_wilson_interval_has_its_known_values() -> None:
    # Roots of (p - x/n)^2 = z^2 p (1 - p) / n, solved here independently with numpy.
    z = 1.959963984540054
    for x, n in ((1, 10), (81, 263), (5, 5), (0, 20), (150, 200)):
        share = x / n
        roots = np.roots([1 + z * z / n, -(2 * share + z * z / n), share * share])
        assert wilson(x, n) == pytest.approx(sorted(roots.real), abs=1e-12)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_wilson_interval_stays_inside_and_narrows_with_n() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 30)[0] == 0.0
    assert wilson(30, 30)[1] == 1.0
    low, high = wilson(50, 100)
    wide_low, wide_high = wilson(50, 100, level=0.99)
    assert wide_low < low < 0.5 < high < wide_high


def test_near_chance_is_told_by_the_lower_end_of_the_interval() -> None:
    assert near_chance(55, 200, chance=0.25)
    assert not near_chance(80, 200, chance=0.25)
    assert near_chance(0, 200, chance=0.0)


def test_bootstrap_interval_agrees_with_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=4000)
    estimate = bootstrap_mean(values, seed=5)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert bootstrap_mean(values, seed=5) == estimate


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for seed in range(200):
        estimate = bootstrap_mean(random.random(100) < 0.4, seed=seed, resamples=500)
        hits += estimate.low <= 0.4 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_macro_mean_weighs_families_equally_whatever_their_size() -> None:
    estimate = bootstrap_macro([[1.0] * 300, [0.0] * 3], seed=0)
    assert estimate.mean == 0.5
    assert estimate.n == 303
    assert math.isnan(bootstrap_macro([], seed=0).mean)


def test_paired_difference_of_right_and_wrong_is_mcnemars_exact_test() -> None:
    a = [1] * 10 + [0] * 2 + [1] * 50
    b = [0] * 10 + [1] * 2 + [1] * 50
    result = paired_difference(a, b, seed=0)
    assert result.difference == pytest.approx(-8 / 62)
    assert result.low < result.difference < result.high < 0
    assert result.p_value == pytest.approx(2 * sum(math.comb(12, k) for k in range(3)) / 2**12)


def test_paired_difference_is_tighter_than_the_unpaired_one() -> None:
    random = np.random.default_rng(0)
    ease = random.normal(size=500) * 3
    result = paired_difference(ease, ease + 0.2 + random.normal(size=500) * 0.1, seed=1)
    assert 0.15 < result.low < result.high < 0.25
    assert result.p_value < 0.001


def test_no_difference_gives_a_p_value_of_one_and_unequal_lengths_are_refused() -> None:
    assert paired_difference([1, 0, 1], [1, 0, 1], seed=0).p_value == 1.0
    assert sign_test(5, 10) == 1.0
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([1, 2, 3], [1, 2], seed=0)
