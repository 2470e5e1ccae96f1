"""How many zeros each block gets: as many as all others, or fewer where many weights stand out (OWL).

OWL (Yin et al. 2024, section 4): a block's outlier share D is that of weights whose Wanda score exceeds `times` the
mean score of their matrix. Densities follow D linearly, within ± `spread` of the mean density.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from luhuo.compress.prune import wanda

TIMES, SPREAD = 5.0, 0.08
"""The paper's settings (section 5.1)."""


def outliers(weight: Tensor, squares: Tensor, times: float = TIMES) -> tuple[int, int]:
    """Weights of a matrix that stand out, and all of them; `squares` (columns,) as `wanda.scores` has them."""
    found = wanda.scores(weight, squares)
    return int((found > times * found.mean()).sum()), weight.numel()


def owl(shares: Sequence[float], sizes: Sequence[int], sparsity: float, spread: float = SPREAD) -> list[float]:
    """The sparsity of each block for its outlier share and its number of weights, `sparsity` over all of them.

    Where the shares are equal, all blocks get the same; the spread shrinks where a share would leave [0, 1].
    """
    low, high = min(shares), max(shares)
    total = sum(sizes)
    if high == low:
        return [sparsity] * len(shares)
    place = [2 * (share - low) / (high - low) for share in shares]  # 0 … 2
    mean = sum(p * size for p, size in zip(place, sizes, strict=True)) / total
    away = [mean - p for p in place]  # of the mean sparsity, in units of the spread
    room = [(1 - sparsity) / a if a > 0 else sparsity / -a for a in away if a]
    spread = min([spread, *room])
    return [min(1.0, max(0.0, sparsity + spread * a)) for a in away]
