"""Shares of sources found with small models: many short runs on drawn mixtures, a regression, and a check.

After RegMix (Liu et al. 2024, arXiv:2407.01492, section 3): small models are trained on mixtures drawn from Dirichlet
distributions; a regression predicts their held-out loss from the shares; the best of many drawn mixtures by that
prediction is taken. Here the regression is linear in the shares and their logarithms, with a ridge chosen by leaving
one run out, and what was found is trained beside the mixture by size and the even one, with new seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luhuo.core.artifact import Workspace, produce
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.core.seeds import derive_seed
from luhuo.corpus.shards import read_header

if TYPE_CHECKING:
    from luhuo.train.mixture_stages import MixtureSearchStage

FLOOR = 0.02
"""Added to a share before its logarithm is taken: a source that is left out has one too."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
DRAWS = 20_000
"""Mixtures whose loss is predicted."""
BEST = 64
"""The best of them are averaged: the very best is the luckiest error of the regression."""


@dataclass(frozen=True)
class Fit:
    """A ridge regression of losses on shares."""

    weights: np.ndarray
    ridge: float
    left_out: np.ndarray
    """What was predicted for each run by the regression on all others."""

    def predict(self, shares: np.ndarray) -> np.ndarray:
        """The loss of each row of shares. (runs, sources) -> (runs,)"""
        return features(shares) @ self.weights


def features(shares: np.ndarray) -> np.ndarray:
    """A constant, the shares and their logarithms. (runs, sources) -> (runs, 1 + 2 sources)"""
    return np.concatenate([np.ones((len(shares), 1)), shares, np.log(shares + FLOOR)], 1)


def fit(shares: np.ndarray, losses: np.ndarray) -> Fit:
    """The regression whose ridge predicts best what it was not shown.

    Leaving one out needs no second fit: with H = X (XᵀX + λI)⁻¹ Xᵀ the error is (y - Hy)ᵢ / (1 - Hᵢᵢ).
    """
    rows = features(shares)
    penalty = np.eye(rows.shape[1])
    penalty[0, 0] = 0  # the constant is free
    best: Fit | None = None
    for ridge in RIDGES:
        inverse = np.linalg.inv(rows.T @ rows + ridge * penalty)
        weights = inverse @ rows.T @ losses
        hat = np.einsum("ij,jk,ik->i", rows, inverse, rows)
        left_out = losses - (losses - rows @ weights) / np.maximum(1 - hat, 1e-9)
        found = Fit(weights, ridge, left_out)
        if best is None or np.mean((left_out - losses) ** 2) < np.mean((best.left_out - losses) ** 2):
            best = found
    assert best is not None
    return best


def draw(sizes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Mixtures around the one by size and around the even one, from far to near. (count, sources)"""
    generator = np.random.Generator(np.random.PCG64(seed))
    even = np.full(len(sizes), 1 / len(sizes))
    natural = sizes / sizes.sum()
    rows = []
    for number in range(count):
        centre = natural if number % 2 else even
        strength = np.exp(generator.uniform(np.log(0.5), np.log(5))) * len(sizes)
        rows.append(generator.dirichlet(np.maximum(centre * strength, 0.05)))
    return np.array(rows)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, without ties."""
    one, two = (np.argsort(np.argsort(values)).astype(float) for values in (first, second))
    one, two = one - one.mean(), two - two.mean()
    return float(one @ two / np.sqrt((one @ one) * (two @ two)))


class Search:
    """The runs of one search, each an artifact of its own, so that a search that was cut off goes on."""

    def __init__(self, stage: MixtureSearchStage, out: Workspace) -> None:
        self.stage, self.out = stage, out
        header = read_header(Path(stage.shards) / "train")
        tokens = {name: row["tokens"] for name, row in header["sources"].items() if row["tokens"] > stage.length}
        if len(tokens) < 2:
            raise LuhuoError(
                tr("There is nothing to mix.", "没有可配比的内容。"),
                expected=tr("at least two sources", "至少两个来源"),
                found=", ".join(tokens) or None,
                where=stage.shards,
            )
        self.sources = sorted(tokens)
        self.sizes = np.array([tokens[name] for name in self.sources], float)

    def loss(self, name: str, shares: np.ndarray, seed: int) -> float:
        """Held-out bits per byte of a model trained on a mixture."""
        from luhuo.train.stages import PretrainStage

        weights = {source: round(float(share), 6) for source, share in zip(self.sources, shares, strict=True)}
        values = self.stage.model_dump(
            mode="json", include={"shards", "tokenizer", "size", "tokens", "length", "batch"}
        )
        values |= {"device": self.stage.device, "threads": self.stage.threads, "seed": seed}
        values |= {"eval_tokens": self.stage.eval_tokens, "mixture": {"phases": [{"weights": weights}]}}
        done = produce("pretrain", PretrainStage.parse(values), self.out.path / "runs" / name)
        return target(done.manifest["metrics"], self.stage.target)

    def run(self) -> None:
        """Draw, train, fit, choose, check; writes `mixture.json` and `report.json`."""
        stage = self.stage
        drawn = draw(self.sizes, stage.runs, derive_seed(stage.seed, "drawn"))
        losses = []
        for number, shares in enumerate(drawn):
            losses.append(self.loss(f"drawn-{number:03d}", shares, derive_seed(stage.seed, "run", number) % 2**31))
            say(
                tr(
                    f"run {number + 1} of {stage.runs}: {losses[-1]:.4f}",
                    f"第 {number + 1}/{stage.runs} 次：{losses[-1]:.4f}",
                )
            )
        found = fit(drawn, np.array(losses))
        many = draw(self.sizes, DRAWS, derive_seed(stage.seed, "many"))
        chosen = many[np.argsort(found.predict(many))[:BEST]].mean(0)
        checked = {
            name: [
                self.loss(f"{name}-{seed}", shares, derive_seed(stage.seed, "check", seed) % 2**31)
                for seed in range(stage.checks)
            ]
            for name, shares in (
                ("chosen", chosen),
                ("by_size", self.sizes / self.sizes.sum()),
                ("even", np.full(len(self.sources), 1 / len(self.sources))),
            )
        }
        weights = {name: round(float(share), 4) for name, share in zip(self.sources, chosen, strict=True)}
        write_json(self.out.path / "mixture.json", {"phases": [{"weights": weights}]})
        report = {
            "sources": self.sources,
            "runs": [{"shares": row.round(4).tolist(), "loss": loss} for row, loss in zip(drawn, losses, strict=True)],
            "rank_correlation": rank_correlation(found.left_out, np.array(losses)),
            "ridge": found.ridge,
            "predicted": float(found.predict(chosen[None])[0]),
            "checked": checked,
        }
        write_json(self.out.path / "report.json", report)
        self.out.results |= {f"weight.{name}": weight for name, weight in weights.items()}
        self.out.results |= {f"loss.{name}": float(np.mean(values)) for name, values in checked.items()}
        self.out.results["rank_correlation"] = report["rank_correlation"]


def target(results: Mapping[str, Any], wanted: Mapping[str, float]) -> float:
    """The held-out loss to lower: the mean over sources, or over those named, by their weights."""
    begin = "bpb.valid.source."
    found = {name.removeprefix(begin): value for name, value in results.items() if name.startswith(begin)}
    missing = sorted(set(wanted) - set(found))
    if missing or not found:
        raise LuhuoError(
            tr("There is no held-out text of this source.", "该来源没有留出文本。"),
            expected=", ".join(sorted(found)) or None,
            found=", ".join(missing) or None,
        )
    weights = dict(wanted) or dict.fromkeys(found, 1.0)
    return sum(weight * found[name] for name, weight in weights.items()) / sum(weights.values())
