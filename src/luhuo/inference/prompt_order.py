"""Which prompts the next pass works on: those with the least left first, the oldest in every second pass.

Shortest first gives half of a crowd its first token long before the last one, where equal shares would let all wait
for the end (Schrage 1968); the oldest in every second pass keeps a stream of short prompts from making it wait for
ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from luhuo.inference.cache_pool import Running

LEAST_CHUNK = 64
"""Tokens of a prompt that are worth a pass."""


class PromptOrder:
    """The order of prompts, which differs from pass to pass."""

    def __init__(self) -> None:
        self._passes = 0

    def passed(self) -> None:
        """A pass over prompts was taken."""
        self._passes += 1

    def whole(self, unready: Sequence[Running], budget: int) -> list[Running]:
        """The next prompts that have at most `budget` tokens left together; none where the first has more."""
        found: list[Running] = []
        for one in self._ordered(unready):
            budget -= one.pending
            if budget < 0:
                break
            found.append(one)
        return found

    def chunks(
        self, unready: Sequence[Running], budget: int, capacity: int, *, divisible: bool
    ) -> tuple[list[Running], list[int]]:
        """Prompts for one pass of at most `budget` tokens, padding included, and how many tokens of each it takes.

        Padding is written too: the longest row has room for the widest chunk, in `capacity` slots or as many as the
        first of them needs. Where they are not `divisible`, prompts are taken whole.
        """
        order = self._ordered(unready)
        group, takes = order[:1], [min(order[0].pending, budget)]
        reach = max(capacity, order[0].filled + takes[0])
        for one in order[1:]:
            rows, take = len(group) + 1, min(one.pending, budget)
            if rows * take > budget and divisible:
                take = min(take, max(takes))  # a part, as wide as the others
            width = max(*takes, take)
            longest = max(o.filled for o in [*group, one]) + width
            if rows * width > budget or longest > reach or take < min(one.pending, LEAST_CHUNK):
                continue
            group.append(one)
            takes.append(take)
        return group, takes

    def _ordered(self, unready: Sequence[Running]) -> list[Running]:
        oldest = min(unready, key=lambda one: one.number) if self._passes % 2 else None
        return sorted(unready, key=lambda one: (one is not oldest, one.pending, one.number))
