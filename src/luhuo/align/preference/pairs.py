"""Pairs of answers as units of two sequences: chosen, rejected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from luhuo.align.preference.rendering import Prepared, Unfit, read, render_answers, with_prompt
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.preferences import Preference, read_preferences
from luhuo.files.records import Broken
from luhuo.tokenizer.tokenizer import Tokenizer


def prepare_pairs(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    limit: int,
    *,
    overlong: str,
    quarantine: Callable[[Broken], None],
    shuffle_seed: int | None = None,
    learn_prompt: bool = False,
) -> Prepared:
    """Read, check, render and count all pairs; `margin` is a number of each sequence, the same on both sides.

    `learn_prompt` marks the chosen side's prompt for the SFT term. With `shuffle_seed` chosen and rejected change
    places in a random half of the pairs: texts, lengths and the loss's shape stay, what was preferred is lost.
    """
    prepared = Prepared()
    margins: list[float] = []
    chance = None if shuffle_seed is None else np.random.default_rng(derive_seed(shuffle_seed, "shuffle_labels"))
    for pair in read(files, read_preferences, prepared, quarantine):
        prepared.counts["read"] += 1
        exchanged = chance is not None and bool(chance.random() < 0.5)
        answers = (pair.rejected, pair.chosen) if exchanged else (pair.chosen, pair.rejected)
        try:
            (chosen, rejected), shortened = render_answers(pair.prompt, answers, tokenizer, limit, overlong=overlong)
        except Unfit as reason:
            prepared.counts[str(reason)] += 1
            quarantine(_unusable(pair, prepared.counts["read"], str(reason)))
            continue
        prepared.counts["used"] += 1
        prepared.counts["truncated"] += shortened
        prepared.first = prepared.first or [chosen, rejected]
        prepared.units.add([with_prompt(chosen) if learn_prompt else chosen, rejected])
        margins += [pair.margin or 0.0] * 2
    if any(margins):
        prepared.units.numbers["margin"] = np.array(margins, dtype=np.float32)
    return prepared


def _unusable(pair: Preference, row: int, reason: str) -> Broken:
    excerpt = json.dumps([pair.prompt.messages[-1].content[:100], pair.chosen[-1].content[:100]], ensure_ascii=False)
    return Broken(str(pair.meta.get("id", "")), row, reason, excerpt)
