"""How many weights of a matrix are to become zero, and in what pattern."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from luhuo.kernels.sparsity import Pattern, Scope, kept_of_pattern, kept_of_share


@dataclass(frozen=True)
class Target:
    """A share of zeros, or a pattern that says it."""

    sparsity: float
    pattern: Pattern | None = None

    def mask(self, scores: Tensor, scope: Scope) -> Tensor:
        """What stays (rows, columns): the highest scores of each group, or else of each row or the matrix."""
        if self.pattern is not None:
            return kept_of_pattern(scores, self.pattern)
        return kept_of_share(scores, self.sparsity, scope)

    def at(self, sparsity: float) -> Target:
        """The same with another share; a pattern has its own."""
        return self if self.pattern is not None else replace(self, sparsity=sparsity)


def share_of_zeros(weight: Tensor) -> float:
    """How many of the numbers are zero."""
    return 1 - int(weight.count_nonzero()) / max(1, weight.numel())
