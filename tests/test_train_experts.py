"""Training models with experts and multi-token prediction: any split, exact resume, balance without a loss."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo.core.artifact import Workspace
from luhuo.core.errors import Interrupted
from luhuo.core.metrics import MetricsLog
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer
from tests import test_model_mtp
from tests.test_train_trainer import SmallLoader, losses, same

MOE = test_model_mtp.CONFIG.moe
assert MOE is not None
CONFIG = test_model_mtp.CONFIG.model_copy(
    update={"vocab_size": 97, "moe": MOE.model_copy(update={"balance": 0.1, "experts": 8})}
)


def train(folder: Path, loader: SmallLoader | None = None, **settings: Any) -> Decoder:
    folder.mkdir(exist_ok=True, parents=True)
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    model = initialise(Decoder(CONFIG), 0)
    config = TrainerConfig(**{"steps": 6, "dtype": "fp32", "checkpoint_every_s": 0, "balance_speed": 0.25, **settings})
    Trainer(model, CausalLM(), loader or SmallLoader(), config, out).run()
    return model


def corrections(model: Decoder) -> torch.Tensor:
    found = [layer.router.correction for layer in model.expert_layers()]
    return torch.stack([correction.detach() for correction in found if correction is not None])


def test_every_step_moves_the_corrections_by_the_speed(tmp_path: Path) -> None:
    moved = corrections(train(tmp_path, steps=5))
    assert moved.shape == (1 + CONFIG.mtp_layers, 8)
    steps = moved / 0.25
    assert torch.equal(steps, steps.round())
    assert steps.abs().max() <= 5
    assert (steps % 2 == 1).float().mean() > 0.8  # up or down, five times; only an expert with the mean load rests


def test_without_speed_they_stay(tmp_path: Path) -> None:
    assert not corrections(train(tmp_path, balance_speed=0.0)).any()


def test_the_result_is_equal_for_any_micro_batch_split(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", optimiser="adamw")
    for rows in (1, 3):
        split = train(tmp_path / str(rows), micro_batch=rows, optimiser="adamw")
        assert same(whole, split, 2e-4)
        assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / str(rows)), rel=1e-4)


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", SmallLoader(signals={3: signal.SIGTERM}))
    assert same(whole, train(tmp_path / "cut"))


def test_all_parts_of_the_loss_are_logged(tmp_path: Path) -> None:
    train(tmp_path)
    for row in MetricsLog(tmp_path / "metrics.jsonl").read():
        assert row["loss"] == pytest.approx(row["next_token"] + row["further_tokens"] + row["balance"], rel=1e-4)
