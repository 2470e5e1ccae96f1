"""Several scored answers to a prompt as one unit (RRHF)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.align.preference.rendering import Prepared, Unfit, read, render_answers
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.layouts import prompt_of
from luhuo.dialogue.rows import Layout, Reject, read_layout
from luhuo.files.records import Broken
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Ranking:
    """Answers to one prompt, each with a score: higher is better."""

    prompt: Conversation
    answers: tuple[tuple[Message, ...], ...]
    scores: tuple[float, ...]


def read_ranked(path: str | Path, reject: Reject | None = None) -> tuple[str, Iterator[Ranking]]:
    """The layout's name and the rankings of a file, as a stream: prompt, answers, and scores or ranks (1 is best).

    A row that is none goes to `reject`; without it, the first such row raises `LuhuoError`.
    """
    name, found = read_layout(path, LAYOUTS, tr("ranked answers", "排序的回答"), reject)
    return name, (one.value for one in found)


def prepare_ranked(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    limit: int,
    *,
    overlong: str,
    quarantine: Callable[[Broken], None],
    shuffle_seed: int | None = None,
) -> Prepared:
    """Read, check, render and count all rankings; numbers of each sequence are `score` and `best`.

    Answers that read alike count once. With `shuffle_seed` the scores of each prompt's answers are permuted.
    """
    prepared = Prepared()
    scores: list[float] = []
    best: list[float] = []
    chance = None if shuffle_seed is None else np.random.default_rng(derive_seed(shuffle_seed, "shuffle_labels"))
    for one in read(files, read_ranked, prepared, quarantine):
        prepared.counts["read"] += 1
        values = np.array(one.scores)
        if chance is not None:
            values = chance.permutation(values)
        try:
            found, shortened = render_answers(one.prompt, one.answers, tokenizer, limit, overlong=overlong)
        except Unfit as reason:
            prepared.counts[str(reason)] += 1
            excerpt = json.dumps([one.prompt.messages[-1].content[:100]], ensure_ascii=False)
            quarantine(Broken("", prepared.counts["read"], str(reason), excerpt))
            continue
        prepared.counts["used"] += 1
        prepared.counts["truncated"] += shortened
        prepared.first = prepared.first or found[:2]
        prepared.units.add(found)
        scores += values.tolist()
        best += (np.arange(len(values)) == values.argmax()).astype(float).tolist()
    prepared.units.numbers["score"] = np.array(scores, dtype=np.float32)
    prepared.units.numbers["best"] = np.array(best, dtype=np.float32)
    return prepared


def _ranking(row: Mapping[str, Any]) -> Ranking:
    given = row.get("scores")
    scores = [float(value) for value in given] if given is not None else [-float(rank) for rank in row["ranks"]]
    texts = [str(answer) for answer in row["answers"]]
    if len(scores) != len(texts) or not all(math.isfinite(score) for score in scores):
        raise LuhuoError(
            tr("Every answer needs a score.", "每个回答都需要一个得分。"), found=f"{len(texts)}, {len(scores)}"
        )
    kept = dict(zip(reversed(texts), reversed(scores), strict=True))
    if len(set(kept.values())) < 2:
        raise LuhuoError(tr("All answers have one score: nothing is ranked.", "所有回答得分相同：没有排序可言。"))
    asked = Conversation.of(prompt_of(row["prompt"], row.get("system")))
    answers = tuple((Message("assistant", text),) for text in reversed(kept))
    return Ranking(asked, answers, tuple(reversed(kept.values())))


LAYOUTS = (
    Layout(
        "ranking",
        "prompt, answers, scores | ranks",
        lambda row: "prompt" in row and "answers" in row and ("scores" in row or "ranks" in row),
        _ranking,
    ),
)
