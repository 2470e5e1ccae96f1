"""One run of stage `online-distill`: the student answers, the teacher reads, the student learns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.minillm import MiniLLM
from luhuo.align.distill.objective import Distillation
from luhuo.align.distill.on_policy import AsSampled, FutureRatios, TeacherScores
from luhuo.align.distill.teacher import open_teacher, same_tokens
from luhuo.align.judge import judge
from luhuo.align.policy import open_policy
from luhuo.align.prompts import PromptOrder
from luhuo.align.rewards import Rewards
from luhuo.align.rollout_loader import Plan, RolloutLoader
from luhuo.align.rollout_run import held_out, open_prompts, open_rollout, tokenizer_of
from luhuo.align.sft import Rules, prepare
from luhuo.align.sft_run import data_sets, quarantine_file
from luhuo.align.stages import note_sources
from luhuo.core.artifact import Workspace
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.packing import ConversationLoader
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.parallel import spread
from luhuo.train.prefetch import Arrays
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer

if TYPE_CHECKING:
    from luhuo.align.distill.stages import OnlineDistillStage


def open_run(stage: OnlineDistillStage, out: Workspace, device: torch.device) -> tuple[Trainer, Decoder]:
    """The trainer of this process, and the student it trains."""
    student = open_policy(stage, str(device), stage.seed)
    tokenizer = tokenizer_of(student, stage.model)
    teacher = open_teacher(stage.teacher, dtype=stage.teacher_dtype, device=str(device))
    same_tokens(teacher.model.tokenizer, tokenizer, stage.teacher)
    student = spread(student, stage.parallel)
    prompts = open_prompts(stage, stage.prompts, student)
    rules = judge(Rewards(stage.rewards), stage.max_tokens) if stage.rewards else None
    scores = TeacherScores(teacher, tokenizer.pad_id, stage.temperature, rules)
    minillm = stage.method == "minillm"
    rollouts = RolloutLoader(
        open_rollout(stage, student, prompts),
        PromptOrder(prompts, stage.seed),
        scores,
        FutureRatios(student, scores) if minillm else AsSampled(),
        Plan(stage.prompts_per_round, stage.minibatches, stage.epochs),
        seed=stage.seed,
        folder=out.path / ".checkpoint",
        device=device,
        pad_id=tokenizer.pad_id,
    )
    data = _data(stage, out, tokenizer)
    if minillm:
        objective = MiniLLM(teacher, temperature=stage.temperature, clip=stage.clip_ratio, text=stage.data_weight)
        loader = rollouts if data is None else BesideText(rollouts, data)
    else:
        divergence = Divergence(stage.divergence, stage.beta, stage.distill_temperature)
        objective = Distillation(divergence, 1.0, teacher)
        loader = rollouts if data is None else Mixed(rollouts, data, stage.on_policy, stage.seed)
    measure = rules or TeacherScores(teacher, tokenizer.pad_id, 1.0)
    evaluate = held_out(stage, student, measure)
    config = stage.trainer_config(prefetch=0)
    return Trainer(student, objective, loader, config, out, evaluate=evaluate, title=stage.method), student


class Mixed:
    """On-policy batches, or those of given conversations, in the proportion `share`; which, depends on the step alone,
    so that all processes and a resumed run choose alike."""

    def __init__(self, rollouts: RolloutLoader, data: ConversationLoader, share: float, seed: int) -> None:
        self.rollouts, self.data, self.share, self.seed = rollouts, data, share, seed
        self._step = 0
        self._own = False

    def __iter__(self) -> Iterator[Arrays]:
        own, given = iter(self.rollouts), iter(self.data)
        while True:
            chance = np.random.default_rng(derive_seed(self.seed, "on_policy", self._step)).random()
            self._step, self._own = self._step + 1, chance < self.share
            yield next(own) if self._own else next(given)

    def state(self) -> dict[str, Any]:
        """The step, and both places."""
        return {"step": self._step, "rollouts": self.rollouts.state(), "data": self.data.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self._step = int(state["step"])
        self.rollouts.restore(state["rollouts"])
        self.data.restore(state["data"])

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """Whether the batch was the student's own, and then what its round tells."""
        return {"on_policy": float(self._own)} | (self.rollouts.report(metrics) if self._own else {})


class BesideText:
    """On-policy batches with a row of given conversations for each of their rows."""

    def __init__(self, rollouts: RolloutLoader, data: ConversationLoader) -> None:
        self.rollouts, self.data = rollouts, data

    def __iter__(self) -> Iterator[Arrays]:
        given = iter(self.data)
        for batch in self.rollouts:
            rows = [next(given) for _ in range(len(batch["ids"]))]
            yield batch | {f"text_{name}": np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def state(self) -> dict[str, Any]:
        """Both places."""
        return {"rollouts": self.rollouts.state(), "data": self.data.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self.rollouts.restore(state["rollouts"])
        self.data.restore(state["data"])

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """What the rollouts tell."""
        return self.rollouts.report(metrics)


def _data(stage: OnlineDistillStage, out: Workspace, tokenizer: Tokenizer) -> ConversationLoader | None:
    """Given conversations, packed: for GKD a batch of them, for MiniLLM row by row."""
    if stage.data is None:
        return None
    ranks = Ranks()
    sets = data_sets(stage.data)
    note_sources([file for source in sets for file in source.files], out)
    with quarantine_file(out.path, main=ranks.main) as quarantine:
        prepared = prepare(sets, tokenizer, Rules(stage.data_length), quarantine=quarantine)
    rows = 1 if stage.method == "minillm" else max(1, stage.data_batch // stage.data_length // ranks.count)
    return ConversationLoader(
        prepared.store,
        batch=rows,
        length=stage.data_length,
        seed=derive_seed(stage.seed, "data"),
        pad_id=tokenizer.pad_id,
        rank=ranks.rank,
        world=ranks.count,
        shares=prepared.shares,
    )
