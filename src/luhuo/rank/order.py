"""What a person is shown next: shuffled by a seed, so that neither item nor answer has a fixed place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from luhuo.core.seeds import derive_seed
from luhuo.rank.store import Answer, Item, Store

T = TypeVar("T")


def order(seed: int, numbers: Sequence[int]) -> list[int]:
    """Items in the order all people get them: what the first few judged, others judge too, so agreement is known."""
    return _shuffled(numbers, derive_seed(seed, "items"))


def shown(item: Item, annotator: str, seed: int) -> list[Answer]:
    """The answers of an item in the order one person sees them: another for each person, the same each time."""
    return _shuffled(item.answers, derive_seed(seed, "answers", item.id, annotator))


def next_item(store: Store, annotator: str) -> int | None:
    """The first item in order that this person has not judged and that is not judged often enough; None at the end.

    `each` of the project: how many people are to judge an item; 0: everyone.
    """
    each, seed = int(store.setting("each", 0)), int(store.setting("seed", 0))
    done = {judgement.item for judgement in store.judgements(annotator)}
    counts = store.counts() if each else {}
    for number in order(seed, store.numbers()):
        if number not in done and not (each and counts.get(number, 0) >= each):
            return number
    return None


def _shuffled(values: Sequence[T], seed: int) -> list[T]:
    mixed = list(values)
    random.Random(seed).shuffle(mixed)
    return mixed
