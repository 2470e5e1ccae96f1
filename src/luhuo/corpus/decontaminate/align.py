"""Where the units of an item stand in a text, from the seeds that one copy of it has there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from luhuo.corpus.decontaminate.ngrams import Hashes

NOWHERE = -1
SPARE = 0.1
"""Share by which what lies before the first seed, or behind the last, may be longer in the text than in the item."""


def placed(item: np.ndarray, hashes: Hashes, covered: np.ndarray, at: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(length,) int64: the place in the text of each unit of the item, `NOWHERE` for those that are missing.

    `item`: the low halves of its hashes; `hashes`: those of the text; `covered`: which units of the item seeds cover;
    `at`, `inside`: places of the seeds in the text and in the item. What seeds cover stands where they say. What lies
    between them, before the first and behind the last is put beside the text so that most of it agrees (the longest
    common subsequence).
    """
    length = len(item)
    order = np.argsort(inside, kind="stable")
    nearest = np.searchsorted(inside[order], np.arange(length), "right") - 1
    found = np.arange(length) + (at - inside)[order[nearest]]
    agrees = hashes.take(found, mode="clip").astype(np.uint32) == item
    covered = covered & agrees & (found < len(hashes))  # seeds that overlap may not agree on a place
    found[~covered] = NOWHERE
    borders = np.flatnonzero(np.diff(covered, prepend=True, append=True)).tolist()
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        spare = 1 + int(SPARE * (end - start))
        first = int(found[start - 1]) + 1 if start else int(found[end]) - end - spare
        behind = int(found[end]) if end < length else first + end - start + spare
        first = max(first, 0)
        piece = hashes[first : max(first, behind)].astype(np.uint32)
        for one, two in _common(item[start:end].tolist(), piece.tolist()):
            found[start + one] = first + two
        if not start or end == length:
            outward = found[start:end] if start else found[start:end][::-1]
            outward[_reach(outward.tolist()) :] = NOWHERE
    return found


def _reach(places: Sequence[int]) -> int:
    """How far from a seed most units stand in the text: what does beyond that is there by chance (as where Altschul et
    al. 1990 end the extension of a seed)."""
    score = best = reach = 0
    for count, place in enumerate(places, 1):
        score += -1 if place == NOWHERE else 1
        if score > best:
            best, reach = score, count
    return reach


def _common(one: Sequence[int], two: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places of a longest common subsequence, from its end: bit by bit in whole rows (Hyyrö 2004)."""
    everything = (1 << len(two)) - 1
    places: dict[int, int] = {}
    for place, value in enumerate(two):
        places[value] = places.get(value, 0) | 1 << place
    rows = [everything]
    for value in one:
        row, there = rows[-1], rows[-1] & places.get(value, 0)
        rows.append(((row + there) | (row - there)) & everything)
    first, second = len(one), len(two)
    while first and second:
        bit = 1 << (second - 1)
        if rows[first] & bit:  # no more in common with this unit of the text than without it
            second -= 1
        elif not rows[first - 1] & bit:  # nor with this unit of the item
            first -= 1
        else:
            first, second = first - 1, second - 1
            yield first, second
