"""Invariants of preference optimisation: what a step learns does not depend on how its batch is laid out."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing

from luhuo.align.log_probs import sequence_sums, token_log_probs
from luhuo.align.preference.dpo import DPO
from luhuo.align.preference.kto import KTO
from luhuo.align.preference.objective import Pairs
from luhuo.align.preference.orpo import log_odds
from luhuo.align.preference.reference import add_references, answer_log_probs, live, weights_digest
from luhuo.align.preference.units import UnitLoader, Units
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.render import Rendered
from luhuo.train.ranks import Ranks
from tests.preference_cases import OBJECTIVES, another_model, batch_of, learned, model, same_step, sequences, units_for


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_gradient_and_metrics_are_equal_for_any_micro_batch_split(name: str) -> None:
    objective = OBJECTIVES[name]()
    units = units_for(objective)
    batch = batch_of(units, int(units.lengths().max()))
    rows = len(batch["ids"])
    assert rows >= 4
    whole = learned(objective, batch)
    assert any(gradient.any() for gradient in whole[0].values())
    for parts in (2, 4):
        assert same_step(learned(OBJECTIVES[name](), batch, rows=-(-rows // parts)), whole)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_packed_or_padded_is_the_same(name: str) -> None:
    objective = OBJECTIVES[name]()
    units = units_for(objective)
    alone, packed = batch_of(units, int(units.lengths().max())), batch_of(units, 512)
    assert len(alone["ids"]) > len(packed["ids"])
    assert same_step(learned(objective, packed), learned(objective, alone))


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_left_or_right_padding_is_the_same(name: str) -> None:
    objective = OBJECTIVES[name]()
    right = batch_of(units_for(objective), length=64)
    left = dict(right)
    for prefix in ("", "other_"):
        if f"{prefix}ids" in right:
            for row, segments in enumerate(right[f"{prefix}segments"]):
                empty = int((segments == 0).sum())
                for key in ("ids", "segments", "mask"):
                    moved = left.setdefault("moved " + prefix + key, right[prefix + key].clone())
                    moved[row] = right[prefix + key][row].roll(empty)
    left |= {key.removeprefix("moved "): left.pop(key) for key in list(left) if key.startswith("moved ")}
    assert (left["segments"][:, 0] == 0).any()
    assert same_step(learned(objective, left), learned(objective, right))


def test_padding_with_the_end_token_hides_no_target() -> None:
    objective = OBJECTIVES["dpo"]()
    units = Units()
    for one in range(4):
        chosen, rejected = sequences(2, seed=one)
        units.add([Rendered([*chosen.ids, 3], [*chosen.mask, 1]), Rendered([*rejected.ids, 3], [*rejected.mask, 1])])
    own, end = batch_of(units, pad_id=1), batch_of(units, pad_id=3)
    assert same_step(learned(objective, end), learned(objective, own))
    tokens = token_log_probs(model(), end)
    ends = (end["ids"][:, 1:] == 3) & (end["segments"][:, 1:] != 0)
    assert ends.sum() == 8 and (tokens[ends] < 0).all()


@pytest.mark.parametrize(
    ("kind", "expected"), [("sigmoid", math.log(2)), ("hinge", 1.0), ("ipo", 25.0), ("apo_zero", 1)]
)
@pytest.mark.parametrize("ahead", [True, False])
def test_the_first_loss_is_that_of_no_preference(tmp_path: Path, kind: Any, expected: float, ahead: bool) -> None:
    units = units_for(DPO())
    if ahead:
        add_references(model(), units, tmp_path, "weights", Ranks())
    objective = DPO(kind, reference=live(model()))
    means = learned(objective, batch_of(units))[1]
    assert means["loss"] == pytest.approx(expected, abs=1e-4)
    assert means["rewards.margin"] == pytest.approx(0, abs=1e-4)


def test_references_computed_ahead_are_those_of_a_frozen_copy_and_stay_when_cut_off(tmp_path: Path) -> None:
    units = units_for(DPO(), count=20)
    add_references(another_model(), units, tmp_path, "weights", Ranks())
    batch = batch_of(units)
    wanted = sequence_sums(token_log_probs(another_model(), batch), batch)
    torch.testing.assert_close(batch["reference"], wanted, rtol=1e-5, atol=1e-4)
    bare = {name: value for name, value in batch.items() if name != "reference"}
    assert same_step(learned(DPO(), batch), learned(DPO(reference=live(another_model())), bare))
    again = answer_log_probs(model(), units.store, tmp_path, "weights", Ranks())  # read, not computed by this model
    assert np.array_equal(again, units.numbers["reference"])
    other = answer_log_probs(model(), units.store, tmp_path, "other weights", Ranks())
    assert not np.array_equal(other, again)


def test_a_live_reference_is_not_trained() -> None:
    copy = another_model()
    before = weights_digest(copy)
    for name in ("sigmoid", "ipo"):
        learned(DPO(name, reference=live(copy)), batch_of(units_for(DPO())))
    assert weights_digest(copy) == before
    assert all(parameter.grad is None for parameter in copy.parameters())


def test_the_baseline_of_kto_is_over_the_global_batch_and_never_negative() -> None:
    objective = KTO(reference=live(another_model()))
    batch = batch_of(units_for(objective), length=40)
    policy = model()
    with torch.no_grad():
        prepared = objective.prepare(policy, dict(batch))
        others = {name.removeprefix("other_"): value for name, value in batch.items() if name.startswith("other_")}
        gains = [sequence_sums(token_log_probs(one, others), others).sum() for one in (policy, another_model())]
    expected = max(0.0, float(gains[0] - gains[1]) / 8)
    assert prepared["baseline"].tolist() == pytest.approx([expected] * len(batch["ids"]), rel=1e-4)
    assert not any(name.startswith("other_") for name in prepared)
    swapped = KTO(reference=live(model()))
    with torch.no_grad():
        flipped = swapped.prepare(another_model(), dict(batch))["baseline"]
    assert (flipped[0] == 0) == (expected > 0)


def test_kto_refuses_a_batch_of_one_answer() -> None:
    objective = KTO(reference=live(another_model()))
    with pytest.raises(LuhuoError, match="more than one answer"), torch.no_grad():
        objective.prepare(model(), batch_of(units_for(objective, count=1)))


def pair(chosen: float, rejected: float, margin: float = 0.0) -> Pairs:
    one = [torch.tensor([value]) for value in (chosen, rejected, 4.0, 8.0, -2.0, -3.0, margin)]
    return Pairs(*one)


def test_losses_are_those_computed_by_hand() -> None:
    """c = 0.5 and r = -1 beside the reference, so Δ = 1.5; β = 0.2."""
    given, sigma = pair(-1.5, -4.0, margin=2.0), lambda x: 1 / (1 + math.exp(-x))
    right, wrong = -math.log(sigma(0.3)), -math.log(sigma(-0.3))
    expected = {
        "sigmoid": 0.9 * right + 0.1 * wrong,
        "robust": (0.9 * right - 0.1 * wrong) / 0.8,
        "exo": sigma(0.3) * (-right - math.log(0.9)) + sigma(-0.3) * (-wrong - math.log(0.1)),
    }
    for kind, loss in expected.items():
        objective = DPO(kind, beta=0.2, label_smoothing=0.1)  # type: ignore[arg-type]
        assert objective.losses(given).item() == pytest.approx(loss, rel=1e-5)
    assert DPO("hinge", beta=0.2).losses(given).item() == pytest.approx(0.7)
    assert DPO("ipo", beta=0.2).losses(given).item() == pytest.approx((0.5 / 4 + 1 / 8 - 2.5) ** 2)
    assert DPO("apo_zero", beta=0.2).losses(given).item() == pytest.approx(1 - sigma(0.1) + sigma(-0.2))
    assert DPO("apo_down", beta=0.2).losses(given).item() == pytest.approx(sigma(0.1) + 1 - sigma(0.3))
    offset = DPO(beta=0.2, margin_weight=0.4).losses(given).item()
    assert offset == pytest.approx(-math.log(sigma(0.3 - 0.8)))
    normalised = DPO(beta=0.2, normalise=True).losses(given).item()
    assert normalised == pytest.approx(-math.log(sigma(0.2 * (0.5 / 4 + 1 / 8))))


def test_log_odds_are_finite_and_exact_at_both_ends() -> None:
    values = torch.tensor([-1e-3, -50.0, 0.0, math.log(0.5)], dtype=torch.float64)
    found = log_odds(values)
    assert found[0].item() == pytest.approx(-1e-3 - math.log(-math.expm1(-1e-3)), rel=1e-12)
    assert found[1].item() == pytest.approx(-50.0) and found[3].item() == pytest.approx(0.0, abs=1e-12)
    assert torch.isfinite(found).all()


def test_a_batch_has_so_many_units_however_they_are_packed_and_every_unit_comes_once_an_epoch() -> None:
    units = units_for(DPO(), count=10)
    loader = UnitLoader(units, batch=5, length=80, seed=3, pad_id=1)
    seen = []
    for _, batch in zip(range(2), loader, strict=False):
        assert int((batch["segments"].max(1) // 2).sum()) == 5
        seen += [row[row != 1].tolist() for row in batch["ids"]]
    texts = sorted(token for row in seen for token in row)
    assert texts == sorted(int(t) for k in range(20) for t in units.store.get(k)[0] if t != 1)


def test_a_loader_continues_where_its_state_says() -> None:
    units = units_for(DPO(), count=10)
    first, second = (UnitLoader(units, batch=4, length=80, seed=3, pad_id=1) for _ in range(2))
    stream = iter(first)
    for _ in range(3):
        next(stream)
    second.restore(first.state())
    assert np.array_equal(next(iter(second))["ids"], next(stream)["ids"])


def test_a_unit_longer_than_a_row_is_refused() -> None:
    with pytest.raises(LuhuoError, match="row") as caught:
        UnitLoader(units_for(DPO()), batch=2, length=8, seed=0, pad_id=1)
    assert caught.value.where == "length"


def _process(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name, make in OBJECTIVES.items():
        objective = make()
        gradients, means = learned(objective, batch_of(units_for(objective, count=7), rank=rank, world=2))
        if rank == 0:
            numbers = {f"mean {key}": torch.tensor(value) for key, value in means.items()}
            save_file(gradients | numbers, folder / f"{name}.safetensors")
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_and_metrics_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.start_processes(_process, (port, tmp_path), nprocs=2, start_method="forkserver")
    for name, make in OBJECTIVES.items():
        objective = make()
        found = load_file(tmp_path / f"{name}.safetensors")
        means = {key.removeprefix("mean "): value.item() for key, value in found.items() if key.startswith("mean ")}
        gradients = {key: value for key, value in found.items() if not key.startswith("mean ")}
        assert same_step((gradients, means), learned(objective, batch_of(units_for(objective, count=7)))), name
