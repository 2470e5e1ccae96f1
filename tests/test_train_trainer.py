"""The training loop: the same result for any split, exact resume, and no step with a loss that is not finite."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing

from luhuo.core.artifact import Workspace
from luhuo.core.errors import Interrupted, RunFailed
from luhuo.core.metrics import MetricsLog
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer
from tests.test_model_decoder import CONFIG

ROWS, LENGTH = 4, 30


class SmallLoader:
    """Batches that depend on the step only, with documents of different lengths; a signal may come with one."""

    def __init__(self, rank: int = 0, world: int = 1, signals: dict[int, int] | None = None) -> None:
        self.step, self.rows, self.signals = 0, slice(rank, None, world), signals or {}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            if self.step in self.signals:
                os.kill(os.getpid(), self.signals[self.step])
            random = np.random.default_rng(self.step)
            ids = random.integers(0, CONFIG.vocab_size, (ROWS, LENGTH + 1))
            segments = np.cumsum(random.random(ids.shape) < 0.1, 1).astype(np.int32)
            self.step += 1
            yield {"ids": ids[self.rows], "segments": segments[self.rows]}

    def state(self) -> dict[str, Any]:
        return {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def train(folder: Path, loader: SmallLoader | None = None, **settings: Any) -> Decoder:
    """A small run in `folder`; returns the trained model."""
    folder.mkdir(exist_ok=True, parents=True)
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    model = initialise(Decoder(CONFIG), 0)
    config = TrainerConfig(**{"steps": 8, "dtype": "fp32", "checkpoint_every_s": 0, **settings})
    Trainer(model, CausalLM(), loader or SmallLoader(), config, out).run()
    return model


def same(one: Decoder, other: Decoder, tolerance: float = 0.0) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in MetricsLog(folder / "metrics.jsonl").read()]


def test_the_result_is_equal_for_any_micro_batch_split(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", optimiser="adamw")
    for rows in (1, 3):
        split = train(tmp_path / str(rows), micro_batch=rows, optimiser="adamw")
        assert same(whole, split, 2e-4)
        assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / str(rows)), rel=1e-4)


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = train(folder / f"rank{rank}", SmallLoader(rank, 2), optimiser="adamw")
    save_file({name: p.detach() for name, p in model.named_parameters()}, folder / f"rank{rank}.safetensors")
    distributed.destroy_process_group()


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", optimiser="adamw")
    multiprocessing.start_processes(_rank, (tmp_path,), nprocs=2, start_method="spawn")
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.allclose(p, first[name], rtol=0, atol=2e-4) for name, p in alone.named_parameters())
    assert losses(tmp_path / "alone") == pytest.approx(losses(tmp_path / "rank0"), rel=1e-4)
    assert not losses(tmp_path / "rank1")


def test_training_lowers_the_loss_on_a_repeated_batch(tmp_path: Path) -> None:
    class Same(SmallLoader):
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            batch = next(super().__iter__())
            while True:
                yield batch

    for optimiser in ("muon", "adamw"):
        train(tmp_path / optimiser, Same(), steps=30, optimiser=optimiser, learning_rate=0.01)
        assert losses(tmp_path / optimiser)[-1] < 0.7 * losses(tmp_path / optimiser)[0]


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_killed_at_any_step_and_resumed_the_weights_are_byte_identical(tmp_path: Path, optimiser: str) -> None:
    straight = train(tmp_path / "straight", optimiser=optimiser)
    program = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(int(sys.argv[3]));"
        "from tests.test_train_trainer import SmallLoader, train;"
        "train(Path(sys.argv[1]), SmallLoader(signals={5: 9}), checkpoint_every=2, optimiser=sys.argv[2])"
    )
    arguments = [str(tmp_path / "cut"), optimiser, str(torch.get_num_threads())]
    killed = subprocess.run([sys.executable, "-c", program, *arguments], cwd=Path(__file__).parents[1], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert MetricsLog(tmp_path / "cut" / "metrics.jsonl").read()[-1]["step"] == 5
    resumed = train(tmp_path / "cut", checkpoint_every=2, optimiser=optimiser)
    assert same(straight, resumed)
    assert losses(tmp_path / "straight") == losses(tmp_path / "cut")


def test_a_signal_saves_and_the_next_run_goes_on_exactly(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight")
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(Interrupted):
            train(tmp_path / number.name, SmallLoader(signals={3: number}))
        assert same(straight, train(tmp_path / number.name))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    straight = train(tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", SmallLoader(signals={5: signal.SIGTERM}), checkpoint_every=2)
    newest = sorted((tmp_path / "cut" / ".checkpoint").glob("step-*"))[-1] / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    assert same(straight, train(tmp_path / "cut"))
    assert "damaged" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_before_the_weights_move(tmp_path: Path) -> None:
    class Poisoned(CausalLM):
        def loss(self, model: Decoder, batch: dict[str, torch.Tensor]) -> tuple:
            total, weight, metrics = super().loss(model, batch)
            return total * (torch.nan if int(batch["ids"][0, 0]) == poison else 1.0), weight, metrics

    loader = SmallLoader()
    loader.restore({"step": 4})
    poison = int(next(iter(loader))["ids"][0, 0])
    out = Workspace(tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))
    model = initialise(Decoder(CONFIG), 0)
    config = TrainerConfig(steps=8, dtype="fp32")
    with pytest.raises(RunFailed, match="step 5"):
        Trainer(model, Poisoned(), SmallLoader(), config, out).run()
    assert all(p.isfinite().all() for p in model.parameters())
    assert same(train(tmp_path), train(tmp_path / "straight"))  # what was saved goes on as if nothing had happened


def test_metrics_tell_rate_and_utilisation(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    rows = MetricsLog(tmp_path / "metrics.jsonl").read()
    assert [row["step"] for row in rows] == [1, 2]
    assert all({"loss", "lr", "grad_norm", "tokens", "tokens_per_s", "mfu"} <= set(row) for row in rows)
    assert rows[-1]["tokens"] == 2 * ROWS * LENGTH
