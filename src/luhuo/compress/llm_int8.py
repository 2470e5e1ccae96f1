"""LLM.int8 (Dettmers et al. 2022): rows and tokens in 8 bits, but columns with outliers are multiplied unrounded.

Which columns these are is seen in every product anew: all with a magnitude above 6.0 in any token (section 3.2). So
nothing has to be calibrated; the directory says the threshold, and the engine does the rest.
"""

from __future__ import annotations

from torch import Tensor

from luhuo.compress.w8a8 import round_weight
from luhuo.model.matrices import Activations, Kept

THRESHOLD = 6.0
"""Of the paper: in models from 6.7B on the features above it carry the attention."""


def llm_int8(weight: Tensor, threshold: float = THRESHOLD) -> Kept:
    """A matrix (rows, columns) in 8 bits by row, whose inputs are rounded by token but for those above `threshold`."""
    return Kept(round_weight(weight), Activations(threshold=threshold))


def outliers(largest: Tensor, threshold: float = THRESHOLD) -> int:
    """Columns that would be multiplied unrounded in some product, from their largest magnitudes (columns,)."""
    return int((largest > threshold).sum())
