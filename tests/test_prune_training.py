"""Zeros in training: they stay exactly zero under every optimiser, more come along a cubic curve, runs resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo.core.artifact import Workspace
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.kernels.sparsity import Pattern, kept_of_pattern, kept_of_share
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers.groups import sort_parameters
from luhuo.train.sparsity import cubic
from luhuo.train.sparsity_config import Sparsity
from luhuo.train.trainer import Trainer
from tests.golden import PLAIN, Corpus
from tests.test_train_parallel import close, together, train

STEPS = 12


def dense_model() -> Decoder:
    """A small model of random weights, none of them zero."""
    model = initialise(Decoder(ModelConfig.parse(PLAIN)), 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sort_parameters(model)["matrices"].values():
            parameter.normal_(0, 0.1, generator=generator)
    return model


def pruned_model(sparsity: float = 0.5) -> Decoder:
    """The same, each matrix with its smallest weights at zero."""
    model = dense_model()
    with torch.no_grad():
        for parameter in sort_parameters(model)["matrices"].values():
            parameter.mul_(kept_of_share(parameter.abs(), sparsity, "matrix"))
    return model


def trainer_of(model: Decoder, folder: Path, sparsity: dict[str, Any], **changes: Any) -> Trainer:
    values = {"steps": STEPS, "learning_rate": 1e-2, "dtype": "fp32", "checkpoint_every_s": 0, "sparsity": sparsity}
    folder.mkdir(parents=True, exist_ok=True)
    config = TrainerConfig.parse(values | changes)
    return Trainer(model, CausalLM(), Corpus(), config, Workspace(folder, MetricsLog(folder / "metrics.jsonl")))


def zeros(model: Decoder) -> dict[str, torch.Tensor]:
    return {name: p.detach() == 0 for name, p in sort_parameters(model)["matrices"].items()}


@pytest.mark.parametrize("optimiser", ["muon", "adamw", "lion", "adafactor", "adamw8"])
def test_zeros_stay_zero_and_nothing_else_does(optimiser: str, tmp_path: Path) -> None:
    model = pruned_model()
    before, weights = zeros(model), {n: p.detach().clone() for n, p in model.named_parameters()}
    trainer_of(model, tmp_path, {"keep": True}, optimiser=optimiser, weight_decay=0.5, ema=0.9).run()
    for name, was in before.items():
        assert torch.equal(zeros(model)[name], was), name
        assert not torch.equal(model.get_parameter(name), weights[name]), name


def test_without_keep_the_zeros_fill_up(tmp_path: Path) -> None:
    model = pruned_model()
    trainer_of(model, tmp_path, {}).run()
    assert not any(bool(was.any()) for was in zeros(model).values())


def test_the_gradients_of_zeros_count_in_no_norm(tmp_path: Path) -> None:
    """The norm that is clipped is the one of what is trained."""
    trainer = trainer_of(pruned_model(), tmp_path, {"keep": True}, clip=0.0)
    batch = trainer._tensors(next(iter(Corpus())))
    trainer.gradients.compute(batch, 1)
    whole = trainer.gradients.reduce(0.0)
    trainer.state.zeros.hide()
    rest = sum(float(p.grad.double().square().sum()) for p in trainer.model.parameters() if p.grad is not None) ** 0.5
    hidden = trainer.gradients.reduce(0.0)
    assert hidden == pytest.approx(rest, rel=1e-5)
    assert hidden < 0.99 * whole


def test_zeros_come_along_the_cubic_curve(tmp_path: Path) -> None:
    model = dense_model()
    sparsity = {"final": 0.8, "begin": 0.25, "end": 0.75, "every": 1}
    trainer = trainer_of(model, tmp_path, sparsity)
    trainer.run()
    rows = trainer.out.metrics.read()
    told = [row.get("zeros", 0.0) for row in rows]
    expected = [0.8 * cubic((step - 3) / 6) for step in range(1, STEPS + 1)]
    assert told == pytest.approx(expected, abs=2e-3)
    assert told[-1] == pytest.approx(0.8, abs=1e-3)
    for name, was in zeros(model).items():
        assert was.float().mean().item() == pytest.approx(0.8, abs=1e-3), name


def test_a_pattern_is_reached_and_holds_in_every_group(tmp_path: Path) -> None:
    model = dense_model()
    trainer_of(model, tmp_path, {"pattern": "2:4", "end": 1.0, "every": 2}, ema=0.8).run()
    for was in zeros(model).values():
        assert bool((was.unflatten(-1, (-1, 4)).sum(-1) == 2).all())


def test_an_interrupted_run_of_growing_zeros_goes_on_bit_by_bit(tmp_path: Path) -> None:
    sparsity = {"final": 0.6, "begin": 0.1, "end": 0.9, "every": 2}
    whole = dense_model()
    trainer_of(whole, tmp_path / "whole", sparsity).run()

    cut = trainer_of(dense_model(), tmp_path / "cut", sparsity)
    step = cut._step
    cut._step = lambda batch: (setattr(cut.stop, "asked", cut.step == 6), step(batch))[1]
    with pytest.raises(Interrupted):
        cut.run()
    model = dense_model()
    trainer_of(model, tmp_path / "cut", sparsity).run()
    for (name, ours), theirs in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_keeping_zeros_where_there_are_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="no zeros to keep"):
        trainer_of(dense_model(), tmp_path, {"keep": True})


def test_a_pattern_that_does_not_divide_a_matrix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="do not divide the matrix"):
        trainer_of(dense_model(), tmp_path, {"pattern": "2:5"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"final": 1.0}, "final"),
        ({"begin": 0.5, "end": 0.4}, "behind begin"),
        ({"pattern": "half"}, "N:M"),
        ({"final": 0.5, "pattern": "2:4"}, "not both"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LuhuoError, match=message):
        Sparsity.parse(values)


def test_growing_zeros_need_whole_matrices() -> None:
    with pytest.raises(LuhuoError, match="whole matrices"):
        TrainerConfig.parse({"steps": 1, "sparsity": {"final": 0.5}, "parallel": {"fsdp": 2}})


@pytest.mark.parametrize("text", ["4:4", "0:4", "3:2", "2-4", "", "2:4:8"])
def test_a_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LuhuoError, match="no pattern"):
        Pattern.parse(text)


def test_masks_keep_the_highest_scores() -> None:
    scores = torch.rand(6, 24, generator=torch.Generator().manual_seed(3))
    groups = scores.unflatten(-1, (-1, 4)).masked_fill(
        ~kept_of_pattern(scores, Pattern(2, 4)).unflatten(-1, (-1, 4)), 0
    )
    assert torch.equal(groups.sum(-1), scores.unflatten(-1, (-1, 4)).topk(2).values.sum(-1))
    by_row, by_matrix = kept_of_share(scores, 0.25), kept_of_share(scores, 0.25, "matrix")
    assert by_row.sum(-1).tolist() == [18] * 6
    assert int(by_matrix.sum()) == 108
    assert scores[by_matrix].min() > scores[~by_matrix].max()


def test_equal_scores_are_broken_by_place() -> None:
    assert kept_of_pattern(torch.ones(1, 4), Pattern(2, 4)).tolist() == [[True, True, False, False]]
    assert kept_of_share(torch.ones(1, 4), 0.75).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize(
    "parallel",
    [{"fsdp": 2}, pytest.param({"tp": 2}, marks=pytest.mark.slow), pytest.param({"dp": 2}, marks=pytest.mark.slow)],
    ids=str,
)
def test_zeros_are_kept_in_pieces_of_the_weights_too(parallel: dict[str, int], tmp_path: Path) -> None:
    """Processes that hold pieces end with the zeros, and the weights, of one process."""
    settings = {"optimiser": "adamw", "sparsity": {"keep": True}}
    alone = train(tmp_path / "alone", {}, settings)
    found = together(tmp_path / "many", 2, parallel, **settings)
    assert alone is not None
    assert close(alone, found, 2e-4)
    for name, was in zeros(alone).items():
        assert torch.equal(found[name] == 0, was), name
    assert any(bool(was.any()) for was in zeros(alone).values())
