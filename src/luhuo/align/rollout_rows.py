"""Samples laid out in rows, several to a row, each its own segment: none can see another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luhuo.align.rollout import Sample
from luhuo.align.rollout_statistics import EQUAL
from luhuo.dialogue.packing import pack
from luhuo.train.objective import Batch

STEP = 32
"""Rows are a multiple of this long: kernels and buffers are kept for every shape that was ever seen."""


@dataclass(frozen=True)
class Judged:
    """What is known of each sequence of a batch: sequence s of a row is segment s + 1. All (rows, sequences)."""

    scores: Tensor
    """fp32; NaN where the sample could not be scored, 0 where there is no such sequence."""
    ended: Tensor
    """bool: the policy ended its answer itself."""
    groups: Tensor
    """int64: equal numbers answer the same prompt; -1 where there is no such sequence."""


@dataclass(frozen=True)
class Scored:
    """A sample with its score (NaN: it could not be scored) and the number of its prompt."""

    sample: Sample
    score: float
    group: int


LONGEST = 512
"""Tokens up to which answers stand in one row with the prompt they share."""
LEAST = 8
"""Tokens that a prompt needs to be worth sharing."""


@dataclass(frozen=True)
class Piece:
    """What stands in a row without a gap: `shared` tokens of a prompt once, and answers that go on from there."""

    some: Sequence[Scored]
    shared: int = 0

    @property
    def size(self) -> int:
        """Tokens."""
        return self.shared + sum(len(one.sample.ids) - self.shared for one in self.some)


def lay_out(
    minibatches: Sequence[Sequence[Scored]], pad_id: int, device: torch.device, *, share: bool = False
) -> tuple[Batch, Judged, list[int]]:
    """The samples of all minibatches in rows of one length: batch, what is known of them, and rows a minibatch.

    The batch has `ids`, `segments`, `mask` (rows, length + 1), where mask 1 is a token the policy sampled, and
    `sampled_log_probs` (rows, length), aligned with `ids[:, 1:]`: what the sampler took their log-probabilities for.
    A minibatch without samples has one row of padding. Samples of groups whose scores are all equal have rows of their
    own, so that an objective to which they mean nothing can pass over these rows.

    With `share` the answers to a prompt stand behind one copy of it, a segment without targets that they see beside
    their own: `trunks` (rows, length + 1) holds its number for each of their tokens. The prompt's last token is not
    shared, so that each answer's first token follows on one of its own segment. The model computes the same numbers
    for fewer tokens, where it `takes_trunks`.
    """
    cut = [[_pieces(part, share) for part in _by_difference(some)] for some in minibatches]
    longest = max((piece.size for parts in cut for pieces in parts for piece in pieces), default=1)
    width = -(-longest // STEP) * STEP + 1
    rows: list[list[Piece]] = []
    counts = []
    for parts in cut:
        before = len(rows)
        for pieces in parts:
            rows += [[pieces[i] for i in row] for row in pack([piece.size for piece in pieces], width)]
        if len(rows) == before:
            rows.append([])
        counts.append(len(rows) - before)
    sequences = max(1, *(sum(len(piece.some) + bool(piece.shared) for piece in row) for row in rows))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    segments, trunks = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.int32)
    mask = np.zeros((len(rows), width), np.uint8)
    log_probs = np.zeros((len(rows), width), np.float32)
    scores, ended = np.zeros((len(rows), sequences), np.float32), np.zeros((len(rows), sequences), bool)
    groups = np.full((len(rows), sequences), -1, np.int64)
    for r, row in enumerate(rows):
        start = s = 0
        for piece in row:
            trunk, shared = 0, piece.shared
            if shared:
                place, s = slice(start, start + shared), s + 1
                ids[r, place], segments[r, place] = piece.some[0].sample.ids[:shared], s
                trunk, start = s, place.stop
            for one in piece.some:
                place = slice(start, start + len(one.sample.ids) - shared)
                ids[r, place], segments[r, place], trunks[r, place] = one.sample.ids[shared:], s + 1, trunk
                mask[r, place], log_probs[r, place] = one.sample.mask[shared:], one.sample.log_probs[shared:]
                scores[r, s], ended[r, s], groups[r, s] = one.score, one.sample.ended, one.group
                start, s = place.stop, s + 1
    batch = {"ids": ids, "segments": segments, "mask": mask, "sampled_log_probs": log_probs[:, 1:]}
    if trunks.any():
        batch["trunks"] = trunks
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in batch.items()}
    known = (torch.from_numpy(array).to(device) for array in (scores, ended, groups))
    return tensors, Judged(*known), counts


def _by_difference(some: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """Those of groups in which scores differ, and the others."""
    scores: dict[int, list[float]] = {}
    for one in some:
        if not math.isnan(one.score):
            scores.setdefault(one.group, []).append(one.score)
    different = {group for group, found in scores.items() if max(found) - min(found) > EQUAL}
    return [one for one in some if one.group in different], [one for one in some if one.group not in different]


def _pieces(some: Sequence[Scored], share: bool) -> list[Piece]:
    """Each sample alone or, to be shared, neighbours that answer one prompt, as many as a row may hold."""
    found: list[Piece] = []
    for one in some:
        prompt = len(one.sample.prompt.ids) - 1
        last = found[-1] if found else None
        if share and prompt >= LEAST and last is not None and last.some[0].group == one.group:
            more = Piece([*last.some, one], prompt)
            if more.size <= LONGEST:
                found[-1] = more
                continue
        found.append(Piece([one]))
    return found
