"""From the rewards of a stage to the scores of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luhuo.align.rewards import CompletionInfo, Rewards
from luhuo.align.rollout import Sample
from luhuo.align.rollout_loader import Judge, Judgement
from luhuo.core.seeds import derive_seed


def judge(rewards: Rewards, max_tokens: int, shuffle_seed: int | None = None) -> Judge:
    """Scores samples by their last turn. With `shuffle_seed` the scores change places: the control experiment, in
    which everything is as it was but for what a score has to do with its answer."""

    def scored(samples: Sequence[Sample]) -> Judgement:
        infos = [CompletionInfo(s.length, "stop" if s.ended else "length", max_tokens) for s in samples]
        found = rewards.score_all([s.prompt.item for s in samples], [s.text for s in samples], infos)
        known = {name: [value for value in values if value is not None] for name, values in found.components.items()}
        parts = known | found.parts
        failed = {f"{name}.failed": [count / len(samples)] for name, count in found.failures.items()}
        totals = list(found.totals)
        if shuffle_seed is not None and samples:
            random = np.random.default_rng(derive_seed(shuffle_seed, "shuffle_rewards", *samples[0].ids))
            totals = [totals[i] for i in random.permutation(len(totals))]
        return Judgement(totals, parts | failed)

    return scored
