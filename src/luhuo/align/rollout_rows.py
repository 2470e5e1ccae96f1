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


def lay_out(
    minibatches: Sequence[Sequence[Scored]], pad_id: int, device: torch.device
) -> tuple[Batch, Judged, list[int]]:
    """The samples of all minibatches in rows of one length: batch, what is known of them, and rows a minibatch.

    The batch has `ids`, `segments`, `mask` (rows, length + 1), where mask 1 is a token the policy sampled, and
    `sampled_log_probs` (rows, length), aligned with `ids[:, 1:]`: what the sampler took their log-probabilities for.
    A minibatch without samples has one row of padding. Samples of groups whose scores are all equal have rows of their
    own, so that an objective to which they mean nothing can pass over these rows.
    """
    longest = max((len(one.sample.ids) for some in minibatches for one in some), default=1)
    width = -(-longest // STEP) * STEP + 1
    rows: list[list[Scored]] = []
    counts = []
    for some in minibatches:
        before = len(rows)
        for part in _by_difference(some):
            rows += [[part[i] for i in row] for row in pack([len(one.sample.ids) for one in part], width)]
        if len(rows) == before:
            rows.append([])
        counts.append(len(rows) - before)
    sequences = max(1, max(map(len, rows)))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    segments, mask = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.uint8)
    log_probs = np.zeros((len(rows), width), np.float32)
    scores, ended = np.zeros((len(rows), sequences), np.float32), np.zeros((len(rows), sequences), bool)
    groups = np.full((len(rows), sequences), -1, np.int64)
    for r, row in enumerate(rows):
        start = 0
        for s, one in enumerate(row):
            place = slice(start, start + len(one.sample.ids))
            ids[r, place], segments[r, place] = one.sample.ids, s + 1
            mask[r, place], log_probs[r, place] = one.sample.mask, one.sample.log_probs
            scores[r, s], ended[r, s], groups[r, s] = one.score, one.sample.ended, one.group
            start = place.stop
    batch = {"ids": ids, "segments": segments, "mask": mask, "sampled_log_probs": log_probs[:, 1:]}
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
