"""Which matrix gets how many bits: the least expected loss within a size, a knapsack with one choice for each matrix.

Solved by dynamic programming over sizes (Kellerer, Pferschy and Pisinger 2004, section 11.5). Sizes are counted in
shares of the limit, rounded up, so that it is never exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

STEPS = 20_000
"""Parts that the limit is divided into."""
WHOLE = 16
"""Bits of a matrix that is left as it is."""


def allocate(
    costs: Mapping[str, Mapping[int, float]], sizes: Mapping[str, Mapping[int, int]], limit: int
) -> dict[str, int]:
    """The bits of each matrix with the least sum of `costs` (by matrix and bits) within `limit`.

    `sizes`: what each matrix takes with so many bits, in the unit of `limit`. Raises `LuhuoError` if even the fewest
    bits take more.
    """
    least = sum(min(of_bits.values()) for of_bits in sizes.values())
    if least > limit:
        raise LuhuoError(
            tr("The model does not fit the size even with the fewest bits.", "即使用最少位数，模型也超出给定大小。"),
            expected=tr(f"≥ {least / 8e6:.2f} MB for the blocks", f"各块至少 {least / 8e6:.2f} MB"),
            found=f"{limit / 8e6:.2f} MB",
            fix=tr("Allow more, or fewer bits (choices).", "请放宽大小，或允许更少的位数（choices）。"),
        )
    names = list(costs)
    unit = _unit(sizes, limit, least)
    room = limit // unit
    best = np.zeros(room + 1)
    taken = np.zeros((len(names), room + 1), dtype=np.int8)
    for number, name in enumerate(names):
        found = np.full(room + 1, np.inf)
        for choice, (bits, cost) in enumerate(costs[name].items()):
            size = -(-sizes[name][bits] // unit)
            if size > room:
                continue
            with_it = np.full(room + 1, np.inf)
            with_it[size:] = best[: room + 1 - size] + cost
            better = with_it < found
            found[better], taken[number, better] = with_it[better], choice
        best = found
    chosen: dict[str, int] = {}
    for number in range(len(names) - 1, -1, -1):
        name = names[number]
        bits = list(costs[name])[int(taken[number, room])]
        chosen[name] = bits
        room -= -(-sizes[name][bits] // unit)
    return {name: chosen[name] for name in names}


def _unit(sizes: Mapping[str, Mapping[int, int]], limit: int, least: int) -> int:
    """The unit sizes are counted in: fine enough that rounding up leaves a way to fit."""
    divisor = int(np.gcd.reduce([size for of_bits in sizes.values() for size in of_bits.values()]))
    if limit // divisor <= STEPS:
        return max(1, divisor)
    spare = (limit - least) // max(1, len(sizes))  # what rounding up may cost each matrix
    return max(1, min(limit // STEPS, spare))


def matrix_bits(rows: int, columns: int, bits: int, group: int, *, zeros: bool) -> int:
    """Bits that a matrix takes in a file: its integers, a bf16 scale for each group, perhaps a zero."""
    return rows * columns * bits + rows * (columns // group) * (16 + (bits if zeros else 0))
