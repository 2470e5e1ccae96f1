"""What a teacher says about some tokens: computed from its states chunk by chunk, or taken from stored top-k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.recording import Reader

Block = Callable[[slice, Tensor], Tensor]
"""(rows of the chunk, the student's log-probabilities of them (n, V)) -> the teacher's (n, V), both fp32 at the
temperature of the divergence."""


class SoftTargets(Protocol):
    """The teacher's distributions over the next token, for a list of places."""

    vocabulary: int
    """Tokens there are; rows beyond them, which only fill an output matrix up, are not compared."""

    def chunk(self, places: slice) -> Block:
        """What gives the teacher's log-probabilities of a few of these places at a time."""
        ...


class LiveTargets:
    """Of the teacher's last states (n, C), by its head; a chunk of logits exists at a time."""

    def __init__(self, teacher: Reader, states: Tensor, divergence: Divergence, vocabulary: int) -> None:
        self.teacher, self.states, self.divergence, self.vocabulary = teacher, states, divergence, vocabulary

    @torch.no_grad()
    def chunk(self, places: slice) -> Block:
        """One product with the teacher's output matrix."""
        logits = self.teacher.head(self.states[places])

        def block(rows: slice, student: Tensor) -> Tensor:
            return self.divergence.log_softmax(logits[rows, : student.shape[1]])

        return block


class StoredTargets:
    """The k likeliest tokens and the mass of all others together.

    `ids` (n, k) int64, `values` (n, k) and `rest` (n,) fp32: natural logarithms of probabilities at the temperature of
    the divergence. Teacher and student are compared on k + 1 outcomes: each of these tokens, and "another one". That
    is the divergence in which the teacher's remaining mass is shared among the other tokens as the student shares its
    own: where the ratio of both is constant, each of the divergences is what it is for the sum. With k the whole
    vocabulary nothing is left out; with less, it is a lower bound.
    """

    def __init__(self, ids: Tensor, values: Tensor, rest: Tensor, vocabulary: int) -> None:
        self.ids, self.vocabulary = ids.long(), vocabulary
        # Kept in few bits they no longer sum to one.
        whole = torch.cat([values.float(), rest.float()[:, None]], -1).log_softmax(-1)
        self.values, self.rest = whole[:, :-1], whole[:, -1]

    def chunk(self, places: slice) -> Block:
        """Nothing is computed ahead."""
        ids, values, rest = self.ids[places], self.values[places], self.rest[places]

        def block(rows: slice, student: Tensor) -> Tensor:
            others = student.scatter(1, ids[rows], -torch.inf)
            spread = others - others.logsumexp(-1, keepdim=True) + rest[rows, None]
            # Where nothing is left over this is -∞ - -∞, and every place is one of the k.
            return spread.scatter(1, ids[rows], values[rows])

        return block
