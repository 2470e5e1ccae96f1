"""Accuracy by family and language: items are asked through the engine, scored strictly, and counted with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.evaluation.items import Item, plain_prompt, question, stop_of
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.verify.answers import split_reasoning
from luhuo.verify.scoring import score
from luhuo.verify.statistics import bootstrap_macro, near_chance, wilson

Record = dict[str, Any]
GROUP = 256
"""Items handed to the engine at once; it batches them itself."""


@dataclass(frozen=True)
class Asking:
    """How items are put to the model: "chat" (its template) or "completion" (plain text with examples)."""

    mode: str
    max_tokens: int
    shots: dict[tuple[str, ...], list[Item]]


def ask(engine: Engine, items: list[Item], asking: Asking) -> Iterator[Record]:
    """Yield one record an item, in order: id, family, lang, prompt, reply, correct, parsed, truncated, chance, shots.

    `truncated`: the answer hit the token limit, or the prompt alone fills the context (then the reply is empty).
    """
    with Progress(tr("items", "题目"), len(items), tr("items", "题")) as progress:
        for start in range(0, len(items), GROUP):
            group = items[start : start + GROUP]
            prepared = [_prepare(engine, item, asking) for item in group]
            fits = [len(engine.prompt_ids(prompt)) < engine.context for prompt, _, _ in prepared]
            fitting = [entry for entry, fit in zip(prepared, fits, strict=True) if fit]
            done = iter(engine.generate([p[0] for p in fitting], [p[2] for p in fitting]) if fitting else [])
            for item, entry, fit in zip(group, prepared, fits, strict=True):
                yield _record(item, entry, next(done) if fit else None)
                progress.advance()


def _prepare(engine: Engine, item: Item, asking: Asking) -> tuple[Any, int, Sampling]:
    """(prompt, examples in it, sampling): examples are left out from the end until the prompt and an answer fit."""
    if asking.mode == "chat":
        return Conversation.of(item["messages"]), 0, Sampling(max_tokens=asking.max_tokens, temperature=0)
    shots = asking.shots.get((item["family"], item["lang"]), [])
    sampling = Sampling(max_tokens=asking.max_tokens, temperature=0, stop=(stop_of(shots),))
    count = len(shots)
    while count and len(engine.prompt_ids(plain_prompt(item, shots[:count]))) + asking.max_tokens > engine.context:
        count -= 1
    return plain_prompt(item, shots[:count]), count, sampling


def _record(item: Item, entry: tuple[Any, int, Sampling], completion: Any) -> Record:
    prompt, shots, _ = entry
    reply = completion.text.strip() if completion else ""
    result = score(item, split_reasoning(reply)[1])
    return {
        "id": item["id"],
        "family": item["family"],
        "lang": item["lang"],
        "question": question(item),
        "prompt": prompt if isinstance(prompt, str) else prompt.plain(),
        "reply": reply,
        "answer": item["answer"],
        "correct": result.correct,
        "parsed": result.parsed,
        "truncated": completion is None or completion.finish_reason == "length",
        "chance": item["chance"],
        "shots": shots,
    }


def summarise(records: list[Record], seed: int) -> dict[str, Any]:
    """Families with interval, chance and counts (each also by language), their mean, and those near chance."""
    names = sorted({record["family"] for record in records})
    families: dict[str, Any] = {}
    for name in names:
        mine = [r for r in records if r["family"] == name]
        langs = sorted({r["lang"] for r in mine})
        families[name] = _counts(mine) | {
            "langs": {lang: _counts([r for r in mine if r["lang"] == lang]) for lang in langs}
        }
    groups = [[float(r["correct"]) for r in records if r["family"] == name] for name in names]
    mean = bootstrap_macro(groups, derive_seed(seed, "macro"))
    chance = sum(families[name]["chance"] for name in names) / len(names)
    return {
        "mean": {"accuracy": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n, "chance": chance},
        "families": families,
        "near_chance": [name for name in names if families[name]["near_chance"]],
    }


def _counts(records: list[Record]) -> dict[str, Any]:
    n, correct = len(records), sum(r["correct"] for r in records)
    chance = sum(r["chance"] for r in records) / n
    low, high = wilson(correct, n)
    return {
        "accuracy": correct / n,
        "low": low,
        "high": high,
        "chance": chance,
        "near_chance": near_chance(correct, n, chance),
        "correct": correct,
        "n": n,
        "unparsed": sum(not r["parsed"] for r in records),
        "truncated": sum(r["truncated"] for r in records),
    }
