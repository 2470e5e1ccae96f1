"""A run that is killed and started again ends with the bits of one that was not, for everything that can be trained.

Each run is processes of its own, which are killed for real; they begin as copies of one that has imported torch.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luhuo.core.metrics import MetricsLog
from luhuo.train.checkpoint import read_last
from luhuo.train.gradients import Gradients
from luhuo.train.ranks import Ranks
from tests.fault_runs import CASES, Run, parts, together

STEPS = 8
OPTIMISERS = ("adamw", "muon", "lion", "adafactor", "adamw8", "lion8")
SETTINGS: dict[str, dict[str, Any]] = {
    "averaged weights": {"ema": 0.9},
    "growing batch": {"batch_warmup": 0.7},
    "best weights": {"keep_best": "score", "eval_every": 1, "keep": 1},
    "activations computed again": {"recompute": "full"},
    "checkpoints in the foreground": {"background": False},
    "batches made in the step": {"prefetch": 0},
    "micro-batches": {"micro_batch": 1},
    "bf16": {"dtype": "bf16"},
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "result.safetensors")


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in MetricsLog(folder / "metrics.jsonl").read() if "loss" in row]


def killed_and_resumed_is_straight(folder: Path, run: Run, processes: int) -> None:
    """Compare N + M steps with N, SIGKILL of every process, M."""
    assert together(run.at(folder / "straight"), processes) == [0] * processes
    killed = run.at(folder / "cut", signals={5: signal.SIGKILL})
    assert -signal.SIGKILL in together(killed, processes)
    found = read_last(folder / "cut" / ".checkpoint")
    assert found is not None and 1 <= found.step < STEPS and not (folder / "cut" / "result.safetensors").exists()
    assert together(run.at(folder / "cut"), processes) == [0] * processes
    straight, cut = weights(folder / "straight"), weights(folder / "cut")
    assert all(torch.equal(tensor, cut[name]) for name, tensor in straight.items()), run
    assert losses(folder / "straight") == losses(folder / "cut")
    assert len(losses(folder / "cut")) == STEPS


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_every_objective_ends_with_the_bits_of_a_straight_run(tmp_path: Path, case: str) -> None:
    killed_and_resumed_is_straight(tmp_path, Run(case), 1)


@pytest.mark.parametrize(
    "case", [name if name in ("causal", "span") else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_two_killed_processes_of_every_objective_end_with_the_same_bits(tmp_path: Path, case: str) -> None:
    killed_and_resumed_is_straight(tmp_path, Run(case), 2)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_killed_and_resumed_every_optimiser_ends_with_the_bits_of_a_straight_run(
    tmp_path: Path, optimiser: str
) -> None:
    killed_and_resumed_is_straight(tmp_path, Run("causal", settings={"optimiser": optimiser}), 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_killed_and_resumed_with_other_settings_the_bits_are_those_of_a_straight_run(
    tmp_path: Path, name: str
) -> None:
    killed_and_resumed_is_straight(tmp_path, Run("causal", settings=SETTINGS[name]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("parallel", [{"dp": 2}, {"fsdp": 2}])
def test_two_killed_processes_of_every_optimiser_end_with_the_same_bits(
    tmp_path: Path, optimiser: str, parallel: dict[str, int]
) -> None:
    settings = {"optimiser": optimiser, "ema": 0.9, "keep_best": "score", "eval_every": 2}
    killed_and_resumed_is_straight(tmp_path, Run("causal", settings=settings, parallel=parallel), 2)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_with_another_number_of_processes_a_killed_run_goes_on_along_the_same_curve(
    tmp_path: Path, first: int, then: int
) -> None:
    run = Run("experts", settings={"optimiser": "adamw"})
    assert together(run.at(tmp_path / "straight")) == [0]
    assert -signal.SIGKILL in together(run.at(tmp_path / "cut", signals={5: signal.SIGKILL}), first)
    assert together(run.at(tmp_path / "cut"), then) == [0] * then
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "straight"), rel=1e-5)
    assert len(losses(tmp_path / "cut")) == STEPS


@pytest.mark.parametrize("case", ["causal", "experts", "latent attention, experts, two tokens", "fine-tuning", "span"])
def test_the_loss_is_equal_for_any_micro_batch_split(case: str) -> None:
    """The rows of `fine-tuning` end in padding, those of the others are packed."""
    found = []
    for rows in (0, 4, 2):  # one, two and four passes
        model, objective, loader = parts(case)
        batch = {name: torch.from_numpy(array) for name, array in next(iter(loader)).items()}
        weight, total = Gradients(model.train(), objective, Ranks(), rows).compute(batch, 1)
        found.append(total["loss"].item() / weight.item())
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)
