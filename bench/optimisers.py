"""What an update costs: memory of the state, temporaries, and time, for every optimiser.

    python bench/optimisers.py [--shape small|smollm2] [--steps 3] [--optimisers muon,adamw,…]

One thread. Gradients are given (random); only the update runs. `processor` is the processor time of this process, so a
busy machine disturbs it little. `temporaries` is the largest memory allocated at one time during a step, by PyTorch's
profiler. AdamW is also timed as `torch.optim.AdamW` with `foreach` and with neither, over the same parameters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from train_step import SHAPES

from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.optimisers import Optimiser

OPTIMISERS = ("adamw", "adamw8", "lion", "lion8", "adafactor", "muon")


def processor_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median processor time of a call, after one to warm up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def temporaries(work: Callable[[], object]) -> int:
    """Largest number of bytes allocated at one time during a call, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    kineto = seen.profiler.kineto_results  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in kineto.events() if event.name() == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--optimisers", default=",".join(OPTIMISERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = initialise(Decoder(SHAPES[options.shape][0]), 0)
    parameters = list(model.parameters())
    count = sum(p.numel() for p in parameters)
    for p in parameters:
        p.grad = torch.randn_like(p) * 1e-3
    print(f"{options.shape}: {count:,} parameters")
    print(f"{'':22}{'processor ms':>13}{'state B/parameter':>19}{'temporaries MB':>16}")
    for name in options.optimisers.split(","):
        optimiser = Optimiser(model, TrainerConfig(steps=1, optimiser=name, learning_rate=1e-5))
        _tell(name, partial(optimiser.step, 1.0), optimiser.state_bytes() / count, options.steps)
    for name, foreach in (("torch AdamW, foreach", True), ("torch AdamW, single", False)):
        theirs = torch.optim.AdamW(parameters, 1e-5, foreach=foreach, fused=False)
        _tell(name, theirs.step, None, options.steps)


def _tell(name: str, work: Callable[[], object], state: float | None, steps: int) -> None:
    seconds = processor_seconds(work, steps)
    told = "" if state is None else f"{state:.2f}"
    print(f"{name:22}{seconds * 1e3:13.1f}{told:>19}{temporaries(work) / 1e6:16.1f}")


if __name__ == "__main__":
    main()
