"""Samples of what a model writes while it learns: the same prompts at every turn, by a fixed seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.train.config import TrainerConfig

PROMPTS = ("The", "Once upon a time", "人们", "很久以前")
"""Beginnings in both languages, for a model of text."""
QUESTIONS = ("Who are you?", "What is 2 + 3?", "你是谁？", "二加三等于几？")
"""The same for an assistant."""
TEMPERATURE, TOP_P = 0.7, 0.95
"""The most probable text of a small model repeats itself, so a little chance is let in, the same each time."""

Sampler = Callable[[Decoder], list[dict[str, Any]]]
"""Gives rows {"prompt", "text", "chat"} of what a model in evaluation mode writes."""


def sampler(config: TrainerConfig, seed: int, *, chat: bool = False) -> Sampler | None:
    """A function that lets a model continue `sample_prompts` (default `PROMPTS`), or, with `chat`, answer them
    (default `QUESTIONS`); None where no samples are wanted.

    Equal weights and seed give equal texts, and the random numbers of training are left alone. A prompt that leaves
    no room in the model's context says so in its text.
    """
    if not config.samples_every:
        return None
    chosen = config.sample_prompts or list(QUESTIONS if chat else PROMPTS)
    sampling = Sampling(max_tokens=config.sample_tokens, temperature=TEMPERATURE, top_p=TOP_P, seed=seed)

    def sample(model: Decoder) -> list[dict[str, Any]]:
        engine = Engine(model, max_batch=len(chosen))
        rows: list[dict[str, Any]] = []
        for prompt in chosen:
            try:
                if chat:
                    text = engine.chat([{"role": "user", "content": prompt}], sampling).text
                else:
                    text = engine.generate([prompt], sampling)[0].text
            except LuhuoError as error:
                text = f"({error.problem})"
            rows.append({"prompt": prompt, "text": text, "chat": chat})
        return rows

    return sample
