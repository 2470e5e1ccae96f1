"""Who meets whom: pairs with few votes more often, sides by chance."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations


def draw(models: Sequence[str], counts: Mapping[frozenset[str], int], chance: random.Random) -> tuple[str, str]:
    """Two models for a battle. A pair's weight is one over its votes and one: all pairs come to have about as many,
    and none can be foreseen."""
    pairs = list(combinations(models, 2))
    weights = [1 / (1 + counts.get(frozenset(pair), 0)) for pair in pairs]
    a, b = chance.choices(pairs, weights)[0]
    return (a, b) if chance.random() < 0.5 else (b, a)
