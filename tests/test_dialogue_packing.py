"""Packing: nothing lost, nothing cut, nothing leaks, and the stream continues exactly."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.dialogue.packing import ConversationLoader, TokenStore, pack
from luhuo.dialogue.render import Rendered
from tests.small_chat import small_model

LENGTH = 48


def store_of(count: int = 40) -> TokenStore:
    chance = random.Random(0)
    sizes = [chance.randrange(2, LENGTH + 2) for _ in range(count)]
    return TokenStore(Rendered([20 + i] * size, [0] + [1] * (size - 1)) for i, size in enumerate(sizes))


def loader_of(store: TokenStore, **options: int) -> ConversationLoader:
    settings = {"batch": 4, "length": LENGTH, "seed": 0, "pad_id": 1} | options
    return ConversationLoader(store, **settings)


def test_every_conversation_is_in_exactly_one_row_and_rows_do_not_overflow():
    lengths = store_of().lengths().tolist()
    rows = pack(lengths, LENGTH + 1)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= LENGTH + 1 for row in rows)


def test_many_short_conversations_fill_the_rows_well():
    chance = random.Random(1)
    lengths = [chance.randrange(10, 200) for _ in range(5000)]
    assert sum(lengths) / (len(pack(lengths, 513)) * 513) > 0.97


def test_a_conversation_longer_than_a_row_is_refused_not_cut():
    with pytest.raises(LuhuoError, match="longer than a row"):
        pack([3, 10], 9)


def test_a_batch_holds_ids_segments_and_mask_of_the_conversations():
    store = store_of()
    loader = loader_of(store)
    for number, batch in zip(range(5), loader, strict=False):
        assert batch["ids"].shape == batch["segments"].shape == batch["mask"].shape == (4, LENGTH + 1), number
        padding = batch["segments"] == 0
        assert (batch["ids"][padding] == 1).all() and (batch["mask"][padding] == 0).all()
        for row in range(4):
            for segment in set(batch["segments"][row]) - {0}:
                spot = batch["segments"][row] == segment
                ids, mask = store.get(batch["ids"][row][spot][0] - 20)
                assert np.array_equal(batch["ids"][row][spot], ids)
                assert np.array_equal(batch["mask"][row][spot], mask)


def test_an_epoch_shows_each_conversation_once_and_the_next_one_in_another_order():
    loader = loader_of(store_of(), batch=1)
    first, second = ([tuple(row) for row in loader.rows(epoch)] for epoch in (0, 1))
    assert Counter(i for row in first for i in row) == Counter(range(40)) == Counter(i for row in second for i in row)
    assert first != second
    assert loader.steps(1) == len(first) and loader.steps(2) == len(first) + len(second)


def test_a_restored_loader_continues_with_the_very_next_batch():
    loader = loader_of(store_of())
    stream = iter(loader)
    for _ in range(17):
        next(stream)
    place = loader.state()
    expected = [next(stream) for _ in range(20)]
    again = loader_of(store_of())
    again.restore(place)
    for ours, theirs in zip(expected, again, strict=False):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_ranks_share_the_batches_of_a_single_process():
    whole = iter(loader_of(store_of(), batch=4))
    ranks = [iter(loader_of(store_of(), batch=2, rank=rank, world=2)) for rank in (0, 1)]
    for _ in range(10):
        expected, parts = next(whole)["ids"], [next(rank)["ids"] for rank in ranks]
        assert np.array_equal(expected, np.concatenate(parts))


def test_no_conversation_sees_another_one_in_its_row():
    model = small_model()
    batch = next(iter(loader_of(store_of(), batch=2)))
    ids, segments = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["segments"])
    changed = ids.clone()
    first = segments == 1
    assert len(segments[0].unique()) > 2, "the row must hold several conversations"
    changed[first] = (changed[first] + 7) % 300
    with torch.no_grad():
        before, after = (model(x, segments=segments) for x in (ids, changed))
    others = segments > 1
    assert torch.equal(before[others], after[others])
    assert not torch.allclose(before[first], after[first])


def test_a_packed_conversation_has_the_logits_it_has_alone():
    model = small_model()
    batch = next(iter(loader_of(store_of(), batch=1)))
    ids, segments = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["segments"])
    with torch.no_grad():
        packed = model(ids, segments=segments)
        for segment in segments.unique().tolist():
            spot = segments[0] == segment
            if segment:
                torch.testing.assert_close(packed[0, spot], model(ids[:, spot])[0], atol=2e-5, rtol=1e-5)
