"""Online DPO: the policy of this moment answers, rewards judge, the best and the worst answer become a pair.

As in DPO the loss compares with the model before training; as in reinforcement learning the answers are the policy's
own, so that it keeps learning from mistakes it still makes (Guo et al. 2024, algorithm 1). One step a round: the
policy that is updated is the one that sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from luhuo.align.preference.units import UnitLoader, Units
from luhuo.align.prompts import PromptOrder
from luhuo.align.rollout import Rollout, Sample
from luhuo.align.rollout_loader import Judge
from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.render import Rendered
from luhuo.train.ranks import Ranks

BARREN = 8
"""Rounds in a row without a single pair after which a run gives up."""


class OnlinePairLoader:
    """A loader for the `Trainer`, to be used with `prefetch` 0: batches of pairs that the policy has just written.

    Each process answers its share of the `prompts` of a round; which other prompts are there changes nothing in an
    answer. Prompts whose answers have one score teach nothing and give no pair. An answer that was cut off is never
    the chosen one: it would be learned without its end. `told` are numbers about the last round.
    """

    def __init__(self, rollout: Rollout, prompts: PromptOrder, judge: Judge, *, batch: int, seed: int, pad_id: int):
        self.rollout, self.prompts, self.judge = rollout, prompts, judge
        self.batch, self.seed, self.pad_id = batch, seed, pad_id
        self.ranks = Ranks()
        self.told: dict[str, float] = {}
        self._place = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield self._round()

    def state(self) -> dict[str, Any]:
        """The place of the next round among the prompts."""
        return {"place": self._place}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self._place = int(state["place"])

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """What to tell beside a step's `metrics`."""
        return self.told

    def _round(self) -> dict[str, np.ndarray]:
        for _ in range(BARREN):
            places = range(self._place, self._place + self.batch)
            self._place += self.batch
            mine = {place: self.prompts.at(place) for place in places[self.ranks.rank :: self.ranks.count]}
            drawn = self.rollout.sample(mine, derive_seed(self.seed, "rollout"))
            samples = [sample for group in drawn.values() for sample in group]
            scores = list(self.judge(samples).scores)
            pairs = list(self._pairs(drawn, scores))
            self._tell(samples, scores, len(pairs))
            if self.told["pairs"]:
                return self._batch(pairs)
        raise RunFailed(
            tr(
                f"In {BARREN} rounds in a row the answers to each prompt had one score: there is nothing to prefer.",
                f"连续 {BARREN} 轮中每个提示的回答得分都相同：没有可供比较的。",
            ),
            found=", ".join(f"{name} {value:.3g}" for name, value in self.told.items()),
            fix=tr(
                "Raise samples or temperature, ask easier or harder prompts, or look at the rewards.",
                "增大 samples 或 temperature，换更易或更难的提示，或检查奖励。",
            ),
        )

    def _pairs(
        self, drawn: Mapping[int, Sequence[Sample]], scores: Sequence[float | None]
    ) -> Iterator[tuple[Sample, Sample]]:
        for number, group in enumerate(drawn.values()):
            own = scores[number * len(group) : (number + 1) * len(group)]
            known = [(score, sample) for score, sample in zip(own, group, strict=True) if score is not None]
            ended = [(score, sample) for score, sample in known if sample.ended]
            if not ended:
                continue
            best, worst = (choose(some, key=lambda one: one[0]) for choose, some in ((max, ended), (min, known)))
            if worst[0] < best[0]:
                yield best[1], worst[1]

    def _tell(self, samples: Sequence[Sample], scores: Sequence[float | None], pairs: int) -> None:
        """Means over all processes."""
        known = [score for score in scores if score is not None]
        sums = [
            pairs,
            sum(known),
            len(known),
            sum(not sample.ended for sample in samples),
            sum(sample.length for sample in samples),
            len(samples),
        ]
        total = self.ranks.sum(torch.tensor(sums, dtype=torch.float32).to(self.ranks.mesh.kind)).tolist()
        made, reward, scored, cut, length, count = total
        self.told = {
            "pairs": made,
            "reward": reward / max(1, scored),
            "truncated": cut / count,
            "length": length / count,
            "unscored": 1 - scored / count,
        }

    def _batch(self, pairs: Sequence[tuple[Sample, Sample]]) -> dict[str, np.ndarray]:
        """A batch of `UnitLoader`; where this process has no pair, a row of padding."""
        if not pairs:
            empty = np.zeros((1, 65), dtype=np.int32)
            return {"ids": empty + np.int64(self.pad_id), "segments": empty, "mask": empty, "unit": empty[:, :1]}
        units = Units()
        for pair in pairs:
            units.add([Rendered(list(sample.ids), list(sample.mask)) for sample in pair])
        options = {"length": units.row_length(), "seed": 0, "pad_id": self.pad_id}
        return UnitLoader(units, batch=len(units), **options).assemble(range(len(units)))
