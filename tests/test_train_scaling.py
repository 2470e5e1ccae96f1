"""Scaling laws: the fit recovers a known law, its intervals cover, ladders are the runs they stand for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luhuo.core.artifact import produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.corpus.shards import ShardWriter
from luhuo.scaling import scaling
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train
from luhuo.train import checkpoint
from luhuo.train.scaling import isoflop, words
from luhuo.train.scaling.budget import Budget, parse_budget, parse_machine
from luhuo.train.scaling.fit import fit
from luhuo.train.scaling.grid import FEWEST_STEPS, Grid, lay
from luhuo.train.scaling.intervals import Intervals, student_t
from luhuo.train.scaling.law import Law, effective_tokens
from luhuo.train.scaling.points import Point, read_points, write_points
from luhuo.train.scaling.stages import ScalingLawStage, ScalingRunStage
from luhuo.train.stages import PretrainStage

LAW = Law(E=0.9, A=60.0, B=300.0, alpha=0.33, beta=0.36)
SIZES = np.geomspace(1.5e5, 3e6, 5)
N, D = np.array([(n, c / 6 / n) for c in np.geomspace(1e12, 2.7e13, 4) for n in SIZES]).T


def noisy(seed: int, sigma: float = 0.005) -> np.ndarray:
    """Losses of `LAW` at the grid, with log-normal scatter."""
    return LAW.loss(N, D) * np.exp(sigma * np.random.default_rng(seed).standard_normal(N.size))


def test_the_fit_finds_the_law_that_made_the_losses() -> None:
    found = fit(N, D, LAW.loss(N, D)).law
    for name, value in LAW.as_dict().items():
        assert found.as_dict()[name] == pytest.approx(value, rel=1e-6), name


def test_no_run_of_lbfgs_ends_below_the_fit() -> None:
    losses = noisy(3)
    fitted = fit(N, D, losses)
    y, n, d = (torch.tensor(np.log(values) - np.log(values).mean()) for values in (losses, N, D))

    def ends(start: list[float]) -> float:
        theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        search = torch.optim.LBFGS([theta], max_iter=400, tolerance_grad=1e-13, line_search_fn="strong_wolfe")

        def objective() -> torch.Tensor:
            search.zero_grad()
            terms = torch.stack([theta[0].expand(len(n)), theta[1] - theta[3] * n, theta[2] - theta[4] * d])
            loss = torch.nn.functional.huber_loss(terms.logsumexp(0), y, reduction="sum", delta=fitted.delta)
            loss.backward()
            return loss

        for _ in range(3):  # kinks of the Huber loss stop its line search early
            search.step(objective)
        return objective().item()

    lowest = min(ends([e, -1.0, -1.0, exponent, exponent]) for e in (-2.0, -1.0) for exponent in (0.2, 0.4, 0.7))
    assert fitted.objective <= lowest * (1 + 1e-9)
    assert fitted.objective == pytest.approx(lowest, rel=1e-4)


def test_an_outlier_moves_the_law_less_than_its_scatter() -> None:
    spoilt = LAW.loss(N, D) * np.where(np.arange(N.size) == 7, 1.3, 1.0)
    found = fit(N, D, spoilt).law
    assert found.alpha == pytest.approx(LAW.alpha, rel=0.02)
    assert found.beta == pytest.approx(LAW.beta, rel=0.02)


def test_intervals_cover_the_truth_in_about_95_of_100_fits() -> None:
    size, tokens = LAW.optimum(2.7e14)  # ten times the compute of the grid
    quantities = {
        "alpha": lambda law: law.alpha,
        "beta": lambda law: law.beta,
        "E": lambda law: law.E,
        "exponent": lambda law: law.size_exponent,
        "loss beyond the grid": lambda law: float(law.loss(size, tokens)),
        "best size": lambda law: law.optimum(2.7e14)[0],
    }
    covered: dict[tuple[str, str], list[bool]] = {}
    values: dict[str, list[float]] = {name: [] for name in quantities}
    for seed in range(100):
        intervals = Intervals(fit(N, D, noisy(seed)), 120, seed)
        for name, quantity in quantities.items():
            found, truth = intervals.of(quantity), quantity(LAW)
            values[name].append(found.value)
            covered.setdefault((name, "bootstrap"), []).append(found.low <= truth <= found.high)
            covered.setdefault((name, "delta"), []).append(found.delta_low <= truth <= found.delta_high)
    for what, hits in covered.items():
        assert 0.90 <= np.mean(hits) <= 0.98, (what, np.mean(hits))
    for name, quantity in quantities.items():
        assert np.median(values[name]) == pytest.approx(quantity(LAW), rel=0.03), name


def test_the_interval_of_a_new_run_is_wider_than_that_of_the_law() -> None:
    intervals = Intervals(fit(N, D, noisy(1)), 100, 0)
    alone = intervals.of(lambda law: float(law.loss(1e6, 1e8)))
    one_more = intervals.of(lambda law: float(law.loss(1e6, 1e8)), noise=True)
    assert one_more.low < alone.low <= alone.value <= alone.high < one_more.high


@pytest.mark.parametrize(
    ("n", "d", "loss", "message"),
    [
        (N[:5], D[:5], LAW.loss(N, D)[:5], "5 runs"),
        (np.full(20, 1e6), D, LAW.loss(N, D), "1 different model sizes"),
        (N, np.full(20, 1e6), LAW.loss(N, D), "1 different token counts"),
        (N, D, np.where(N > 2e6, np.nan, 2.0), "not finite"),
        (N, D, np.full(20, 2.0), "all losses are equal"),
        (N, D[:9], LAW.loss(N, D), "differ in length"),
    ],
)
def test_runs_no_law_can_be_fitted_to_are_refused(n: Any, d: Any, loss: Any, message: str) -> None:
    with pytest.raises(LuhuoError, match=message):
        fit(n, d, loss)


def test_student_quantiles_are_those_of_the_tables() -> None:
    tables = {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042}
    for freedom, quantile in tables.items():
        assert student_t(0.975, freedom) == pytest.approx(quantile, rel=0.005)


def test_the_optimum_spends_the_budget_and_no_neighbour_is_better() -> None:
    n, d = LAW.optimum(1e15)
    assert 6 * n * d == pytest.approx(1e15)
    assert LAW.loss(n, d) < min(LAW.loss(n * 1.1, d / 1.1), LAW.loss(n / 1.1, d * 1.1))


def test_parabolas_and_envelope_agree_with_the_law_they_are_drawn_from() -> None:
    sizes = np.geomspace(1e5, 1e7, 13)
    n, c = (a.ravel() for a in np.meshgrid(sizes, np.geomspace(3e12, 3e14, 6)))
    losses = LAW.loss(n, c / 6 / n)
    second = isoflop.second(isoflop.levels(n, c, losses))
    first = isoflop.first(n, c, losses)
    assert second is not None and first is not None
    assert second.a == pytest.approx(LAW.size_exponent, abs=0.05)  # a parabola is not the law's curve
    assert first.a == pytest.approx(LAW.size_exponent, abs=0.08)
    assert second.size(3e13) == pytest.approx(LAW.optimum(3e13)[0], rel=0.15)


def test_a_parabola_whose_lowest_point_is_outside_the_sizes_gives_no_optimum() -> None:
    sizes = np.array([1e7, 2e7, 4e7])
    (level,) = isoflop.levels(sizes, np.full(3, 1e13), LAW.loss(sizes, 1e13 / 6 / sizes))
    assert level.best is None


def test_a_repeated_token_is_worth_less_than_a_new_one_and_never_more_than_the_limit() -> None:
    worth = effective_tokens(np.array([0.5, 1, 2, 4, 1e9]) * 1e6, 1e6)
    assert worth[:2].tolist() == [0.5e6, 1e6]
    assert 1.9e6 < worth[2] < 2e6 and 3.6e6 < worth[3] < 4e6
    assert worth[4] == pytest.approx(16.387756e6)


def test_budgets_and_machines_are_read_and_nonsense_is_refused() -> None:
    assert parse_budget("30m").seconds == 1800 and parse_budget("1.5e18").flops == 1.5e18
    assert parse_machine("8xH100") == pytest.approx(8 * 989e12 * 0.4)
    assert parse_machine("4e12") == 4e12 and parse_machine("") is None
    for text in ("", "much", "-3h", "0", "1e999"):
        with pytest.raises(LuhuoError, match="not a budget"):
            parse_budget(text)
    for text in ("8xABC1", "12", "h1000"):
        with pytest.raises(LuhuoError, match="not known"):
            parse_machine(text)


TEMPLATE: dict[str, Any] = {"shards": ".", "tokenizer": ".", "rungs": [1], "length": 32, "batch": 64, "decay": 0.4}


def test_a_grid_costs_its_budget_and_every_compute_is_an_isoflop_curve() -> None:
    template = ScalingRunStage.parse(TEMPLATE)
    grid = lay(Budget("", 1e13, None), template, 512, check=3.0)
    assert grid.flops == pytest.approx(1e13, rel=0.1)
    assert grid.check is not None and grid.check.flops == pytest.approx(3 * grid.levels[-1], rel=0.01)
    assert len({run.parameters for run in grid.runs}) == 5
    assert min(rung for run in grid.runs for rung in run.rungs) >= FEWEST_STEPS * 64
    assert Grid.of(json.loads(json.dumps(grid.as_dict()))) == grid


def test_a_grid_in_time_costs_what_the_measured_rates_say() -> None:
    template = ScalingRunStage.parse(TEMPLATE)
    seconds = 1e-4
    grid = lay(Budget("10m", None, 600.0), template, 512, probe=lambda plan: seconds)
    decays = [0.6 * run.rungs[-1] + 0.4 * sum(run.rungs) for run in grid.runs]
    assert sum(decays) * seconds == pytest.approx(600 / 1.1, rel=0.25)


def test_a_budget_too_small_for_a_law_says_so() -> None:
    with pytest.raises(LuhuoError, match="too small"):
        lay(Budget("1e9", 1e9, None), ScalingRunStage.parse(TEMPLATE), 512)


TEXTS = [f"{name} has {count} lamps. {name}有{count}盏灯。" for name in ("Ann", "Bo", "Cai") for count in range(40)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small tokenizer and shards."""
    root = tmp_path_factory.mktemp("material")
    tokenizer: Tokenizer = train(TEXTS, vocab_size=320)
    tokenizer.save(root / "tokenizer")
    for split, texts in (("train", TEXTS[::2]), ("valid", TEXTS[1::8])):
        writer = ShardWriter(root / "shards" / split, tokenizer, 2**20)
        for text in texts:
            writer.add({"text": text, "lang": "en", "source": "lamps"}, [*tokenizer.encode(text), tokenizer.eos_id])
        writer.close()
    return {"tokenizer": str(root / "tokenizer"), "shards": str(root / "shards")}


SMALL: dict[str, Any] = {"size": "30k", "length": 32, "batch": 128, "dtype": "fp32", "threads": 1, "device": "cpu"}


def test_a_rung_is_the_wsd_run_of_its_length(tmp_path: Path, material: dict[str, str]) -> None:
    ladder = ScalingRunStage.parse({**material, **SMALL, "rungs": [10 * 128, 20 * 128], "warmup": 0.2, "decay": 0.4})
    points = read_points(produce("scaling-run", ladder, tmp_path / "ladder").path)
    assert [point.tokens for point in points] == [1280, 2560]
    for point, steps in zip(points, (10, 20), strict=True):
        straight = PretrainStage.parse(
            {**material, **SMALL, "steps": steps, "warmup": 2 / steps, "decay": 0.4, "eval_tokens": 10**6}
        )
        whole = produce("pretrain", straight, tmp_path / f"straight-{steps}").manifest["metrics"]
        assert point.loss == pytest.approx(whole["bpb.valid"], rel=1e-5)


def test_a_ladder_cut_off_on_a_rung_goes_on_and_ends_the_same(
    tmp_path: Path, material: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = ScalingRunStage.parse({**material, **SMALL, "rungs": [8 * 128, 16 * 128], "checkpoint_every": 3})
    undisturbed = read_points(produce("scaling-run", ladder, tmp_path / "one").path)
    write, written = checkpoint.Writer.write, []

    def interrupt(self: checkpoint.Writer, step: int, *arguments: Any) -> None:
        write(self, step, *arguments)
        written.append(step)
        if len(written) == 6:
            raise Interrupted("cut")

    monkeypatch.setattr(checkpoint.Writer, "write", interrupt)
    with pytest.raises(Interrupted):
        produce("scaling-run", ladder, tmp_path / "two")
    continued = read_points(produce("scaling-run", ladder, tmp_path / "two").path)
    assert [point.loss for point in continued] == [point.loss for point in undisturbed]


def test_rungs_that_fall_or_come_to_the_same_steps_are_refused(tmp_path: Path, material: dict[str, str]) -> None:
    with pytest.raises(LuhuoError, match="must be positive and rise"):
        ScalingRunStage.parse({**material, **SMALL, "rungs": [500, 400]})
    with pytest.raises(LuhuoError, match="dense decoders"):
        ScalingRunStage.parse({**material, **SMALL, "rungs": [500], "objective": "masked"})
    with pytest.raises(LuhuoError, match="rungs decide steps"):
        ScalingRunStage.parse({**material, **SMALL, "rungs": [500], "steps": 7})
    near = ScalingRunStage.parse({**material, **SMALL, "rungs": [1280, 1290]})
    with pytest.raises(LuhuoError, match="same number of steps"):
        produce("scaling-run", near, tmp_path / "near")


def points_of(size: int, law: Law, seed: int, unique: int = 10**9) -> list[Point]:
    """One ladder of synthetic points."""
    random = np.random.default_rng(seed)
    shape = {"layers": 3, "hidden_size": 64, "vocab_size": 512}
    return [
        Point(
            parameters=size,
            body=round(0.8 * size),
            tokens=round(c / 6 / size),
            unique=unique,
            loss=float(law.loss(size, c / 6 / size)) * math.exp(0.003 * random.standard_normal()),
            flops=6.0 * size * round(c / 6 / size),
            flops_per_s=1e11,
            seconds=1.0,
            run=str(size),
            steps=500,
            batch=2048,
            length=256,
            learning_rate=0.004,
            shape=shape,
        )
        for c in (1e12, 3e12, 9e12, 2.7e13)
    ]


@pytest.fixture
def ladders(tmp_path: Path) -> list[str]:
    """Five synthetic ladders on disk."""
    folders = []
    for i, size in enumerate((200_000, 400_000, 800_000, 1_600_000, 3_200_000)):
        folder = tmp_path / f"size-{size}"
        folder.mkdir()
        write_points(folder, points_of(size, LAW, i))
        folders.append(str(folder))
    return folders


def test_the_law_stage_recommends_predicts_and_writes_a_page_in_both_languages(
    tmp_path: Path, ladders: list[str]
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    write_points(held, points_of(2_000_000, LAW, 9)[-1:])
    settings = {"runs": ladders, "held_out": [str(held)], "targets": ["1e14", "1d"], "machine": "1e11"}
    done = produce("scaling-law", ScalingLawStage.parse({**settings, "resamples": 100}), tmp_path / "law")
    law = json.loads((done.path / "law.json").read_text(encoding="utf-8"))
    assert len(law["points"]) == 20 and {"fitted", "residual", "parameters", "tokens"} <= set(law["points"][0])
    assert law["predictions"][0]["inside"]
    first, second = law["recommendations"]
    assert first["flops"] == pytest.approx(1e14, rel=1e-6)
    assert second["flops"] == pytest.approx(86400 * 1e11, rel=1e-6)
    # Where FLOPs a token are not 6·N, the best size moves; within its interval and a factor it is the closed form's.
    closed = LAW.optimum(1e14)[0]
    assert closed / 2.5 < first["size"]["value"] < 2.5 * closed
    assert first["size"]["low"] < first["size"]["value"] < first["size"]["high"]
    assert first["near"][0] < first["size"]["value"] < first["near"][1]
    page = (done.path / "report.html").read_text(encoding="utf-8")
    assert 'lang="zh-CN"' in page and 'lang="en"' in page and "等算力" in page and page.count("<svg") == 4
    assert "http" not in page and "<script" not in page and "NaN" not in page
    assert read_metric(done.manifest, "held_out.0.error") == pytest.approx(0, abs=0.02)


def read_metric(manifest: dict[str, Any], name: str) -> float:
    """A result of an artifact."""
    return manifest["metrics"][name]


def test_runs_of_another_corpus_or_tokenizer_are_not_mixed(tmp_path: Path, ladders: list[str]) -> None:
    write_points(Path(ladders[0]), points_of(200_000, LAW, 0, unique=5000))
    with pytest.raises(LuhuoError, match="cannot be compared"):
        produce("scaling-law", ScalingLawStage.parse({"runs": ladders}), tmp_path / "law")


def test_a_damaged_points_file_is_one_clear_message(tmp_path: Path, ladders: list[str]) -> None:
    (Path(ladders[0]) / "points.json").write_text('{"points": [{"parameters": 3}]}', encoding="utf-8")
    with pytest.raises(LuhuoError, match="cannot be read"):
        produce("scaling-law", ScalingLawStage.parse({"runs": ladders}), tmp_path / "law")


def test_a_target_that_repeats_the_corpus_is_warned_of(tmp_path: Path, ladders: list[str]) -> None:
    for i, folder in enumerate(ladders):
        size = int(Path(folder).name.split("-")[1])
        write_points(Path(folder), points_of(size, LAW, i, unique=30_000_000))
    settings = {"runs": ladders, "targets": ["1e16"], "resamples": 100}
    done = produce("scaling-law", ScalingLawStage.parse(settings), tmp_path / "law")
    law = json.loads((done.path / "law.json").read_text(encoding="utf-8"))
    assert law["recommendations"][0]["epochs"] > 4
    assert any("corpus would be read" in text["en"] and "重复" in text["zh"] for text in law["words"])


def test_numbers_are_short_and_exact_enough() -> None:
    assert [words.number(x) for x in (0, 0.01234, 950, 1234, 2.5e6, 7e9, 1.5e18)] == [
        "0",
        "0.0123",
        "950",
        "1.23k",
        "2.5M",
        "7B",
        "1.50e+18",
    ]


def test_the_command_goes_from_a_recipe_to_a_recommendation_and_trains_nothing_twice(
    tmp_path: Path, material: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    base = "{stage: pretrain, size: 1m, tokens: 99999, batch: 64, length: 32, dtype: fp32, threads: 1, device: cpu"
    base += f", shards: {material['shards']}, tokenizer: {material['tokenizer']}}}"
    recipe.write_text(f"name: lamps\nstages:\n  base: {base}\n", encoding="utf-8")
    out = tmp_path / "out"
    done = scaling(recipe, "4e10", targets=["1e12"], check=0.0, out=out)
    assert "With 1e12" in capsys.readouterr().out
    assert len(list((out / "scaling").glob("size-*/points.json"))) >= 3
    assert done.manifest["metrics"]["runs"] >= 6
    again = scaling(recipe, "4e10", targets=["1e12"], check=0.0, out=out)
    assert again.reused
    with pytest.raises(LuhuoError, match="no such pretraining stage"):
        scaling(recipe, "4e10", stage="other", out=out)
