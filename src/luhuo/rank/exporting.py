"""Judgements as training data: what the stages `reward`, `dpo` and their kin read.

| layout     | a row is                                                                              |
| ---------- | ------------------------------------------------------------------------------------- |
| pairs      | prompt, chosen, rejected: a pair of answers on which most of those who chose agree     |
| ranking    | prompt, answers, ranks: one person's order of all answers                              |
| unpaired   | prompt, completion, label: whether most called an answer best (true) or bad (false)    |
| judgements | everything that was said, with names and times                                         |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, Literal

from luhuo.rank.agreement import opinions
from luhuo.rank.store import Item, Judgement, Store

Layout = Literal["pairs", "ranking", "unpaired", "judgements"]
Row = dict[str, Any]


def export(store: Store, layout: Layout, *, least: float = 0.5) -> Iterator[Row]:
    """The rows of a layout, items in order. `least`: share of those who saw a difference that must agree on a pair,
    or on a label; exactly half is never enough."""
    told = defaultdict[int, list[Judgement]](list)
    for judgement in store.judgements():
        told[judgement.item].append(judgement)
    for item in store.items():
        if told[item.id]:
            yield from LAYOUTS[layout](item, told[item.id], least)


def _pairs(item: Item, told: list[Judgement], least: float) -> Iterator[Row]:
    votes = opinions(told)
    for a, b in combinations(item.answers, 2):
        said = Counter(mine[item.id, a.id, b.id] for mine in votes.values() if (item.id, a.id, b.id) in mine)
        chosen, rejected = (a, b) if said["first"] > said["second"] else (b, a)
        won, lost = sorted((said["first"], said["second"]), reverse=True)
        if won > lost and won / (won + lost) >= least:
            yield {
                **_common(item),
                "chosen": chosen.text,
                "rejected": rejected.text,
                "chosen_model": chosen.model,
                "rejected_model": rejected.model,
                "votes": {"chosen": won, "rejected": lost, "tie": said["tie"]},
            }


def _ranking(item: Item, told: list[Judgement], least: float) -> Iterator[Row]:
    for judgement in told:
        if judgement.verdict == "ranked":
            yield {
                **_common(item),
                "answers": [answer.text for answer in item.answers],
                "ranks": [judgement.ranks[answer.id] for answer in item.answers],
                "models": [answer.model for answer in item.answers],
                "annotator": judgement.annotator,
            }


def _unpaired(item: Item, told: list[Judgement], least: float) -> Iterator[Row]:
    heard = [judgement for judgement in told if judgement.verdict != "skipped"]
    for answer in item.answers:
        best = sum(judgement.ranks.get(answer.id) == 1 for judgement in heard)
        bad = sum(judgement.verdict == "bad" for judgement in heard)
        most = max(best, bad)
        if heard and 2 * most > len(heard) and most / len(heard) >= least:
            yield {**_common(item), "completion": answer.text, "label": best > bad, "model": answer.model}


def _judgements(item: Item, told: list[Judgement], least: float) -> Iterator[Row]:
    for judgement in told:
        yield {
            **_common(item),
            "answers": [
                {"text": answer.text, "model": answer.model, "rank": judgement.ranks.get(answer.id)}
                for answer in item.answers
            ],
            "verdict": judgement.verdict,
            "annotator": judgement.annotator,
            "comment": judgement.comment,
            "seconds": judgement.seconds,
            "at": judgement.at,
        }


def _common(item: Item) -> Row:
    return {**item.meta, "item": item.id, "prompt": item.prompt}


LAYOUTS: dict[Layout, Callable[[Item, list[Judgement], float], Iterator[Row]]] = {
    "pairs": _pairs,
    "ranking": _ranking,
    "unpaired": _unpaired,
    "judgements": _judgements,
}
