"""Answers by models: each is asked every prompt `count` times, and what they say is to be ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.core.seeds import derive_seed
from luhuo.rank.importing import different
from luhuo.rank.store import NewItem

PROMPTS_AT_ONCE = 32
Prompt = tuple[list[dict[str, str]], dict[str, Any]]


def answered(
    prompts: Sequence[Prompt],
    models: Sequence[str],
    counts: Counter[str],
    *,
    count: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    dtype: str = "auto",
    device: str = "auto",
) -> Iterator[NewItem]:
    """The prompts with the different answers of all models; those with fewer than two are left out and counted.

    Models are opened one after another, so that one is in memory at a time.
    """
    found: list[list[tuple[str, str]]] = [[] for _ in prompts]
    for place, model in enumerate(models):
        drawn = _by(model, place, prompts, count, temperature, max_tokens, seed, dtype, device)
        for number, texts in enumerate(drawn):
            found[number] += [(text, label(model)) for text in texts]
    for (messages, meta), answers in zip(prompts, found, strict=True):
        kept = different(answers, counts)
        if len(kept) < 2:
            counts["too_few"] += 1
            continue
        counts["used"] += 1
        yield messages, kept, meta


def label(model: str) -> str:
    """What a model is called in the project: the end of its path or reference."""
    return PurePosixPath(model).name if Path(model).exists() else model


def _by(
    model: str,
    place: int,
    prompts: Sequence[Prompt],
    count: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    dtype: str,
    device: str,
) -> Iterator[list[str]]:
    from luhuo.inference.engine import Engine
    from luhuo.inference.sampling import Sampling
    from luhuo.model.load import load_decoder

    engine = Engine(load_decoder(model, dtype=dtype, device=device))
    for start in track(range(0, len(prompts), PROMPTS_AT_ONCE), label(model), unit=tr("batches", "批")):
        numbers = range(start, min(start + PROMPTS_AT_ONCE, len(prompts)))
        options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "n": count}
        wanted = [Sampling(**options, seed=derive_seed(seed, place, number) >> 32) for number in numbers]
        for told in engine.chat([prompts[number][0] for number in numbers], wanted):
            yield [choice.text for choice in told.choices or [told]]
