"""What the stage `ppo` puts together: four roles, samples with their scores, and text beside them.

Policy, reference, reward model and critic are loaded from wherever they are. With an adapter their weights are frozen,
and what is equal in them is one tensor in memory (`share_frozen`): critic and reward model are one base, and where no
reward model has weights of its own, all roles are, with two small adapters and two heads. The critic's adapter is
LoRA of the policy's rank: nobody keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from luhuo.adapter.attach import attach, attached
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.open import open_decoder
from luhuo.align.judge import judge, shuffled
from luhuo.align.kl_control import KLControl
from luhuo.align.policy import open_policy
from luhuo.align.ppo_experience import Experience
from luhuo.align.prompts import PromptOrder
from luhuo.align.reward_files import load_reward_model
from luhuo.align.reward_model import AnyRewardModel, RewardModel
from luhuo.align.rewards import Rewards
from luhuo.align.rollout import Sample
from luhuo.align.rollout_loader import Judge, Judgement, Plan, RolloutLoader
from luhuo.align.rollout_rows import Scored, lay_out
from luhuo.align.rollout_run import held_out, open_prompts, open_rollout, reference_of, tokenizer_of
from luhuo.align.value_model import ActorCritic, share_frozen, without_opinion
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.core.seeds import derive_seed
from luhuo.corpus.loader import PackedLoader
from luhuo.model.decoder import Decoder
from luhuo.train.parallel import spread
from luhuo.train.prefetch import Arrays
from luhuo.train.pretraining import other_tokenizer
from luhuo.train.ranks import Ranks

if TYPE_CHECKING:
    from luhuo.align.ppo_stage import PpoStage

SCORED_TOKENS = 8192
"""Tokens that the reward model reads at once."""


def open_run(
    stage: PpoStage, folder: Path, device: torch.device
) -> tuple[ActorCritic, RolloutLoader | WithText, Callable[[ActorCritic], dict[str, float]] | None]:
    """Model, loader and scorer of held-out prompts; the round in progress is kept in `folder`."""
    policy = open_policy(stage, str(device), stage.seed)
    tokenizer = tokenizer_of(policy, stage.model)
    scorer = None if stage.reward_model is None else _scorer(stage.reward_model, policy, device)
    critic = open_critic(stage, scorer, device)
    reference = reference_of(policy)
    saved = share_frozen(policy, critic, *([] if scorer is None else [scorer]))
    if saved:
        say(tr(f"Roles share {saved / 1e6:.0f} MB of frozen weights.", f"各角色共用 {saved / 1e6:.0f} MB 冻结权重。"))
    adapter = attached(critic)
    pair = ActorCritic(policy, critic, stage.critic_rate * (1.0 if adapter is None else adapter.factor))
    model = spread(pair, stage.parallel)
    prompts = open_prompts(stage, stage.prompts, policy)
    rules = judge(Rewards(stage.rewards), stage.max_tokens) if stage.rewards else None
    score = summed(rules, scorer, tokenizer.pad_id)
    loader = RolloutLoader(
        open_rollout(stage, policy, prompts),
        PromptOrder(prompts, stage.seed),
        shuffled(score, stage.seed) if stage.shuffle_rewards else score,
        Experience(model, reference, KLControl(stage.kl, stage.kl_target, stage.kl_horizon), stage.worth()),
        Plan(stage.prompts_per_round, stage.minibatches, stage.epochs),
        seed=stage.seed,
        folder=folder,
        device=device,
        pad_id=tokenizer.pad_id,
    )
    valid = held_out(stage, policy, score)
    evaluate = None if valid is None else lambda pair: valid(pair.policy)
    return model, _with_text(stage, model, loader), evaluate


def open_critic(stage: PpoStage, scorer: AnyRewardModel | None, device: torch.device) -> RewardModel:
    """The critic: the reward model where it is a decoder, else the starting model with a head of zeros.

    With an adapter only a LoRA of the same rank and the head are trained, otherwise everything is.
    """
    if isinstance(scorer, RewardModel) and stage.reward_model is not None:
        critic = load_reward_model(stage.reward_model, dtype="fp32", device=str(device))
        assert isinstance(critic, RewardModel)
    else:
        critic = without_opinion(open_decoder(stage.model, dtype="fp32", device=str(device)))
    if stage.adapter is None or stage.adapter.in_place:
        return critic.requires_grad_(True)
    there = attached(critic)
    if there is None:
        attach(critic, AdapterConfig(rank=stage.adapter.rank), derive_seed(stage.seed, "critic"))
    else:  # of a reward model whose adapter cannot be merged: it is trained on
        critic.requires_grad_(False)
        for parameter in there.trained().values():
            parameter.requires_grad_(True)
    critic.score.weight.requires_grad_(True)
    return critic


def _scorer(reference: str, policy: Decoder, device: torch.device) -> AnyRewardModel:
    """The reward model, frozen. Raises `LuhuoError` if it reads other token ids than the policy writes."""
    scorer = load_reward_model(reference, dtype="fp32", device=str(device)).requires_grad_(False)
    ours, theirs = (model.tokenizer.fingerprint if model.tokenizer else None for model in (policy, scorer))
    if ours != theirs:
        raise LuhuoError(
            tr("Policy and reward model have different tokenizers.", "策略与奖励模型的分词器不同。"),
            expected=str(ours)[:16],
            found=str(theirs)[:16],
            where=reference,
            fix=tr(
                "Train the reward model from the model that is aligned, or from its base.",
                "请以待对齐的模型或其基座训练奖励模型。",
            ),
        )
    return scorer


@torch.no_grad()
def model_scores(model: AnyRewardModel, samples: Sequence[Sample], pad_id: int) -> list[float]:
    """Scores of samples by a reward model, which reads the very tokens that were sampled.

    At the last of them: the token that ended the turn, or, where the answer was cut off, the last there is.
    """
    found = [0.0] * len(samples)
    order = sorted(range(len(samples)), key=lambda i: len(samples[i].ids))
    while order:
        rows = max(1, SCORED_TOKENS // len(samples[order[-1]].ids))
        some, order = order[-rows:], order[:-rows]
        batch, known, _ = lay_out([[Scored(samples[i], 0.0, i) for i in some]], pad_id, model.device)
        scores = model.scores({name: batch[name] for name in ("ids", "segments")})
        there = known.groups >= 0
        for i, score in zip(known.groups[there].tolist(), scores[there].tolist(), strict=True):
            found[i] = score
    return found


def summed(rules: Judge | None, model: AnyRewardModel | None, pad_id: int) -> Judge:
    """A judge that adds the reward model's score to what the rules say; `reward.model` is it alone."""

    def score(samples: Sequence[Sample]) -> Judgement:
        found = None if rules is None else rules(samples)
        if model is None:
            assert found is not None
            return found
        scores = model_scores(model, samples, pad_id)
        if found is None:
            return Judgement(list(scores), {"model": scores})
        totals = [None if rule is None else rule + mine for rule, mine in zip(found.scores, scores, strict=True)]
        return Judgement(totals, {**found.parts, "model": scores})

    return score


class WithText:
    """A loader of rollouts whose batches have a row of ordinary text for each row of samples (PPO-ptx)."""

    def __init__(self, loader: RolloutLoader, text: PackedLoader) -> None:
        self.loader, self.text = loader, text

    def __iter__(self) -> Iterator[Arrays]:
        rows = iter(self.text)
        for batch in self.loader:
            mine = [next(rows) for _ in range(len(batch["ids"]))]
            yield batch | {f"text_{name}": np.concatenate([row[name] for row in mine]) for name in mine[0]}

    def state(self) -> dict[str, Any]:
        """Both places."""
        return {"rollouts": self.loader.state(), "text": self.text.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a place given by `state`."""
        self.loader.restore(state["rollouts"])
        self.text.restore(state["text"])

    def report(self, metrics: dict[str, float]) -> dict[str, float]:
        """What the rollouts tell."""
        return self.loader.report(metrics)


def _with_text(stage: PpoStage, model: ActorCritic, loader: RolloutLoader) -> RolloutLoader | WithText:
    """The loader, with text where the stage names some. Raises `LuhuoError` if another tokenizer cut it."""
    if stage.pretraining is None:
        return loader
    from luhuo.files.references import resolve

    ranks = Ranks()
    text = PackedLoader(
        resolve(stage.pretraining).path / "train",
        batch=1,
        length=stage.pretraining_length,
        seed=derive_seed(stage.seed, "text"),
        rank=ranks.rank,
        world=ranks.count,
    )
    tokenizer = tokenizer_of(model.policy, stage.model)
    if text.header["tokenizer"] != tokenizer.fingerprint:
        raise other_tokenizer(text.header["tokenizer"], tokenizer, stage.model)
    return WithText(loader, text)
