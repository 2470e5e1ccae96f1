"""Several processes give the result of one, whether they hold copies of the weights, pieces, or copies of pieces."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing

from luhuo.core.artifact import Workspace
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.parallel import spread, whole
from luhuo.train.parallel_config import Parallel
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer
from tests.test_model_decoder import CONFIG
from tests.test_train_trainer import SmallLoader, losses


def train(folder: Path, parallel: dict[str, int], settings: dict[str, Any]) -> Decoder | None:
    """A small run of this process's share; the whole model on rank 0."""
    folder.mkdir(parents=True, exist_ok=True)
    model = spread(initialise(Decoder(CONFIG), 0), Parallel(**parallel))
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    defaults = {"steps": 8, "dtype": "fp32", "checkpoint_every_s": 0, "checkpoint_every": 4}
    given = {name: value for name, value in settings.items() if name not in ("cut", "kill")}
    config = TrainerConfig(**{**defaults, **given})
    signals = {4: signal.SIGTERM} if settings.get("cut") else {6: signal.SIGKILL} if settings.get("kill") else None
    ranks = Ranks()
    trainer = Trainer(model, CausalLM(), SmallLoader(ranks.rank, ranks.count, signals), config, out)
    with pytest.raises(Interrupted) if settings.get("cut") else nullcontext():
        trainer.run()
    return whole(model)


def _process(
    rank: int, port: int, count: int, folder: Path, parallel: dict[str, int], settings: dict[str, Any]
) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
    model = train(folder, parallel, settings)
    if model is not None:
        save_file({name: p.detach() for name, p in model.named_parameters()}, folder / "result.safetensors")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # as the command line does: taking Python down now and then aborts in a connection's thread


def together(folder: Path, count: int, parallel: dict[str, int], **settings: Any) -> dict[str, torch.Tensor]:
    """The weights that `count` processes reach, divided as `parallel` says."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.start_processes(
        _process, (port, count, folder, parallel, settings), nprocs=count, start_method="forkserver"
    )
    return load_file(folder / "result.safetensors")


def close(model: Decoder, weights: dict[str, torch.Tensor], tolerance: float) -> bool:
    return all(torch.allclose(p, weights[name], rtol=0, atol=tolerance) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("count", "parallel", "optimiser"),
    [
        (2, {}, "muon"),
        (2, {"fsdp": 2}, "adamw"),
        (2, {"fsdp": 2}, "muon"),
        (2, {"tp": 2}, "muon"),
        pytest.param(4, {"dp": 2, "fsdp": 2}, "muon", marks=pytest.mark.slow),
        pytest.param(4, {"fsdp": 2, "tp": 2}, "muon", marks=pytest.mark.slow),
    ],
)
def test_copies_and_pieces_give_the_result_of_one_process(
    tmp_path: Path, count: int, parallel: dict[str, int], optimiser: str
) -> None:
    alone = train(tmp_path / "alone", {}, {"optimiser": optimiser})
    assert alone is not None
    found = together(tmp_path / "many", count, parallel, optimiser=optimiser)
    # Newton-Schulz runs in bf16: a sum made in another order may move a result by a unit in the last place.
    assert close(alone, found, 2e-4 if optimiser == "adamw" else 2e-3)
    assert losses(tmp_path / "alone") == pytest.approx(losses(tmp_path / "many"), rel=1e-4)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((2, {"fsdp": 2}), (1, {})),
        ((1, {}), (2, {"tp": 2})),
        pytest.param((4, {"fsdp": 2, "tp": 2}), (2, {"tp": 2}), marks=pytest.mark.slow),
        pytest.param((2, {"tp": 2}), (4, {"dp": 2, "fsdp": 2}), marks=pytest.mark.slow),
    ],
)
def test_a_run_continues_with_another_number_of_processes(
    tmp_path: Path, first: tuple[int, Any], then: tuple[int, Any]
) -> None:
    alone = train(tmp_path / "alone", {}, {"optimiser": "adamw"})
    together(tmp_path / "run", *first, optimiser="adamw", cut=True)
    found = together(tmp_path / "run", *then, optimiser="adamw")
    assert alone is not None and close(alone, found, 2e-4)
    assert losses(tmp_path / "alone") == pytest.approx(losses(tmp_path / "run"), rel=1e-5)


@pytest.mark.parametrize(
    "parallel",
    [{"fsdp": 2}, pytest.param({"dp": 2}, marks=pytest.mark.slow), pytest.param({"tp": 2}, marks=pytest.mark.slow)],
)
def test_two_processes_killed_and_started_again_end_with_the_same_bits(
    tmp_path: Path, parallel: dict[str, int]
) -> None:
    straight = together(tmp_path / "straight", 2, parallel)
    with pytest.raises(multiprocessing.ProcessExitedException):
        together(tmp_path / "killed", 2, parallel, kill=True, background=False)
    found = together(tmp_path / "killed", 2, parallel)
    assert all(torch.equal(found[name], tensor) for name, tensor in straight.items())
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


def test_averaged_weights_and_the_best_ones_are_put_together_from_pieces(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", {}, {"optimiser": "adamw", "ema": 0.9})
    found = together(tmp_path / "many", 2, {"fsdp": 2}, optimiser="adamw", ema=0.9)
    assert alone is not None and close(alone, found, 2e-4)


def test_processes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(LuhuoError, match="divide"):
        spread(initialise(Decoder(CONFIG), 0), Parallel(fsdp=3))
