"""Losses of fifty steps on a tiny corpus, one thread: a rearrangement of the code must not move them.

python -m tests.golden        records them in tests/golden_losses.json (after a change that is meant to move them)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.corpus.fragments import Fragment, Noise
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.load import MODELS
from luhuo.train.architectures import LAYOUTS
from luhuo.train.config import TrainerConfig
from luhuo.train.denoising.config import FimConfig, InfillingConfig, MaskedConfig, PrefixConfig, SpanConfig
from luhuo.train.denoising.fill_in_the_middle import FimFrame, FimNoise
from luhuo.train.denoising.infilling import InfillingFrame, InfillingNoise
from luhuo.train.denoising.masked_lm import MaskedFrame, MaskedNoise
from luhuo.train.denoising.prefix_lm import PrefixFrame, PrefixNoise
from luhuo.train.denoising.span_corruption import SpanFrame, SpanNoise
from luhuo.train.objective import CausalLM
from luhuo.train.pretraining import LOSSES
from luhuo.train.sizes import Shape
from luhuo.train.trainer import Trainer

FILE = Path(__file__).with_name("golden_losses.json")
STEPS, ROWS, LENGTH, WORDS = 50, 8, 32, 32
PLAIN: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
}
EXPERTS = {
    **PLAIN,
    "family": "deepseek_v3",
    "kv_heads": 4,
    "head_dim": 12,
    "qk_norm": "none",
    "mla": MLAConfig(q_rank=16, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=8),
    "moe": MoEConfig(
        experts=4, active=2, intermediate_size=32, shared_size=32, score="sigmoid", correction=True, dense_layers=(0,)
    ),
    "mtp_layers": 1,
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain, muon": (PLAIN, {}),
    "plain, adamw, averaged": (PLAIN, {"optimiser": "adamw", "ema": 0.9}),
    "plain, growing batch": (PLAIN, {"batch_warmup": 0.5, "schedule": "cosine"}),
    "latent attention, experts, two tokens": (EXPERTS, {"optimiser": "adamw"}),
}
"""By name: the model, and settings of the trainer."""
MASK, FIRST, LAST, GAP, BEGIN = range(WORDS, WORDS + 5)
SENTINELS = np.arange(WORDS + 5, WORDS + 13)
SMALL: dict[str, Any] = {"vocab_size": WORDS + 13, "pad_id": 0}
ENDS = np.arange(SMALL["vocab_size"]) % 8 == 0
OBJECTIVES: dict[str, tuple[str, dict[str, Any], Noise]] = {
    "masked": (
        "modernbert",
        {},
        MaskedNoise(LENGTH, MaskedFrame(FIRST, LAST, MASK, 0, np.arange(WORDS)), MaskedConfig()),
    ),
    "masked pairs": (
        "bert",
        {"head": "pretraining"},
        MaskedNoise(
            LENGTH,
            MaskedFrame(FIRST, LAST, MASK, 0, np.arange(WORDS)),
            MaskedConfig(layout="bert", relation="order"),
        ),
    ),
    "span": ("t5", {"start_id": 0}, SpanNoise(LENGTH, SpanFrame(SENTINELS, LAST, 0, 0, {}), SpanConfig())),
    "infilling": (
        "bart",
        {"start_id": LAST},
        InfillingNoise(LENGTH, InfillingFrame(FIRST, LAST, MASK, 0, LAST, ENDS), InfillingConfig()),
    ),
    "prefix": (
        "chatglm",
        {"prefix_end": BEGIN, "gap_ids": [GAP, MASK]},
        PrefixNoise(LENGTH, PrefixFrame(GAP, MASK, BEGIN, LAST, 0), PrefixConfig()),
    ),
    "fim": (
        "decoder",
        {},
        FimNoise(LENGTH, FimFrame(MASK, FIRST, GAP, LAST, 0), FimConfig(split="tokens")),
    ),
}
"""By name: the layout, fields of the model, and the noise. Their names in the file begin with `objective: `."""


ALL = [*CASES, *(f"objective: {name}" for name in OBJECTIVES)]


class Corpus:
    """Documents of a small language: each word says which comes next, with some noise."""

    def __init__(self) -> None:
        self.batch = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            random = np.random.Generator(np.random.PCG64(self.batch))
            ids = random.integers(0, WORDS, (ROWS, LENGTH + 1))
            noise = random.random(ids.shape)
            for at in range(1, LENGTH + 1):
                ids[:, at] = np.where(noise[:, at] < 0.9, (5 * ids[:, at - 1] + 7) % WORDS, ids[:, at])
            segments = np.cumsum(noise < 0.05, 1).astype(np.int32) + 1
            self.batch += 1
            yield {"ids": ids, "segments": segments}

    def state(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def restore(self, state: dict[str, Any]) -> None:
        self.batch = state["batch"]


class Noised:
    """The documents of a corpus, under the noise of an objective."""

    def __init__(self, noise: Noise) -> None:
        self.corpus, self.noise = Corpus(), noise

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self.corpus:
            rows = [self._row(batch["ids"][row], batch["segments"][row], row) for row in range(ROWS)]
            yield {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, ids: np.ndarray, segments: np.ndarray, number: int) -> dict[str, np.ndarray]:
        random = np.random.Generator(np.random.PCG64([self.corpus.batch, number]))
        room, fragments = list(self.noise.widths), []
        costs = self.noise.costs(LENGTH)
        for segment in np.unique(segments):
            text = ids[segments == segment]
            room = [space - cost[min(len(text), LENGTH)] for space, cost in zip(room, costs, strict=True)]
            if min(room) < 0:
                break
            fragments.append(Fragment(text, True))
        return self.noise.row(fragments or [Fragment(ids[: LENGTH - 4], True)], random)

    def state(self) -> dict[str, Any]:
        return self.corpus.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.corpus.restore(state)


def parts(name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Model, objective, loader and settings of the trainer of a case."""
    if name in CASES:
        shape, settings = CASES[name]
        return initialise(Decoder(ModelConfig(**shape)), 0), CausalLM(), Corpus(), settings
    kind = name.removeprefix("objective: ")
    layout, fields, noise = OBJECTIVES[kind]
    if layout == "decoder":
        config: Any = ModelConfig(**{**PLAIN, **SMALL, **fields})
    else:
        config = LAYOUTS[layout](2, 32, LENGTH, Shape(heads=4, intermediate_size=64), {**SMALL, **fields})
    model: Any = MODELS[type(config)](config)
    (initialise if isinstance(model, Decoder) else initialise_stack)(model, 0)
    return model, LOSSES.get(kind.split()[0], CausalLM)(), Noised(noise), {"learning_rate": 0.01}


def losses(name: str) -> list[float]:
    """The losses of one case, in fp32 on one thread."""
    model, objective, corpus, settings = parts(name)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Workspace(Path(folder), MetricsLog(Path(folder) / "metrics.jsonl"))
            config = TrainerConfig(
                **{"steps": STEPS, "learning_rate": 0.02, "dtype": "fp32", "checkpoint_every_s": 0, **settings}
            )
            Trainer(model, objective, corpus, config, out).run()
            return [row["loss"] for row in out.metrics.read()]
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, str]:
    """What has to be equal for the losses to be equal to the last digit."""
    return {"torch": torch.__version__.split("+")[0], "cpu": torch.backends.cpu.get_cpu_capability()}


def main() -> None:
    """Record the losses of this machine."""
    told = {"machine": machine(), "losses": {name: losses(name) for name in ALL}}
    FILE.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for name, values in told["losses"].items():
        print(f"{name}: {values[0]:.4f} to {values[-1]:.4f}")


if __name__ == "__main__":
    main()
