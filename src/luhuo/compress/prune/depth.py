"""Which layers stay.

"influence": a layer matters as far as it turns the residual stream, 1 - E[cos(x_in, x_out)] (ShortGPT, Men et al.
2024, equation 1); "contiguous": the run of neighbours goes whose first input and last output are most alike (Gromov et
al. 2024, equation 5: the angle between them); "loss": one layer after another goes, each time that without which the
loss on the calibration text is least (Minitron, Muralidharan et al. 2024, section 2.2, measures single layers so).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

SAMPLE = 2048
"""Tokens whose states are compared across layers."""


class Influence:
    """1 - E[cos(x_in, x_out)] of one layer over all tokens."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, before: Tensor, after: Tensor) -> None:
        """States (…, hidden) before and after the layer."""
        similar = F.cosine_similarity(before.double(), after.double(), dim=-1)
        self._sum += float(similar.sum())
        self._count += similar.numel()

    @property
    def value(self) -> float:
        """Between 0, the layer changes nothing but lengths, and 2."""
        return 1 - self._sum / max(1, self._count)


def by_influence(values: Sequence[float], wanted: int) -> list[int]:
    """The `wanted` layers with the greatest influence, in order."""
    order = sorted(range(len(values)), key=lambda layer: (-values[layer], layer))
    return sorted(order[:wanted])


def contiguous(states: Sequence[Tensor], wanted: int) -> list[int]:
    """All layers but the run of neighbours across which states turn least: `states` are those (tokens, hidden) in
    front of each layer, and behind the last. The last layer always stays."""
    layers = len(states) - 1
    gone = layers - wanted
    angles = []
    for start in range(max(1, layers - gone)):
        similar = F.cosine_similarity(states[start].double(), states[start + gone].double(), dim=-1)
        angles.append(float(similar.clamp(-1, 1).acos().mean()))
    start = min(range(len(angles)), key=angles.__getitem__)
    return [layer for layer in range(layers) if not start <= layer < start + gone]


def by_loss(loss: Callable[[Sequence[int]], float], layers: int, wanted: int) -> list[int]:
    """Layers taken away one by one, each time that without which `loss` (of the layers that stay) is least."""
    stay = list(range(layers))
    while len(stay) > wanted:
        losses = [loss([layer for layer in stay if layer != gone]) for gone in stay]
        stay.pop(min(range(len(losses)), key=losses.__getitem__))
    return stay
