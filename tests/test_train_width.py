"""One step changes a model's activations equally much at every width, so that a learning rate can be carried over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser
from luhuo.train.optimisers.groups import group
from luhuo.train.schedule import factor
from tests.golden import Corpus

WORDS = 32


def of_width(width: int, *, tied: bool = True) -> Decoder:
    config = ModelConfig(
        vocab_size=WORDS,
        hidden_size=width,
        layers=2,
        heads=width // 16,
        kv_heads=width // 16,
        head_dim=16,
        intermediate_size=2 * width,
        tie_embeddings=tied,
    )
    return initialise(Decoder(config), 0).train()


def change(width: int, **settings: Any) -> tuple[float, float]:
    """Root mean square of what a step changes in the stream behind the last block, and in the logits (untied)."""
    model = of_width(width, tied=False)
    optimiser = Optimiser(model, TrainerConfig(**{"steps": 1, "learning_rate": 4e-3, **settings}))
    batch = {"ids": torch.from_numpy(next(iter(Corpus()))["ids"][:4])}
    seen: list[Tensor] = []
    model.blocks[-1].register_forward_hook(lambda *told: seen.append(told[2].detach()))
    logits = []
    for _ in range(4):
        with torch.no_grad():
            logits.append(model(batch["ids"][:, :-1]))
        loss, weight, _ = CausalLM().loss(model, batch)
        (loss / weight).backward()
        optimiser.step(1.0)
        model.zero_grad(set_to_none=True)
    stream = torch.stack(seen[::2])
    return tuple(torch.diff(s, dim=0).square().mean().sqrt().item() for s in (stream, torch.stack(logits)))  # type: ignore[return-value]


@pytest.mark.parametrize("settings", [{"optimiser": "muon"}, {"optimiser": "adamw"}], ids=["muon", "adamw"])
def test_with_a_base_width_a_step_changes_activations_equally_much_at_every_width(settings: dict[str, Any]) -> None:
    changes = [change(width, base_width=64, **settings) for width in (64, 128, 256, 512)]
    stream, logits = zip(*changes, strict=True)
    assert max(stream) < 2 * min(stream)
    assert max(logits) < 3 * min(logits)  # they begin larger in a wider model: rows of equal numbers, but more of them
    wild = [change(width, **settings)[1] for width in (64, 512)]
    assert wild[1] > 5 * wild[0]


def test_muons_spectral_scale_needs_no_transfer_of_the_matrices() -> None:
    changes = [change(width, muon_scale="spectral", learning_rate=0.02)[0] for width in (64, 256, 512)]
    assert max(changes) < 1.5 * min(changes)


def test_a_base_width_changes_the_rates_it_says_and_no_others() -> None:
    for optimiser, exponent in (("muon", 0.5), ("adamw", 1.0), ("lion8", 1.0), ("adafactor", 1.0)):
        for tied in (True, False):
            config = TrainerConfig(steps=1, optimiser=optimiser, base_width=64)
            plain = {each.name: each for each in group(of_width(256, tied=tied), TrainerConfig(steps=1))}
            moved = {each.name: each for each in group(of_width(256, tied=tied), config)}
            ratios = {name: each.rate / plain[name].rate for name, each in moved.items()}
            expected = {"matrices": 0.25**exponent, "vectors": 1.0, "embedding": 0.5 if tied else 1.0}
            assert ratios == pytest.approx(expected | ({} if tied else {"head": 0.25}))
            assert "(64/256)" in moved["matrices"].why


def pairs() -> Iterator[dict[str, Tensor]]:
    """Texts in which two words together say which comes next."""
    table = np.random.Generator(np.random.PCG64(7)).integers(0, WORDS, (WORDS, WORDS))
    step = 0
    while True:
        random = np.random.Generator(np.random.PCG64(step))
        ids, noise = random.integers(0, WORDS, (8, 33)), random.random((8, 33))
        for at in range(2, 33):
            ids[:, at] = np.where(noise[:, at] < 0.9, table[ids[:, at - 1] % 8, ids[:, at - 2] % 8], ids[:, at])
        step += 1
        yield {"ids": torch.from_numpy(ids)}


def reached(width: int, rate: float, optimiser: str, base_width: int) -> float:
    """The loss after sixty steps."""
    model = of_width(width)
    config = TrainerConfig(
        steps=60, optimiser=optimiser, learning_rate=rate, schedule="linear", warmup=0.1, base_width=base_width
    )
    moving, losses = Optimiser(model, config), []
    for step, batch in zip(range(60), pairs(), strict=False):
        loss, weight, _ = CausalLM().loss(model, batch)
        (loss / weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        moving.step(factor(step, config))
        model.zero_grad(set_to_none=True)
        losses.append((loss / weight).item())
    return sum(losses[-8:]) / 8


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_the_best_learning_rate_is_the_same_at_every_width(optimiser: str) -> None:
    rates = [2e-3, 4e-3, 8e-3, 16e-3, 32e-3] if optimiser == "adamw" else [4e-3, 8e-3, 16e-3, 32e-3, 64e-3]
    best = [
        min(range(len(rates)), key=lambda i, width=width: reached(width, rates[i], optimiser, 64))
        for width in (64, 128, 256)
    ]
    assert max(best) - min(best) <= 1, "neighbouring rates differ by a factor of two"
