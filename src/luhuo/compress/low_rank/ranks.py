"""Ranks for the matrices of a model, so that the factors have a given share of the matrices' parameters."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Shape = tuple[int, int]
Ranks = dict[str, int | None]
"""By matrix: its rank, or None: it stays whole."""


def size(shape: Shape, rank: int | None) -> int:
    """Numbers that a matrix (rows, columns) of this rank takes."""
    rows, columns = shape
    return rows * columns if rank is None else rank * (rows + columns)


def most(shape: Shape, multiple: int) -> int:
    """The largest multiple at which factors are smaller than the matrix; 0: there is none."""
    rows, columns = shape
    return (rows * columns - 1) // (rows + columns) // multiple * multiple


def uniform(shapes: Mapping[str, Shape], ratio: float, multiple: int = 8) -> Ranks:
    """The same share of every matrix, rounded down to a multiple; a matrix for which nothing would be saved stays
    whole. Raises `LuhuoError` if the ratio leaves no rank to any."""
    ranks: Ranks = {}
    for name, shape in shapes.items():
        rows, columns = shape
        rank = int(ratio * rows * columns / (rows + columns)) // multiple * multiple
        ranks[name] = None if ratio >= 1 or not most(shape, multiple) else max(multiple, rank)
    _check(shapes, ranks, ratio)
    return ranks


def by_energy(
    energies: Mapping[str, Tensor],
    shapes: Mapping[str, Shape],
    ratio: float,
    multiple: int = 8,
    weights: Mapping[str, float] | None = None,
) -> Ranks:
    """Ranks that lose least of the outputs' energy in all: `energies` (n,) are a matrix' squared singular values.

    Each matrix' loss is taken relative to its whole energy and counts by `weights` (1 if there are none). From the
    smallest ranks on, the next `multiple` of singular values goes where it saves most for its parameters, until the
    budget is used; since the values fall, that is the best there is, up to the last step. Beyond the rank at which
    factors save nothing the next step is the whole matrix.
    """
    limit = ratio * sum(size(shape, None) for shape in shapes.values())
    ranks: Ranks = {name: multiple if most(shape, multiple) else None for name, shape in shapes.items()}
    used = sum(size(shapes[name], rank) for name, rank in ranks.items())
    waiting: list[tuple[float, str, int, int | None]] = []

    def offer(name: str) -> None:
        rank = ranks[name]
        if rank is None:
            return
        more = rank + multiple if rank + multiple <= most(shapes[name], multiple) else None
        energy, cost = energies[name], size(shapes[name], more) - size(shapes[name], rank)
        saved = float(energy[rank:more].sum() / energy.sum().clamp(min=1e-300)) * (weights or {}).get(name, 1.0)
        heapq.heappush(waiting, (-saved / cost, name, cost, more))

    for name in ranks:
        offer(name)
    while waiting:
        _, name, cost, more = heapq.heappop(waiting)
        if used + cost <= limit:
            ranks[name], used = more, used + cost
            offer(name)
    _check(shapes, ranks, ratio)
    return ranks


def _check(shapes: Mapping[str, Shape], ranks: Ranks, ratio: float) -> None:
    """Raise `LuhuoError` if even the smallest ranks are too large."""
    whole = sum(size(shape, None) for shape in shapes.values())
    used = sum(size(shapes[name], rank) for name, rank in ranks.items())
    if used > max(ratio, 1e-9) * whole and ratio < 1:
        raise LuhuoError(
            tr("The smallest ranks take more than this share.", "最小的秩也超出了该比例。"),
            expected=f"≥ {used / whole:.3f}",
            found=ratio,
            where="ratio",
            fix=tr("Raise ratio, or lower multiple.", "请增大 ratio 或减小 multiple。"),
        )
