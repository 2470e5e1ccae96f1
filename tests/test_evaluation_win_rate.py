"""AlpacaEval's win rates: the published numbers from the published annotations, and rates at equal length."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.judges.win_rate import Annotation, length_controlled, read_annotations, win_rate

DATA = os.environ.get("LUHUO_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LUHUO_TEST_DATA names no folder of benchmark data")
FOLDER = Path(DATA or "") / "alpaca_eval"
LEADERBOARD = "leaderboard_alpacaeval2_gpt4_turbo.csv"
MODELS = ("NullModel", "alpaca-7b", "claude-2.1", "gemma-2b-it", "gemma-7b-it", "phi-2", "vicuna-7b-v1.5")
UNLISTED = "text_davinci_003"


def published() -> dict[str, dict[str, str]]:
    with (FOLDER / LEADERBOARD).open(encoding="utf-8") as handle:
        return {row[""]: row for row in csv.DictReader(handle)}


def judged(model: str) -> list[Annotation]:
    return read_annotations(FOLDER / f"annotations_{model}.jsonl.gz")


@needs_data
@pytest.mark.parametrize("model", MODELS)
def test_published_annotations_give_the_published_win_rates(model: str) -> None:
    found, expected = win_rate(judged(model)), published()[model]
    assert found.win_rate == pytest.approx(float(expected["win_rate"]), abs=5e-4)
    assert found.discrete == pytest.approx(float(expected["discrete_win_rate"]), abs=5e-4)
    assert found.standard_error == pytest.approx(float(expected["standard_error"]), abs=5e-4)
    counted = (found.wins, found.losses, found.draws, found.n)
    assert counted == tuple(int(expected[name]) for name in ("n_wins", "n_wins_base", "n_draws", "n_total"))


@needs_data
def test_a_model_outside_of_the_leaderboard_is_counted_alike() -> None:
    found = win_rate(judged(UNLISTED))
    assert UNLISTED not in published() and found.n == 805 == found.wins + found.losses + found.draws
    assert (round(found.win_rate, 3), round(found.discrete, 3), round(found.standard_error, 3)) == (
        1.962,
        1.988,
        0.435,
    )


@needs_data
def test_rates_at_equal_length_lie_near_the_published_ones() -> None:
    """Near, not equal: the published difficulties are not there, and the two constants were chosen on these models."""
    every = {model: judged(model) for model in (*MODELS, UNLISTED)}
    for model in MODELS:
        others = [rows for name, rows in every.items() if name != model]
        found = length_controlled(every[model], others)
        expected = float(published()[model]["length_controlled_winrate"])
        assert abs(found.win_rate - expected) < max(1.5, 0.13 * expected), model
        assert found.length_weight > 0 and found.others == 7
    assert length_controlled(every["claude-2.1"], list(every.values())[:2]).moved


def made(number: int, seed: int, skill: float, taste: float, longer: float) -> list[Annotation]:
    """A judge with a taste for length, and a model that writes `longer` more than the baseline."""
    chance = np.random.default_rng(seed)
    hard = np.random.default_rng(99).standard_normal(number)
    baseline = chance.uniform(500, 1500, number)
    mine = baseline + longer + chance.normal(0, 400, number)
    apart = mine - baseline
    odds = skill + taste * np.tanh(apart / apart.std()) + hard
    return [
        Annotation(str(i), float(1 / (1 + np.exp(-odds[i]))), float(mine[i]), float(baseline[i]))
        for i in range(number)
    ]


def test_a_model_that_only_writes_more_gains_nothing_at_equal_length() -> None:
    others = [made(400, seed, 0.0, 1.5, 0.0) for seed in (5, 6, 7)]
    wordy = made(400, 1, 0.0, 1.5, 500.0)
    assert win_rate(wordy).win_rate > 65
    assert length_controlled(wordy, others).win_rate == pytest.approx(50, abs=4)
    assert length_controlled(wordy).win_rate < win_rate(wordy).win_rate - 8


def test_a_better_model_has_at_equal_length_the_rate_of_its_skill() -> None:
    others = [made(400, seed, 0.0, 1.5, 0.0) for seed in (5, 6, 7)]
    better = made(400, 2, 1.0, 1.5, 0.0)
    truth = 100 * float(np.mean(1 / (1 + np.exp(-1.0 - np.random.default_rng(99).standard_normal(400)))))
    assert length_controlled(better, others).win_rate == pytest.approx(truth, abs=1.5)


def test_equal_lengths_change_nothing_and_nothing_divides_by_zero() -> None:
    rows = [Annotation(str(i), 0.2 + 0.01 * i, 100, 100) for i in range(30)]
    assert length_controlled(rows).win_rate == pytest.approx(win_rate(rows).win_rate, abs=0.2)


def test_draws_count_half_and_a_missing_verdict_is_a_draw() -> None:
    found = win_rate([Annotation(str(i), value, 1, 1) for i, value in enumerate([1.0, None, 0.5, 0.0])])
    assert (found.win_rate, found.discrete, found.draws) == (50.0, 50.0, 2)


@pytest.mark.parametrize("row", [{"len_1": 1}, {"preference": 3}, {"preference": "good"}, ["no object"]])
def test_other_layouts_are_refused_with_their_place(tmp_path: Path, row: object) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(LuhuoError, match="no annotation") as error:
        read_annotations(tmp_path / "a.jsonl")
    assert "row 1" in str(error.value.where)
    with pytest.raises(LuhuoError, match="no judged pair"):
        win_rate([])
