"""The law: loss as a function of parameters N and tokens D, and where it is lowest for a given compute."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HALF_LIFE = 15.387756
"""R*_D of Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", section 6: a repetition is worth
1/e less for about so many epochs."""
FLOPS_PER_PARAMETER = 6.0
"""Of forward and backward for one token (Kaplan et al. 2020): C = 6·N·D."""


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, equation 2)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: Array | float, tokens: Array | float) -> Array:
        """Loss after training `parameters` on `tokens` distinct tokens."""
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta

    @property
    def size_exponent(self) -> float:
        """a in N_opt ∝ C^a."""
        return self.beta / (self.alpha + self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """(N, D) of the lowest loss with 6·N·D = `flops` (Hoffmann et al. 2022, equation 4)."""
        product = flops / FLOPS_PER_PARAMETER
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        size = ratio * product**self.size_exponent
        return size, product / size

    def as_dict(self) -> dict[str, float]:
        """JSON value."""
        return asdict(self) | {"size_exponent": self.size_exponent}


def effective_tokens(tokens: Array | float, unique: Array | float) -> Array:
    """How many distinct tokens `tokens` drawn from a corpus of `unique` are worth.

    D' = U + U·R*·(1 - exp(-R/R*)), where R = D/U - 1 repetitions (Muennighoff et al. 2023, equation 5, with their R*;
    their second term, for parameters beyond what U can feed, is left out: a recommendation should not go there).
    """
    d, u = np.asarray(tokens, np.float64), np.asarray(unique, np.float64)
    repetitions = np.maximum(0.0, d / u - 1)
    return np.where(d <= u, d, u * (1 + HALF_LIFE * -np.expm1(-repetitions / HALF_LIFE)))
