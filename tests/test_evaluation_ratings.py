"""Ratings out of votes: equal to plain reference computations, with intervals that hold what they promise."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.ratings import (
    POINTS,
    Counts,
    bounded,
    bradley_terry,
    count,
    covariance,
    elo,
    elo_intervals,
    pair_matrix,
    ranks,
    strengths,
)
from luhuo.evaluation.style import differences, style, style_controlled
from luhuo.evaluation.votes import Vote, Winner

DATA = os.environ.get("LUHUO_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LUHUO_TEST_DATA names no folder of benchmark data")
TRUTH = {"ada": 1.0, "bo": 0.4, "cy": 0.0, "di": -0.5, "ed": -0.9}


def drawn(truth: dict[str, float], number: int, seed: int, tie: float = 0.2) -> list[Vote]:
    """Votes of random pairs: a tie with probability `tie`, else by strength."""
    chance, names = np.random.default_rng(seed), list(truth)
    votes = []
    for _ in range(number):
        a, b = chance.choice(len(names), 2, replace=False)
        wins = 1 / (1 + math.exp(truth[names[b]] - truth[names[a]]))
        winner = "tie" if chance.random() < tie else "a" if chance.random() < wins else "b"
        votes.append(Vote(names[a], names[b], winner))
    return votes


def pandalm_votes() -> list[Vote]:
    """A published sample: three people's votes on the answers of five models."""
    kinds: dict[int, Winner] = {0: "tie", 1: "a", 2: "b"}
    votes = []
    with gzip.open(Path(DATA or "") / "pandalm/testset-v1.jsonl.gz", "rt", encoding="utf-8") as handle:
        for row in map(json.loads, handle):
            a, b = row["cmp_key"].split("_")
            votes += [Vote(a, b, kinds[row[f"annotator{who}"]], judge=str(who)) for who in (1, 2, 3)]
    return votes


def by_minorisation(votes: list[Vote]) -> dict[str, float]:
    """Bradley-Terry by Hunter's MM algorithm (2004), ties half and half, vote by vote; ratings with mean 1000."""
    names = sorted({name for vote in votes for name in (vote.model_a, vote.model_b)})
    worth, won = dict.fromkeys(names, 1.0), dict.fromkeys(names, 0.0)
    pairs: dict[tuple[str, str], int] = {}
    for vote in votes:
        won[vote.model_a] += vote.score
        won[vote.model_b] += 1 - vote.score
        pairs[vote.model_a, vote.model_b] = pairs.get((vote.model_a, vote.model_b), 0) + 1
    moved = 1.0
    while moved > 1e-13:
        weight = dict.fromkeys(names, 0.0)
        for (a, b), games in pairs.items():
            weight[a] += games / (worth[a] + worth[b])
            weight[b] += games / (worth[a] + worth[b])
        new = {name: won[name] / weight[name] for name in names}
        mean = math.exp(sum(map(math.log, new.values())) / len(names))
        new = {name: value / mean for name, value in new.items()}
        moved = max(abs(new[name] - worth[name]) for name in names)
        worth = new
    return {name: 1000 + 400 * math.log10(value) for name, value in worth.items()}


def plain_elo(votes: list[Vote], k: float = 4.0) -> dict[str, float]:
    rating: dict[str, float] = {}
    for vote in votes:
        a, b = rating.get(vote.model_a, 1000.0), rating.get(vote.model_b, 1000.0)
        expected = 1 / (1 + math.pow(10, (b - a) / 400))
        rating[vote.model_a] = a + k * (vote.score - expected)
        rating[vote.model_b] = b + k * ((1 - vote.score) - (1 - expected))
    return rating


def by_votes(votes: list[Vote], theta: dict[str, float]) -> np.ndarray:
    """The sandwich of log-strengths against the first model, vote by vote, turned into that with mean zero."""
    names = sorted(theta)
    hessian, meat = (np.zeros((len(names) - 1, len(names) - 1)) for _ in range(2))
    for vote in votes:
        x = np.zeros(len(names))
        x[names.index(vote.model_a)], x[names.index(vote.model_b)] = 1, -1
        p = 1 / (1 + math.exp(theta[vote.model_b] - theta[vote.model_a]))
        hessian += p * (1 - p) * np.outer(x[1:], x[1:])
        meat += (vote.score - p) ** 2 * np.outer(x[1:], x[1:])
    inverse = np.linalg.inv(hessian)
    whole = np.zeros((len(names), len(names)))
    whole[1:, 1:] = inverse @ meat @ inverse
    centre = np.eye(len(names)) - 1 / len(names)
    return centre @ whole @ centre.T


@needs_data
def test_ratings_of_a_published_vote_sample_equal_a_reference_computation() -> None:
    votes = pandalm_votes()
    assert len(votes) == 3 * 999
    board = bradley_terry(votes)
    expected = by_minorisation(votes)
    assert {row.model: row.rating for row in board.rows} == pytest.approx(expected, abs=1e-6)
    theta = {name: (value - 1000) / POINTS for name, value in expected.items()}
    spread = np.sqrt(np.diagonal(by_votes(votes, theta))) * POINTS * 1.959963984540054
    assert [(row.high - row.low) / 2 for row in sorted(board.rows, key=lambda r: r.model)] == pytest.approx(
        spread.tolist(), rel=1e-8
    )
    assert elo(votes) == pytest.approx(plain_elo(votes), abs=1e-9)
    assert board.votes == len(votes)


def test_a_bootstrap_and_a_sandwich_interval_tell_the_same() -> None:
    votes = drawn(TRUTH, 1500, seed=3)
    sandwich, bootstrap = bradley_terry(votes), bradley_terry(votes, intervals="bootstrap", seed=1)
    for one, other in zip(sandwich.rows, bootstrap.rows, strict=True):
        assert one.model == other.model and one.rating == other.rating
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.12)


def test_neither_the_order_of_votes_nor_their_sides_change_a_rating() -> None:
    votes = drawn(TRUTH, 300, seed=0)
    turned: dict[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie", "bad": "bad"}
    other = [Vote(vote.model_b, vote.model_a, turned[vote.winner]) for vote in reversed(votes)]
    assert bradley_terry(votes) == bradley_terry(other)


def test_the_anchor_moves_all_ratings_and_no_difference() -> None:
    votes = drawn(TRUTH, 300, seed=0)
    free, held = bradley_terry(votes), bradley_terry(votes, anchor=("cy", 1114.0))
    assert next(row.rating for row in held.rows if row.model == "cy") == pytest.approx(1114.0)
    shifts = [a.rating - b.rating for a, b in zip(held.rows, free.rows, strict=True)]
    assert shifts == pytest.approx([shifts[0]] * len(shifts))
    with pytest.raises(LuhuoError, match="anchor is none"):
        bradley_terry(votes, anchor=("nobody", 1000.0))


def test_votes_of_which_both_answers_are_bad_count_as_ties() -> None:
    votes = drawn(TRUTH, 200, seed=5)
    bad = [Vote(v.model_a, v.model_b, "bad" if v.winner == "tie" else v.winner) for v in votes]
    assert bradley_terry(votes) == bradley_terry(bad)


def simulated(seed: int, simulations: int, votes: int, tie: float) -> tuple[Counts, np.ndarray]:
    """Many elections at once: votes of random pairs among five models whose strengths are known."""
    chance = np.random.default_rng(seed)
    truth = np.array(list(TRUTH.values()))
    truth -= truth.mean()
    first, second = np.triu_indices(len(truth), 1)
    wins = (1 - tie) / (1 + np.exp(truth[second] - truth[first]))
    shares = np.concatenate([wins, 1 - tie - wins, np.full(len(first), tie)]) / len(first)
    won, lost, tied = np.split(chance.multinomial(votes, shares, size=simulations).astype(float), 3, axis=1)
    made = np.zeros((2, simulations, len(truth), len(truth)))
    made[0][:, first, second], made[0][:, second, first] = won, lost
    made[1][:, first, second] = made[1][:, second, first] = tied
    # A tie is half a win: the strengths that such votes point to lie nearer to each other.
    pointed = strengths(_expected(shares, first, second, len(truth)))
    return Counts(tuple(TRUTH), made[0], made[1]), pointed


def _expected(shares: np.ndarray, first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    won, lost, tied = np.split(shares, 3)
    points = np.zeros((size, size))
    points[first, second], points[second, first] = won + tied / 2, lost + tied / 2
    return points


@pytest.mark.parametrize(("votes", "tie"), [(400, 0.0), (400, 0.3), (2000, 0.5)])
def test_intervals_of_95_percent_cover_the_truth_in_93_to_97_percent_of_1000_elections(votes: int, tie: float) -> None:
    counts, truth = simulated(seed=11, simulations=1000, votes=votes, tie=tie)
    theta = strengths(counts.points)
    half = 1.959963984540054 * np.sqrt(np.diagonal(covariance(counts, theta), axis1=-2, axis2=-1))
    covered = (np.abs(theta - truth) <= half).mean(0)  # of each model
    assert np.all((covered >= 0.93) & (covered <= 0.97)), covered


def test_bootstrap_intervals_cover_the_truth_in_93_to_97_percent_of_1000_elections() -> None:
    counts, truth = simulated(seed=12, simulations=1000, votes=400, tie=0.2)
    chance, covered = np.random.default_rng(0), []
    first, second = np.triu_indices(len(truth), 1)
    for i in range(1000):
        wins, ties = counts.wins[i], counts.ties[i]
        flat = np.concatenate([wins[first, second], wins[second, first], ties[first, second]])
        drawn = chance.multinomial(400, flat / 400, size=200)
        points = np.stack([_expected(row, first, second, len(truth)) for row in drawn])
        low, high = np.quantile(strengths(points, prior=1e-3), [0.025, 0.975], axis=0)
        covered.append((low <= truth) & (truth <= high))
    assert 0.93 <= float(np.mean(covered)) <= 0.97


def test_many_votes_find_the_true_order_and_few_do_not_pretend_to() -> None:
    many = bradley_terry(drawn(TRUTH, 20_000, seed=1))
    assert [row.model for row in many.rows] == list(TRUTH) and [row.rank for row in many.rows] == [1, 2, 3, 4, 5]
    few = bradley_terry(drawn(TRUTH, 40, seed=1))
    assert sum(row.rank == 1 for row in few.rows) > 1


def test_a_rank_is_one_more_than_the_number_of_models_that_are_surely_better() -> None:
    low, high = np.array([10.0, 8.0, 1.0, 0.0]), np.array([14.0, 12.0, 7.0, 7.5])
    assert ranks(low, high).tolist() == [1, 1, 3, 3]


def test_a_model_that_only_won_has_no_finite_rating_and_is_said_so() -> None:
    votes = [Vote("top", "x", "a")] * 3 + [Vote("x", "y", "a"), Vote("y", "x", "a"), Vote("y", "x", "tie")]
    assert bounded(count(votes)).tolist() == [False, True, True]
    top, *rest = bradley_terry(votes).rows
    assert top.model == "top" and not top.bounded and top.high == math.inf and math.isfinite(top.rating)
    assert all(row.bounded and math.isfinite(row.high) for row in rest)


def test_models_that_were_never_compared_are_named() -> None:
    votes = [Vote("a", "b", "a"), Vote("b", "a", "a"), Vote("c", "d", "tie")]
    with pytest.raises(LuhuoError, match=r"never compared") as error:
        bradley_terry(votes)
    assert error.value.found == "a, b | c, d"
    with pytest.raises(LuhuoError, match="no votes"):
        bradley_terry([])


def test_the_pair_matrix_tells_votes_shares_and_what_ratings_predict() -> None:
    votes = drawn(TRUTH, 5000, seed=2)
    board = bradley_terry(votes)
    cells = pair_matrix(votes, board)
    cell, other = cells["ada", "ed"], cells["ed", "ada"]
    mine = [vote for vote in votes if {vote.model_a, vote.model_b} == {"ada", "ed"}]
    assert cell.votes == len(mine) and cell.ties == sum(vote.winner == "tie" for vote in mine)
    points = sum(vote.score if vote.model_a == "ada" else 1 - vote.score for vote in mine)
    assert cell.share == pytest.approx(points / len(mine)) and other.share == pytest.approx(1 - cell.share)
    assert cell.predicted == pytest.approx(cell.share, abs=0.06) and cell.predicted + other.predicted == 1.0


def test_elo_intervals_hold_the_rating_of_bradley_terry() -> None:
    votes = drawn(TRUTH, 3000, seed=4, tie=0.0)
    found = elo_intervals(votes, seed=0, resamples=100)
    for row in bradley_terry(votes).rows:
        middle, low, high = found[row.model]
        assert low < middle < high and abs(middle - row.rating) < 60


# Style


def test_features_of_style_count_words_and_marks_outside_of_code() -> None:
    text = "# Title\n\n- one\n- **two**\n1. three\n\n```\n# no title\n- no entry\n```\n你好 world"
    assert style([text]) == {"length": 12.0, "headers": 1.0, "lists": 3.0, "bold": 1.0}


def styled(number: int, seed: int, taste: float) -> list[Vote]:
    """Votes for equally good models, of which "wordy" writes more, by people who like what is longer."""
    chance = np.random.default_rng(seed)
    names, votes = ["wordy", "plain", "terse"], []
    mean = {"wordy": 400.0, "plain": 200.0, "terse": 100.0}
    for _ in range(number):
        a, b = (names[i] for i in chance.choice(3, 2, replace=False))
        x, y = (float(mean[name] * np.exp(0.5 * chance.standard_normal())) for name in (a, b))
        zeros = dict.fromkeys(("headers", "lists", "bold"), (0.0, 0.0))
        likes = 1 / (1 + math.exp(-taste * (x - y) / (x + y + 1)))
        votes.append(Vote(a, b, "a" if chance.random() < likes else "b", style={"length": (x, y), **zeros}))
    return votes


def test_style_control_takes_the_taste_for_length_out_of_the_ratings() -> None:
    votes = styled(4000, seed=0, taste=3.0)
    plain, controlled = bradley_terry(votes), style_controlled(votes)
    spread = lambda board: board.rows[0].rating - board.rows[-1].rating  # noqa: E731
    assert spread(plain) > 150 and spread(controlled) < 60
    assert {row.rank for row in controlled.rows} == {1}
    weight, low, high = controlled.style["length"]
    size = float(np.sqrt(np.mean([((a - b) / (a + b + 1)) ** 2 for v in votes for a, b in [v.style["length"]]])))
    assert low < 3.0 * size < high and weight > 0
    assert controlled.style["bold"][0] == pytest.approx(0.0)


def test_style_control_without_differences_of_style_is_bradley_terry() -> None:
    votes = [Vote(v.model_a, v.model_b, v.winner, answers=(("x",), ("x",))) for v in drawn(TRUTH, 400, seed=8)]
    for one, other in zip(bradley_terry(votes).rows, style_controlled(votes).rows, strict=True):
        assert (one.model, one.rank) == (other.model, other.rank)
        assert other.rating == pytest.approx(one.rating, abs=1e-6) and other.low == pytest.approx(one.low, abs=1e-4)


def test_style_controlled_ratings_equal_a_reference_optimisation() -> None:
    votes = styled(300, seed=1, taste=1.0)
    names = sorted({vote.model_a for vote in votes})
    design = np.zeros((len(votes), len(names) + 1))
    for i, vote in enumerate(votes):
        design[i, names.index(vote.model_a)], design[i, names.index(vote.model_b)] = 1, -1
    design[:, -1] = differences(votes, ["length"])[:, 0]
    score, w = np.array([vote.score for vote in votes]), np.zeros(len(names) + 1)
    for _ in range(20_000):  # plain gradient ascent of the likelihood
        w += 1.0 * design.T @ (score - 1 / (1 + np.exp(-design @ w))) / len(votes)
    expected = {name: 1000 + POINTS * (w[i] - w[:-1].mean()) for i, name in enumerate(names)}
    board = style_controlled(votes, features=["length"])
    assert {row.model: row.rating for row in board.rows} == pytest.approx(expected, abs=1e-2)
    assert board.style["length"][0] == pytest.approx(w[-1], abs=1e-4)


def test_swapping_the_sides_of_all_votes_changes_no_style_controlled_rating() -> None:
    votes = styled(300, seed=2, taste=1.0)
    turned: dict[Winner, Winner] = {"a": "b", "b": "a"}
    other = [
        Vote(v.model_b, v.model_a, turned[v.winner], style={n: (b, a) for n, (a, b) in v.style.items()}) for v in votes
    ]
    for one, two in zip(style_controlled(votes).rows, style_controlled(other).rows, strict=True):
        assert one.rating == pytest.approx(two.rating, abs=1e-6)


def test_style_control_without_answers_says_what_it_needs() -> None:
    with pytest.raises(LuhuoError, match="needs the answers"):
        style_controlled(drawn(TRUTH, 200, seed=0))
