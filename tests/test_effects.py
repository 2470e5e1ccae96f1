"""Effects against a control, over several seeds (make test-slow)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer

pytestmark = pytest.mark.slow

CONFIG = ModelConfig.parse(
    {
        "vocab_size": 2000,
        "hidden_size": 192,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 64,
        "intermediate_size": 256,
    }
)


class RepeatedLines:
    """Random lines of 20 to 60 tokens, written again and again until a row is full."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            line = self._random.integers(CONFIG.vocab_size, size=(8, self._random.integers(20, 60)))
            yield {"ids": np.tile(line, 10)[:, :193].astype(np.int64)}

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        assert not state


def without_circuit(model: Decoder, seed: int) -> Decoder:
    """The same model with the attention of its first two layers started like the others."""
    plain = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    bound = math.sqrt(3 / CONFIG.hidden_size)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name.endswith("qkv.weight"):
                parameter.uniform_(-bound, bound, generator=generator)
            elif name.endswith("out.weight"):
                parameter.zero_()
    return plain


def loss_after(model: Decoder, seed: int, folder: Path) -> float:
    folder.mkdir()
    config = TrainerConfig(steps=100, dtype="fp32", schedule="constant", checkpoint_every_s=0)
    Trainer(model, CausalLM(), RepeatedLines(seed), config, Workspace(folder, MetricsLog(folder / "m.jsonl"))).run()
    ids = torch.from_numpy(next(iter(RepeatedLines(seed + 100)))["ids"])
    with torch.no_grad():
        losses = torch.log_softmax(model(ids[:, :-1]).float(), -1).gather(2, ids[:, 1:, None])
    return -losses[:, 64:].mean().item()


def test_the_copying_circuit_learns_to_copy_where_an_ordinary_start_does_not(tmp_path: Path):
    gains = []
    for seed in range(3):
        model = initialise(Decoder(CONFIG), seed)
        control = loss_after(without_circuit(model, seed), seed, tmp_path / f"control{seed}")
        gains.append(control - loss_after(model, seed, tmp_path / f"circuit{seed}"))
    print("nats gained:", [round(gain, 2) for gain in gains])
    assert min(gains) > 1.0
