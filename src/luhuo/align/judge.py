"""From the rewards of a stage to the scores of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luhuo.align.rewards import CompletionInfo, Rewards
from luhuo.align.rollout import Sample
from luhuo.align.rollout_loader import Judge, Judgement
from luhuo.core.seeds import derive_seed


def judge(rewards: Rewards, max_tokens: int) -> Judge:
    """Scores samples by the policy's last turn; `max_tokens` is the most it may have."""

    def score(samples: Sequence[Sample]) -> Judgement:
        infos = [CompletionInfo(s.length, "stop" if s.ended else "length", max_tokens) for s in samples]
        found = rewards.score_all([s.prompt.item for s in samples], [s.text for s in samples], infos)
        known = {name: [value for value in values if value is not None] for name, values in found.components.items()}
        failed = {f"{name}.failed": [count / len(samples)] for name, count in found.failures.items()}
        return Judgement(found.totals, known | found.parts | failed)

    return score


def shuffled(score: Judge, seed: int) -> Judge:
    """The control experiment: scores change places among the samples of a round, so that all is as it was but for what
    a score has to do with its answer."""

    def control(samples: Sequence[Sample]) -> Judgement:
        found = score(samples)
        drawn = derive_seed(seed, "shuffle_rewards", *(sample.ids for sample in samples))
        order = np.random.default_rng(drawn).permutation(len(samples))
        return Judgement([found.scores[i] for i in order], found.parts)

    return control
