"""Beginnings of texts that were computed before are not computed again, and answers stay what they were."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from luhuo.inference.engine import Engine
from luhuo.inference.prefix_cache import BLOCK, PrefixCache
from luhuo.inference.sampling import Sampling
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from tests.small_chat import small_config, small_model

GREEDY = Sampling(max_tokens=12, temperature=0, ignore_eos=True)


def texts(count: int, shared: int, own: int) -> list[list[int]]:
    """Prompts that begin alike."""
    chance = random.Random(3)
    start = [chance.randrange(20, 300) for _ in range(shared)]
    return [start + [chance.randrange(20, 300) for _ in range(own + i % 3)] for i in range(count)]


def without(model: Any, prompts: list[list[int]], **options: object) -> list[list[int]]:
    engine = Engine(model, prefix_cache=False, **options)  # type: ignore[arg-type]
    return [engine.generate([prompt], GREEDY)[0].token_ids for prompt in prompts]


def found(engine: Engine) -> int:
    assert engine.scheduler.pool.prefix is not None
    return engine.scheduler.pool.prefix.found


@pytest.mark.parametrize("cache_dtype", ["auto", "bf16", "fp16", "int8"])
def test_answers_are_those_without_the_prefix_cache(cache_dtype: str):
    model, prompts = small_model(), texts(8, 90, 7)
    engine = Engine(model, max_batch=4, cache_dtype=cache_dtype)
    for _ in range(2):
        outs = engine.generate(prompts, GREEDY)
        assert [out.token_ids for out in outs] == without(model, prompts, cache_dtype=cache_dtype)
    assert found(engine) >= (2 * 8 - 1) * 64  # the first one computes, all others find


def test_of_prompts_that_come_together_one_computes_what_they_share():
    engine = Engine(small_model(), max_batch=16)
    prompts = texts(16, 100, 5)
    engine.generate(prompts, GREEDY)
    assert found(engine) == 15 * 96


def test_the_answers_of_one_prompt_share_its_computation():
    engine = Engine(small_model())
    outs = engine.generate(texts(1, 120, 1), Sampling(max_tokens=4, n=8, seed=2))[0].choices
    assert len(outs) == 8 and found(engine) == 7 * 96


def test_the_next_turn_finds_the_turns_before_it_answers_included():
    engine = Engine(small_model())
    first = texts(1, 64, 2)[0]
    answer = engine.generate([first], Sampling(max_tokens=40, temperature=0, ignore_eos=True))[0].token_ids
    second = first + answer + [33, 34, 35]
    out = engine.generate([second], GREEDY)[0]
    assert found(engine) == len(first) + 39 and found(engine) % BLOCK
    assert out.token_ids == without(engine.model, [second])[0]


def test_a_small_budget_forgets_what_was_used_longest_ago_and_never_holds_more():
    model = small_model()
    engine = Engine(model, max_batch=2, cache_tokens=640)
    pool = engine.scheduler.pool
    assert pool.prefix is not None
    prompts = [texts(1, 150, 1)[0][i:] for i in range(6)]
    for prompt in [*prompts, prompts[-1]]:
        engine.generate([prompt], GREEDY)
        assert 0 < pool.prefix.tokens <= 320
    before = pool.prefix.found
    engine.generate([prompts[-1]], GREEDY)
    assert pool.prefix.found > before
    before = pool.prefix.found
    engine.generate([prompts[0]], GREEDY)
    assert pool.prefix.found == before


def test_other_weights_find_nothing_of_the_old_ones():
    engine, prompt = Engine(small_model()), texts(1, 100, 1)[0]
    engine.generate([prompt], GREEDY)
    other = small_model(opinionated=False)
    expected = without(other, [prompt])[0]
    engine.update_weights(other)
    assert engine.generate([prompt], GREEDY)[0].token_ids == expected and found(engine) == 0


def test_ends_of_chains_go_before_their_beginnings():
    cache = KVCache(small_config(), 2, 256)
    cache.lengths = [128, 128]
    kept, ids = PrefixCache(), list(range(128))
    other = ids[:64] + [7] * 64
    kept.save(cache, [(0, ids), (1, other)], 1000, adapter=None)
    assert kept.tokens == 192
    kept.match([*ids, 1])
    kept.shrink(128)
    assert kept.match([*ids, 1]).tokens == 128 and kept.match([*other, 1]).tokens == 64
    kept.shrink(32)
    assert kept.match([*ids, 1]).tokens == 32


def cache_config(**shape: int) -> ModelConfig:
    return small_config().model_copy(update=shape)


def filled(stored: torch.dtype, rows: int, slots: int = 128, **shape: int) -> KVCache:
    """A cache full of numbers drawn by chance."""
    cache = KVCache(cache_config(**shape), rows, slots, stored=stored)
    for tensors in cache.lists:
        for tensor in tensors:
            tensor.copy_(torch.randint(-99, 99, tensor.shape))
    return cache


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize(("text", "count"), [(96, 96), (100, 100), (20, 20), (98, 96), (50, 50)])
def test_what_is_loaded_is_what_was_saved_in_every_number_format(stored: torch.dtype, text: int, count: int):
    """Whole blocks, rests of texts that ended, and no rest of fewer than four tokens."""
    cache, ids = filled(stored, 2), list(range(text))
    kept = PrefixCache()
    kept.save(cache, [(1, ids)], 1000, adapter="a", rests=True)
    assert kept.tokens == count
    fresh = KVCache(small_config(), 3, 128, stored=stored)
    kept.load(kept.match([*ids, 1], "a"), fresh, 2)
    assert fresh.lengths == [0, 0, count] and kept.match([*ids, 1]).tokens == 0
    for ours, theirs in zip(fresh.lists, cache.lists, strict=True):
        for mine, saved in zip(ours, theirs, strict=True):
            assert torch.equal(mine[2, :, :count], saved[1, :, :count]) and not mine[:2].any()


def test_rests_of_a_cache_whose_tokens_take_an_odd_number_of_bytes():
    """Three features a head in one byte each, and a scale of four: an end of five tokens begins anywhere."""
    shape = {"layers": 3, "heads": 1, "kv_heads": 1, "head_dim": 3}
    cache, ids = filled(torch.int8, 1, **shape), list(range(37))
    kept, fresh = PrefixCache(), KVCache(cache_config(**shape), 1, 128, stored=torch.int8)
    kept.save(cache, [(0, ids)], 1000, adapter=None, rests=True)
    kept.load(kept.match([*ids, 1]), fresh, 0)
    for ours, theirs in zip(fresh.lists, cache.lists, strict=True):
        assert all(torch.equal(mine[0, :, :37], saved[0, :, :37]) for mine, saved in zip(ours, theirs, strict=True))


def test_texts_that_part_within_a_block_share_what_lies_before():
    cache, ids = filled(torch.float32, 1), list(range(100))
    kept = PrefixCache()
    kept.save(cache, [(0, ids)], 1000, adapter=None)
    for shared in (5, 31, 32, 45, 80):
        fresh = KVCache(small_config(), 1, 128)
        known = kept.match([*ids[:shared], 777, *range(500, 600)])
        kept.load(known, fresh, 0)
        assert known.tokens == fresh.lengths[0] == shared
        assert all(
            torch.equal(a[0, :, :shared], b[0, :, :shared]) for a, b in zip(fresh.keys, cache.keys, strict=True)
        )
    assert kept.match([*ids[:3], 777, 778]).tokens == 0  # not worth a copy
    assert kept.match(ids[:40]).tokens == 39  # the last one has to be computed


def test_a_rest_gives_way_to_the_block_that_goes_on_from_it_and_is_kept_once():
    cache, ids = filled(torch.float32, 1), list(range(100))
    kept = PrefixCache()
    for _ in range(2):
        kept.save(cache, [(0, ids[:40])], 1000, adapter=None, rests=True)
        assert kept.tokens == 40
    kept.save(cache, [(0, ids[:50])], 1000, adapter=None, rests=True)
    assert kept.tokens == 50
    kept.save(cache, [(0, ids[:40])], 1000, adapter=None, rests=True)
    assert kept.tokens == 50
    kept.save(cache, [(0, ids)], 1000, adapter=None, rests=False)
    assert kept.tokens == 96
    kept.shrink(95)
    assert kept.match(ids).tokens == 64
    kept.clear()
    assert kept.tokens == kept.match(ids).tokens == 0


def test_an_adapter_s_rests_are_forgotten_with_it():
    cache, ids = filled(torch.float32, 1), list(range(50))
    kept = PrefixCache()
    for adapter in (None, 1, 2):
        kept.save(cache, [(0, ids)], 1000, adapter=adapter, rests=True)
    kept.forget(1)
    assert kept.tokens == 100
    assert [kept.match([*ids, 1], adapter).tokens for adapter in (None, 1, 2)] == [50, 0, 50]


def test_random_texts_under_a_small_budget_are_found_as_they_are_and_the_books_balance():
    chance, cache = random.Random(5), filled(torch.float32, 1, 256)
    kept = PrefixCache()
    for _ in range(400):
        ids = [chance.randrange(2) for _ in range(chance.randrange(1, 9))] * 40
        ids = ids[: chance.randrange(1, 200)]
        known = kept.match(ids)
        assert known.tokens < len(ids)
        assert [token for block in known.chain for token in block.tokens][: known.tokens] == ids[: known.tokens]
        kept.save(cache, [(0, ids)], 300, adapter=None, rests=chance.random() < 0.7)
        blocks = list(kept._blocks.values())
        assert kept.tokens == sum(len(block.tokens) for block in blocks) <= 300
        assert sorted(map(id, blocks)) == sorted(id(block) for alike in kept._next.values() for block in alike)
        assert all(not isinstance(one.before, type(one)) or one.before in blocks for one in blocks)
