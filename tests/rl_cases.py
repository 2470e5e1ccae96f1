"""Small models, samples and batches for the tests of reinforcement learning."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luhuo.align.prompts import Prompt
from luhuo.align.rollout import Sample
from luhuo.align.rollout_rows import Judged, Scored, lay_out
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch
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


def even(item: Any, text: str, info: Any) -> float:
    """A reward that a small model can learn and that most groups differ in: how many letters are even in Unicode."""
    return sum(ord(letter) % 2 == 0 for letter in text) / max(1, len(text))


def write_prompts(folder: Path, count: int = 24) -> Path:
    """A file of prompts."""
    import json

    path = folder / "prompts.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"say {n}"}], "answer": str(n)} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
