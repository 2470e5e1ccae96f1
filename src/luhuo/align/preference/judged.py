"""Judged answers as units of one sequence, each beside its prompt with the answer to another one (KTO's baseline)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from luhuo.align.preference.kto import PLANE
from luhuo.align.preference.rendering import Prepared, Unfit, read, render_answers
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.packing import TokenStore
from luhuo.dialogue.preferences import Unpaired, read_unpaired
from luhuo.dialogue.render import Rendered
from luhuo.files.records import Broken
from luhuo.tokenizer.tokenizer import Tokenizer


def prepare_judged(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    limit: int,
    *,
    overlong: str,
    quarantine: Callable[[Broken], None],
    seed: int = 0,
    shuffle_seed: int | None = None,
) -> Prepared:
    """Read, check, render and count all answers; `label` is 1 for a good one and 0 for a bad one.

    With `shuffle_seed` the labels are permuted over all answers. Raises `LuhuoError` unless there are good and bad
    ones.
    """
    prepared = Prepared()
    labels: list[float] = []
    kept: list[Rendered] = []
    for one in read(files, read_unpaired, prepared, quarantine):
        prepared.counts["read"] += 1
        try:
            (answer,), shortened = render_answers(one.prompt, [one.completion], tokenizer, limit, overlong=overlong)
        except Unfit as reason:
            prepared.counts[str(reason)] += 1
            quarantine(_unusable(one, prepared.counts["read"], str(reason)))
            continue
        prepared.counts["used"] += 1
        prepared.counts["truncated"] += shortened
        prepared.counts["good" if one.label else "bad"] += 1
        prepared.first = prepared.first or [answer]
        prepared.units.add([answer])
        kept.append(answer)
        labels.append(float(one.label))
    if kept and not 0 < sum(labels) < len(labels):
        raise LuhuoError(
            tr("All answers have the same label: there is nothing to tell apart.", "所有回答的标签相同：无从区分。"),
            expected=tr("good and bad answers", "好与差的回答"),
            found=f"good {int(sum(labels))}, bad {len(labels) - int(sum(labels))}",
        )
    values = np.array(labels, dtype=np.float32)
    if shuffle_seed is not None:
        values = values[np.random.default_rng(derive_seed(shuffle_seed, "shuffle_labels")).permutation(len(values))]
    prepared.units.numbers["label"] = values
    prepared.units.planes[PLANE] = mismatched(kept, limit, seed)
    return prepared


def mismatched(answers: Sequence[Rendered], limit: int, seed: int) -> TokenStore:
    """Each prompt with the answer to another one, if there is another: that of the next in a shuffled circle.

    The answer's tokens are taken as they stand behind their own prompt, which ends in the same words of the template.
    What would exceed `limit` loses the end of its answer, of which nothing is learned here.
    """
    order = np.random.default_rng(derive_seed(seed, "mismatched")).permutation(len(answers))
    prompts = [one.ids[: one.mask.index(1)] for one in answers]
    found: list[Rendered | None] = [None] * len(answers)
    for place, here in enumerate(order):
        for step in range(1, len(order)):
            there = order[(place + step) % len(order)]
            if prompts[there] != prompts[here]:
                break
        else:
            there = here
        start = len(prompts[there])
        ids = prompts[here] + answers[there].ids[start:]
        mask = [0] * len(prompts[here]) + list(answers[there].mask[start:])
        found[here] = Rendered(ids[:limit], mask[:limit])
    return TokenStore(one for one in found if one is not None)


def _unusable(one: Unpaired, row: int, reason: str) -> Broken:
    excerpt = json.dumps([one.prompt.messages[-1].content[:100], one.completion[-1].content[:100]], ensure_ascii=False)
    return Broken(str(one.meta.get("id", "")), row, reason, excerpt)
