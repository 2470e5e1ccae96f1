"""Records (CPM-Bee, OpenBMB 2023): a text is a list of named entries, and biases say how its parts are related.

`{"input": "…", "<ans>": "…"}` is written as segments that each open with the same token: the root, then a name and
its value for every entry. All but the value of the answer's entry is the prompt and sees itself both ways. Tokens of
one segment have a bias by their distance, those of two by the way between them in the tree: so many steps up to their
common ancestor, so many down.

Entries that hold further entries, and examples in front of a record, look the same in the ids: they need more than
these say, and are read as a flat list. So do numbered placeholders (`<mask_1>`): a token means its first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from luhuo.model.masks import document_numbers, document_positions
from luhuo.model.relative import t5_buckets

if TYPE_CHECKING:
    from luhuo.model.cache import KVCache
    from luhuo.model.config import RecordConfig

DEPTHS = 8
"""Steps down that the table of relations tells apart: it has a row for each pair of steps up and down."""


def read_segments(ids: Tensor, documents: Tensor | None, record: RecordConfig) -> tuple[Tensor, Tensor]:
    """The number of each token's segment in its document, from 0, and whether it is of the prompt: both (batch, time).

    A document without the name of an answer has no prompt: all of it is read as if it was being generated.
    """
    documents = torch.ones_like(ids) if documents is None else documents
    position, document = document_positions(documents), document_numbers(documents)
    index = torch.arange(ids.shape[1], device=ids.device)
    begins = (ids == record.begin_id).cumsum(1)
    number = begins - begins.gather(1, index - position)
    asked = torch.where(ids == record.answer_id, number, ids.shape[1])
    first = torch.full_like(number, ids.shape[1]).scatter_reduce(1, document, asked, "amin").gather(1, document)
    return number, (number <= first) & (first < ids.shape[1])


def relation_rows(number: Tensor, queries: Tensor, record: RecordConfig) -> Tensor:
    """Row of the table of biases (B, T, S) for queries in slots (B or 1, T) and the keys of `number` (B, S).

    Segment 0 is the root, those with odd numbers are names (depth 1), each with its value behind it (depth 2).
    """
    slots = torch.arange(number.shape[1], device=number.device)
    queries = queries.expand(len(number), -1)
    asking, seen = number.gather(1, queries)[..., None], number[:, None]
    shared = ((asking + 1) // 2 == (seen + 1) // 2).long()  # depth of the common ancestor: a name, or the root
    rows = record.buckets + DEPTHS * (_depth(asking) - shared) + (_depth(seen) - shared)
    distance = slots - queries[..., None]
    return torch.where(asking == seen, t5_buckets(distance, record.buckets, record.longest, both_ways=True), rows)


def grows_prompt(ids: Tensor, real: Tensor, cache: KVCache, record: RecordConfig) -> Tensor:
    """Rows (batch,) whose prompt `ids` (batch, time) continue, as far as `real`: cached tokens were to see them."""
    assert cache.ids is not None
    starts = cache.starts()
    known = torch.arange(cache.longest, device=ids.device) < starts[:, None]
    _, prompt = read_segments(cache.ids[:, : cache.longest], known.int(), record)
    open_ended = prompt.gather(1, (starts - 1).clamp(min=0)[:, None])[:, 0]
    asked = ((ids == record.answer_id) & real).any(1)
    return torch.where((prompt & known).any(1), open_ended & (ids[:, 0] != record.begin_id) & real[:, 0], asked)


def _depth(number: Tensor) -> Tensor:
    return torch.where(number > 0, 2 - number % 2, 0)
