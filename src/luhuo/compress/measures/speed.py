"""Tokens a second of models in turn, one stream each: reading a prompt, and writing.

Rates of one model move with whatever else the machine does; those of two models that take turns move together. So a
compressed model runs in turn with its original, and what counts is the ratio of each turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from luhuo.compress.measures.other_work import OtherWork
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder

SHORT = 8
"""Tokens of the prompt before writing."""


@dataclass(frozen=True)
class Speed:
    """Medians over the turns, tokens a second."""

    prefill: float
    decode: float
    prefill_ratios: list[float]
    """Of each turn, over the first model's."""
    decode_ratios: list[float]


@dataclass(frozen=True)
class Speeds:
    """Of each model, and what else the machine did meanwhile."""

    models: dict[str, Speed]
    prompt: int
    new: int
    threads: int
    other_share: float | None
    drift: float
    beside_other_work: bool


def speeds(models: Mapping[str, Decoder], *, prompt: int = 512, new: int = 64, turns: int = 5) -> Speeds:
    """Measure models in turn, after one turn to warm up. The first one is what the others are compared with.

    prompt, new: tokens read and written, fewer where a context is shorter. Nothing is kept from one run to the next,
    no tokens are guessed.
    """
    room = min(model.config.max_positions for model in models.values())
    prompt, new = max(1, min(prompt, room - 2)), max(1, min(new, room - SHORT - 2))
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    with OtherWork() as work, Progress(tr("speed", "速度"), (turns + 1) * len(models), tr("runs", "次")) as progress:
        for turn in range(turns + 1):
            for name, model in models.items():
                found = _run(model, prompt, new, turn)
                if turn:
                    rates[name].append(found)
                progress.advance(note=name)
            work.look()
    first = next(iter(rates.values()))
    return Speeds(
        {name: _speed(found, first) for name, found in rates.items()},
        prompt,
        new,
        torch.get_num_threads(),
        work.share,
        work.drift,
        work.noticed,
    )


def _speed(found: list[tuple[float, float]], first: list[tuple[float, float]]) -> Speed:
    ratios = [(p / p0, d / d0) for (p, d), (p0, d0) in zip(found, first, strict=True)]
    return Speed(
        statistics.median(p for p, _ in found),
        statistics.median(d for _, d in found),
        [p for p, _ in ratios],
        [d for _, d in ratios],
    )


def _run(model: Decoder, prompt: int, new: int, seed: int) -> tuple[float, float]:
    """Prefilled and decoded tokens a second."""
    first, whole = _seconds(model, SHORT, 1, seed), _seconds(model, SHORT, new + 1, seed)
    return prompt / _seconds(model, prompt, 1, seed), new / max(whole - first, 1e-9)


def _seconds(model: Decoder, length: int, count: int, seed: int) -> float:
    ids = torch.randint(model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    engine = Engine(model, prefix_cache=False, speculate="never")
    sampling = Sampling(max_tokens=count, temperature=0.0, ignore_eos=True)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    start = time.perf_counter()
    engine.generate([ids], sampling)
    return time.perf_counter() - start
