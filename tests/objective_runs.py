"""Small shards, tokenizers and pretraining runs for the tests of objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.corpus.rows import RowLoader
from luhuo.corpus.shards import ShardWriter
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train
from luhuo.train import pretraining
from luhuo.train.config import TrainerConfig
from luhuo.train.denoising.setup import prepare, source
from luhuo.train.stages import PretrainStage
from luhuo.train.trainer import Trainer

NAMES = ("Ann", "Bo", "Cai", "Dora", "Emil")
TEXTS = [
    f"{name} has {count} lamps and {count + 2} books. She reads at night. {name}有{count}盏灯。她晚上读书。"
    for name in NAMES
    for count in range(40)
]
OBJECTIVES: dict[str, dict[str, Any]] = {
    "masked": {"objective": "masked"},
    "masked pairs": {
        "objective": "masked",
        "masked": {"layout": "bert", "relation": "next", "whole_words": True, "rate": 0.15},
    },
    "span": {"objective": "span"},
    "span mixture": {"objective": "span", "span": {"mixture": True}},
    "infilling": {"objective": "infilling"},
    "prefix": {"objective": "prefix"},
    "fim": {"objective": "fim"},
}
"""By name: the settings of a stage."""
SMALL: dict[str, Any] = {"size": "40k", "length": 48, "batch": 192, "steps": 6, "dtype": "fp32", "threads": 1,
                         "device": "cpu", "optimiser": "adamw"}  # fmt: skip


def material(root: Path) -> dict[str, str]:
    """A small tokenizer, and shards of TEXTS."""
    tokenizer = train(TEXTS, vocab_size=340)
    tokenizer.save(root / "tokenizer")
    write_shards(root / "shards", tokenizer)
    return {"tokenizer": str(root / "tokenizer"), "shards": str(root / "shards")}


def write_shards(folder: Path, tokenizer: Tokenizer, texts: list[str] | None = None) -> None:
    """Shards of `texts`, all of them for training, every eighth held out too."""
    texts = texts or TEXTS
    for split, some in (("train", texts), ("valid", texts[1::8])):
        writer = ShardWriter(folder / split, tokenizer, 2**20)
        for text in some:
            writer.add({"text": text, "lang": "en", "source": "lamps"}, [*tokenizer.encode(text), tokenizer.eos_id])
        writer.close()


def stage(given: dict[str, str], name: str, **values: Any) -> PretrainStage:
    """A small stage with the settings of one objective."""
    return PretrainStage.parse({**given, **SMALL, **OBJECTIVES.get(name, {}), **values})


def rows_of(settings: PretrainStage, **values: Any) -> RowLoader:
    """The loader of a stage's training rows."""
    length = settings.length or 48
    prepared = prepare(settings, Tokenizer.load(settings.tokenizer), length)
    rows = source(settings, prepared, Path(settings.shards) / "train", length, 3)
    return RowLoader(rows, **{"batch": 4, **values})


def run(settings: PretrainStage, folder: Path, *, rank: int = 0, world: int = 1, **values: Any) -> Any:
    """Train as the stage does, with `values` in place of its trainer's; returns the model."""
    folder.mkdir(parents=True, exist_ok=True)
    model, plan, prepared = pretraining.build(settings, Tokenizer.load(settings.tokenizer))
    rows = max(1, plan.batch // plan.length // world)
    task = pretraining.task(settings, prepared, plan.length, rows, 6, rank, world)
    config = TrainerConfig(
        **{"steps": 6, "dtype": "fp32", "checkpoint_every_s": 0, "optimiser": "adamw", "learning_rate": 3e-3, **values}
    )
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    Trainer(model, task.objective, task.loader, config, out).run()
    return model


def losses(folder: Path) -> list[float]:
    """The losses that a run in `folder` logged."""
    return [row["loss"] for row in MetricsLog(folder / "metrics.jsonl").read() if "loss" in row]


def same_arrays(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two batches are equal."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
