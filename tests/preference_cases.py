"""Small units and objectives for the tests of preference optimisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luhuo.align.preference.cpo import CPO
from luhuo.align.preference.dpo import DPO
from luhuo.align.preference.judged import mismatched
from luhuo.align.preference.kto import KTO, PLANE
from luhuo.align.preference.orpo import ORPO
from luhuo.align.preference.reference import live
from luhuo.align.preference.rrhf import RRHF
from luhuo.align.preference.simpo import SimPO
from luhuo.align.preference.units import UnitLoader, Units
from luhuo.dialogue.render import Rendered
from luhuo.model.decoder import Decoder
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch
from luhuo.train.ranks import Ranks
from tests.small_chat import small_model

OBJECTIVES: dict[str, Callable[[], Any]] = {
    "dpo": lambda: DPO("sigmoid", reference=live(another_model())),
    "cdpo with sft": lambda: DPO("sigmoid", label_smoothing=0.1, sft=0.5, reference=live(another_model())),
    "robust": lambda: DPO("robust", label_smoothing=0.1, reference=live(another_model())),
    "hinge": lambda: DPO("hinge", reference=live(another_model())),
    "ipo": lambda: DPO("ipo", reference=live(another_model())),
    "odpo": lambda: DPO("sigmoid", margin_weight=0.5, reference=live(another_model())),
    "kto": lambda: KTO(beta=0.3, undesirable=1.3, reference=live(another_model())),
    "orpo": lambda: ORPO(),
    "simpo": lambda: SimPO(),
    "cpo": lambda: CPO(),
    "rrhf": lambda: RRHF(),
}


def model() -> Decoder:
    """The policy."""
    return small_model()


def another_model() -> Decoder:
    """What it is compared with."""
    other = small_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1.05
    return other


def sequences(count: int, seed: int = 0) -> list[Rendered]:
    """Random prompts and answers of different lengths; two in a row have one prompt."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(-(-count // 2)):
        prompt = chance.integers(5, 300, int(chance.integers(2, 9))).tolist()
        for _ in range(2):
            answer = chance.integers(5, 300, int(chance.integers(2, 12))).tolist()
            found.append(Rendered(prompt + answer, [0] * len(prompt) + [1] * len(answer)))
    return found[:count]


def units_for(objective: Any, count: int = 8) -> Units:
    """Units of the kind the objective reads."""
    units = Units()
    if isinstance(objective, KTO):
        answers = sequences(count)
        for one in answers:
            units.add([one])
        units.numbers["label"] = (np.arange(count) % 3 == 0).astype(np.float32)
        units.planes[PLANE] = mismatched(answers, 100, 0)
    elif isinstance(objective, RRHF):
        answers = sequences(3 * count)
        for k in range(count):
            units.add(answers[3 * k : 3 * k + 3])
        units.numbers["score"] = np.random.default_rng(1).random(3 * count).astype(np.float32)
        best = np.zeros((count, 3), dtype=np.float32)
        best[np.arange(count), units.numbers["score"].reshape(count, 3).argmax(1)] = 1
        units.numbers["best"] = best.flatten()
    else:
        answers = sequences(2 * count)
        for k in range(count):
            units.add(answers[2 * k : 2 * k + 2])
        units.numbers["margin"] = np.repeat(np.random.default_rng(1).random(count), 2).astype(np.float32)
    return units


def batch_of(units: Units, length: int = 64, rank: int = 0, world: int = 1, pad_id: int = 1) -> Batch:
    """All units in one batch."""
    loader = UnitLoader(units, batch=len(units), length=length, seed=0, pad_id=pad_id, rank=rank, world=world)
    return {name: torch.from_numpy(array) for name, array in loader.assemble(range(len(units))).items()}


def learned(objective: Any, batch: Batch, rows: int = 0) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Gradients by name, and mean loss and metrics, of one step of this process's batch."""
    policy = model().train()
    with torch.no_grad():
        batch = objective.prepare(policy.eval(), batch)
    policy.train()
    ranks = Ranks()
    gradients = Gradients(policy, objective, ranks, rows)
    weight, total = gradients.compute(batch, 1)
    gradients.reduce(0)
    means = {name: (ranks.sum(value) / weight).item() for name, value in total.items()}
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}, means


def same_step(one: tuple[dict[str, Tensor], Any], other: tuple[dict[str, Tensor], Any]) -> bool:
    """Whether two steps have equal gradients, losses and metrics, but for the order of additions."""
    near = [
        torch.allclose(one[0][name], g, rtol=1e-4, atol=1e-5 * float(g.abs().max())) for name, g in other[0].items()
    ]
    numbers = [abs(one[1][name] - value) <= 1e-5 + 1e-4 * abs(value) for name, value in other[1].items()]
    return one[0].keys() == other[0].keys() and all(near) and all(numbers)
