"""Small models, samples and batches for the tests of reinforcement learning."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luhuo.align.group_value import GroupValue
from luhuo.align.methods import METHODS
from luhuo.align.policy_gradient import PolicyGradient
from luhuo.align.prompts import Prompt, PromptOrder
from luhuo.align.rollout import Rollout, Sample
from luhuo.align.rollout_loader import Judge, Judgement, Plan, RolloutLoader
from luhuo.align.rollout_rows import Judged, Scored, lay_out
from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.model.decoder import Decoder
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import Batch
from luhuo.train.trainer import Trainer
from tests.small_chat import small_model, small_tokenizer

CPU = torch.device("cpu")


def prompt(text: str, **item: Any) -> Prompt:
    """A user's question."""
    messages = ({"role": "user", "content": text},)
    ids = render(Conversation.of(messages), small_tokenizer(), generation_prompt=True).ids
    return Prompt({"messages": list(messages), **item}, messages, tuple(ids))


def made_up(
    groups: int = 4, samples: int = 4, *, seed: int = 0, cut_off: float = 0.25, observed: bool = True
) -> list[Scored]:
    """Samples of random tokens with random scores; some are cut off, some have an observation in the middle."""
    chance = random.Random(seed)
    found = []
    for group in range(groups):
        asked = prompt("?" * (group + 1))
        for _ in range(samples):
            sample = Sample(asked, list(asked.ids), [0] * len(asked.ids), [0.0] * len(asked.ids), [])
            for part in range(chance.randint(1, 3)):
                count, given = chance.randint(2, 9), part == 1 and observed
                sample.ids += [chance.randrange(20, 300) for _ in range(count)]
                sample.mask += [0 if given else 1] * count
                sample.log_probs += [0.0 if given else -chance.random() for _ in range(count)]
            sample.ended = chance.random() >= cut_off
            found.append(Scored(sample, float(chance.randint(0, 1)), group))
    return found


def laid(some: list[Scored]) -> tuple[Batch, Judged]:
    """One minibatch of all of them."""
    batch, judged, _ = lay_out([some], small_tokenizer().pad_id, CPU)
    return batch, judged


def policy(seed: int = 0) -> Decoder:
    """A small model; another seed is another policy not far away."""
    model = small_model()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * seed * torch.randn(parameter.shape, generator=generator)
    return model.train()


def gradients(model: Decoder) -> dict[str, Tensor]:
    """Gradients by name; then they are cleared."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def objective(name: str, **changes: Any) -> PolicyGradient:
    """The objective of a method with its own clip range."""
    method = METHODS[name]
    found = PolicyGradient(method, clip_low=method.clip_low, clip_high=method.clip_high, kl=0.1, constant=32.0)
    return replace(found, **changes)


def valued(name: str, *, old: int = 1, reference: int = 2, samples: list[Scored] | None = None) -> Batch:
    """A batch sampled by the policy `old` (its log-probabilities are kept), with a reference."""

    @contextmanager
    def starting():
        yield policy(reference)

    value = GroupValue(
        policy(old),
        METHODS[name],
        temperature=1.0,
        reference=starting,
        kl=0.1,
        recompute=True,
        mask_truncated=METHODS[name].mask_truncated,
    )
    return value(*laid(made_up() if samples is None else samples))[0]


def even(item: Any, text: str, info: Any) -> float:
    """A reward that a small model can learn and that most groups differ in: how many letters are even in Unicode."""
    return sum(ord(letter) % 2 == 0 for letter in text) / max(1, len(text))


def judged_by(function: Any) -> Judge:
    """A judge that gives each sample function(item, text, info)."""

    def score(samples: Any) -> Judgement:
        scores = [function(sample.prompt.item, sample.text, sample) for sample in samples]
        return Judgement(scores, {"even": [score for score in scores if score is not None]})

    return score


def loader(
    folder: Path,
    model: Decoder,
    *,
    method: str = "grpo",
    kl: float = 0.1,
    score: Any = None,
    plan: dict[str, int] | None = None,
    max_tokens: int = 12,
) -> RolloutLoader:
    """A loader of rollouts on eight prompts, with a reference that is another model."""

    start = policy(2)

    @contextmanager
    def starting() -> Iterator[Decoder]:
        yield start

    asked = [prompt(f"say {number}", number=number) for number in range(8)]
    chosen = Plan(**{"prompts": 4, "minibatches": 2, "epochs": 2} | (plan or {}))
    value = GroupValue(
        model, METHODS[method], temperature=1.0, reference=starting, kl=kl, recompute=chosen.updates > 1
    )
    return RolloutLoader(
        Rollout(model, samples=4, max_tokens=max_tokens, length=64, at_once=8),
        PromptOrder(asked, 0),
        judged_by(score or even),
        value,
        chosen,
        seed=0,
        folder=folder,
        device=CPU,
        pad_id=small_tokenizer().pad_id,
    )


def train(folder: Path, *, steps: int = 7, evaluate: Any = None, **settings: Any) -> Decoder:
    """A small run in `folder`, four updates a round; returns the trained model."""

    folder.mkdir(exist_ok=True, parents=True)
    out, model = Workspace(folder, MetricsLog(folder / "metrics.jsonl")), policy()
    config = TrainerConfig(
        steps=steps,
        learning_rate=1e-3,
        optimiser="adamw",
        dtype="fp32",
        prefetch=0,
        spike=0.0,
        eval_every=1,
        checkpoint_every=1,
        checkpoint_every_s=0,
        background=False,
    )
    method = settings.get("method", "grpo")
    source = loader(folder / ".checkpoint", model, **settings)
    task = PolicyGradient(METHODS[method], kl=settings.get("kl", 0.1), constant=12.0)
    Trainer(model, task, source, config, out, evaluate=evaluate).run()
    return model
