"""The training loop: the same result for any split, exact resume, and no step with a loss that is not finite."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

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
from luhuo.train import checkpoint
from luhuo.train.checkpoint import read_last
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer
from luhuo.train.watchdog import Watchdog
from tests.test_model_decoder import CONFIG

ROWS, LENGTH = 4, 30
SMALL = {"steps": 8, "dtype": "fp32", "checkpoint_every_s": 0, "prefetch": 0}
"""Without a thread, so that a signal that comes with a batch falls into its step."""


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
    config = TrainerConfig(**{**SMALL, **settings})
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
    multiprocessing.start_processes(_rank, (tmp_path,), nprocs=2, start_method="forkserver")
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


class Poisoned(CausalLM):
    """The loss is multiplied by `factor` on the batches of these steps of `SmallLoader`."""

    def __init__(self, steps: set[int], factor: float) -> None:
        self.factor, self.firsts = factor, set()
        for step in steps:
            loader = SmallLoader()
            loader.restore({"step": step})
            self.firsts.add(tuple(next(iter(loader))["ids"][0, :8].tolist()))

    def loss(self, model: Decoder, batch: dict[str, torch.Tensor]) -> tuple:
        total, weight, metrics = super().loss(model, batch)
        bad = tuple(batch["ids"][0, :8].tolist()) in self.firsts
        return total * (self.factor if bad else 1.0), weight, metrics


def make(folder: Path, objective: CausalLM, loader: SmallLoader | None = None, **settings: Any) -> Trainer:
    folder.mkdir(exist_ok=True, parents=True)
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    config = TrainerConfig(**{**SMALL, **settings})
    return Trainer(initialise(Decoder(CONFIG), 0), objective, loader or SmallLoader(), config, out)


def test_a_batch_whose_loss_is_not_finite_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class Without(SmallLoader):
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            for batch in super().__iter__():
                if self.step != 5:
                    yield batch

    trainer = make(tmp_path / "poisoned", Poisoned({4}, torch.nan))
    trainer.run()
    assert "passed over" in capsys.readouterr().err
    assert same(trainer.model, train(tmp_path / "without", Without()))


def test_bad_losses_in_a_row_send_the_run_back_to_its_last_checkpoint_with_new_data(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    trainer = make(tmp_path, Poisoned({4, 5, 6, 7}, torch.nan), checkpoint_every=2, steps=6)
    trainer.run()
    told = capsys.readouterr().err
    assert told.count("passed over") == 3
    assert "back to the weights of step 4" in told
    assert [row["step"] for row in MetricsLog(tmp_path / "metrics.jsonl").read()] == [1, 2, 3, 4, 5, 6]
    assert trainer.loader.state() == {"step": 10}
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_a_run_whose_loss_stays_bad_stops_with_a_report_and_keeps_good_weights(tmp_path: Path) -> None:
    trainer = make(tmp_path, Poisoned(set(range(4, 60)), torch.inf), checkpoint_every=2, rollbacks=2)
    with pytest.raises(RunFailed, match="step 5") as caught:
        trainer.run()
    assert "2" in str(caught.value.found) and "learning_rate" in str(caught.value)
    kept = read_last(tmp_path / ".checkpoint")
    assert kept is not None and kept.step == 4
    assert all(kept.tensor("model", name).isfinite().all() for name in kept.names("model"))


def test_a_spike_is_passed_over_and_a_lasting_rise_is_taken_as_usual(tmp_path: Path) -> None:
    spiked = make(tmp_path / "spike", Poisoned({40}, 3.0), steps=50)
    spiked.run()
    assert spiked.loader.state() == {"step": 51}
    assert max(losses(tmp_path / "spike")) < 6
    risen = make(tmp_path / "rise", Poisoned(set(range(40, 200)), 3.0), steps=50, checkpoint_every=10)
    risen.run()
    assert risen.step == 50 and losses(tmp_path / "rise")[-1] > 9
    careless = make(tmp_path / "off", Poisoned({40}, 3.0), steps=50, spike=0)
    careless.run()
    assert careless.loader.state() == {"step": 50}


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried", "CUDA out of memory"])
def test_when_memory_runs_out_the_batch_is_split_and_the_result_is_the_same(tmp_path: Path, message: str) -> None:
    class Greedy(CausalLM):
        rows: ClassVar[list[int]] = []

        def loss(self, model: Decoder, batch: dict[str, torch.Tensor]) -> tuple:
            self.rows.append(len(batch["ids"]))
            total = super().loss(model, batch)
            if len(batch["ids"]) > 1:
                raise torch.OutOfMemoryError(message) if "CUDA" in message else RuntimeError(message)
            return total

    Greedy.rows.clear()
    trainer = make(tmp_path / "greedy", Greedy(), optimiser="adamw", steps=3)
    trainer.run()
    assert Greedy.rows[:6] == [4, 2, 1, 1, 1, 1]
    assert same(trainer.model, train(tmp_path / "split", micro_batch=1, optimiser="adamw", steps=3))
    with pytest.raises(RuntimeError, match="shape"):
        failing = CausalLM()
        failing.loss = lambda *_: (_ for _ in ()).throw(RuntimeError("shape"))  # type: ignore[method-assign]
        make(tmp_path / "other", failing).run()


def test_averaged_weights_become_the_result_and_survive_a_stop(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight", ema=0.5)
    assert not same(straight, train(tmp_path / "plain"))
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", SmallLoader(signals={5: signal.SIGTERM}), ema=0.5)
    assert same(straight, train(tmp_path / "cut", ema=0.5))


def test_the_weights_of_the_best_score_become_the_result(tmp_path: Path) -> None:
    scores = iter([3.0, 1.0, 2.0, 4.0])
    trainer = make(tmp_path / "best", CausalLM(), keep_best="score", eval_every=2)
    trainer.evaluate = lambda _: {"score": next(scores)}
    trainer.run()
    stopped = make(tmp_path / "four", CausalLM(), SmallLoader(signals={3: signal.SIGTERM}))
    with pytest.raises(Interrupted):
        stopped.run()
    assert same(trainer.model, stopped.model)


def test_the_batch_grows_without_losing_or_repeating_a_row(tmp_path: Path) -> None:
    class Counting(CausalLM):
        def __init__(self) -> None:
            self.seen: list[list[int]] = []

        def loss(self, model: Decoder, batch: dict[str, torch.Tensor]) -> tuple:
            self.seen.append(batch["ids"][:, 0].tolist())
            return super().loss(model, batch)

    objective = Counting()
    make(tmp_path / "straight", objective, steps=10, batch_warmup=0.8).run()
    assert [len(rows) for rows in objective.seen] == [1, 1, 2, 2, 2, 3, 3, 4, 4, 4]
    source = iter(SmallLoader())
    rows = [row for _ in range(7) for row in next(source)["ids"][:, 0].tolist()]
    assert [row for batch in objective.seen for row in batch] == rows[:26]
    cut = Counting()
    with pytest.raises(Interrupted):
        make(tmp_path / "cut", cut, SmallLoader(signals={2: signal.SIGTERM}), steps=10, batch_warmup=0.8).run()
    make(tmp_path / "cut", cut, steps=10, batch_warmup=0.8).run()
    assert cut.seen == objective.seen


def test_a_disk_that_fills_up_stops_the_run_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def full(tensors: dict, path: Path, *rest: Any) -> None:
        written.append(str(path))
        if len(written) > 4:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save_file(tensors, path, *rest)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunFailed, match="disk is full"):
        train(tmp_path, checkpoint_every=2)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / ".checkpoint").iterdir()] == ["step-000000002"]
    assert same(train(tmp_path, checkpoint_every=2), train(tmp_path / "straight"))


def test_a_watchdog_names_the_rank_that_is_behind(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with Watchdog(tmp_path, 1, 3, 0) as other, Watchdog(tmp_path, 0, 3, 0.2) as watchdog:
        other._written -= 10
        other.beat(7, "data")
        watchdog._written -= 10
        watchdog.beat(9, "step")
        time.sleep(1)
    told = capsys.readouterr().err
    assert "No progress" in told
    assert told.index("rank 2: never seen") < told.index("rank 1: step 7, data") < told.index("rank 0: step 9, step")


def _dying_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    loader = SmallLoader(rank, 2, signals={3: signal.SIGKILL} if rank else None)
    try:
        train(folder / "run", loader, checkpoint_every=2)
    except Interrupted as error:
        (folder / "told").write_text(str(error), encoding="utf-8")
        os._exit(0)


def test_when_a_rank_dies_the_others_stop_and_say_so(tmp_path: Path) -> None:
    context = multiprocessing.start_processes(
        _dying_rank, (tmp_path,), nprocs=2, start_method="forkserver", join=False
    )
    assert context is not None
    with pytest.raises(multiprocessing.ProcessExitedException):
        while not context.join(timeout=60, grace_period=30):
            pass
    assert "process of this run is gone" in (tmp_path / "told").read_text(encoding="utf-8")


def test_metrics_tell_rate_and_utilisation(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    rows = MetricsLog(tmp_path / "metrics.jsonl").read()
    assert [row["step"] for row in rows] == [1, 2]
    assert all({"loss", "lr", "grad_norm", "tokens", "tokens_per_s", "mfu"} <= set(row) for row in rows)
    assert rows[-1]["tokens"] == 2 * ROWS * LENGTH
