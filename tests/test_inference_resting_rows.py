"""A row whose request has ended is gone on with by the text that begins like it; answers stay what they were."""

from __future__ import annotations

import random
from typing import Any

import pytest

from luhuo.inference.cache_pool import CachePool
from luhuo.inference.decode_step import DecodeStep
from luhuo.inference.engine import Engine
from luhuo.inference.prefix_cache import PrefixCache
from luhuo.inference.sampling import Sampling
from luhuo.model.cache import KVCache
from tests.small_chat import small_model
from tests.test_inference_prefix import GREEDY, found, texts, without


class Copies(PrefixCache):
    """Counts the tokens that were copied into rows."""

    copied = 0

    def load(self, known: Any, cache: KVCache, row: int) -> None:
        self.copied += known.tokens
        super().load(known, cache, row)


def counting(model: Any, **options: Any) -> tuple[Engine, CachePool, Copies]:
    engine, copies = Engine(model, **options), Copies()
    engine.scheduler.pool.prefix = copies
    return engine, engine.scheduler.pool, copies


def turns(engine: Engine, first: list[int], count: int = 3) -> list[list[int]]:
    """The prompts of a conversation of `count` turns; each holds the turns before."""
    prompts = [first]
    for turn in range(count - 1):
        answer = engine.generate([prompts[-1]], GREEDY)[0].token_ids
        prompts.append(prompts[-1] + answer + [33 + turn, 34, 35])
    return prompts


def test_the_next_turn_goes_on_in_its_row_without_a_copy():
    engine, pool, copies = counting(small_model())
    prompts = turns(engine, texts(1, 64, 2)[0], 4)
    engine.generate([prompts[-1]], GREEDY)
    assert copies.copied == 0 and pool.cache.batch == 1
    assert copies.found == sum(len(prompt) + 11 for prompt in prompts[:-1])


def test_a_text_that_parts_from_the_row_s_goes_on_from_there():
    engine, _, copies = counting(small_model())
    first = texts(1, 64, 2)[0]
    engine.generate([first], GREEDY)
    other = [*first[:50], 7, 8, 9]
    assert engine.generate([other], GREEDY)[0].token_ids == without(engine.model, [other])[0]
    assert copies.copied == 0 and copies.found == 50


def test_the_same_text_again_computes_one_token_and_a_short_likeness_is_left():
    engine, _, copies = counting(small_model())
    first = texts(1, 64, 2)[0]
    before = engine.generate([first], GREEDY)[0].token_ids
    assert engine.generate([first], GREEDY)[0].token_ids == before
    assert copies.found == len(first) - 1
    engine.generate([[*first[:3], 9, 9, 9, 9, 9]], GREEDY)
    assert copies.found == len(first) - 1


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("cache_dtype", ["auto", "int8"])
def test_conversations_in_any_order_and_number_answer_as_without(
    compiled: bool, cache_dtype: str, monkeypatch: pytest.MonkeyPatch
):
    if not compiled:
        monkeypatch.setattr(DecodeStep, "of", lambda decoder: None)
    model = small_model()
    engine, _, copies = counting(model, max_batch=3, cache_dtype=cache_dtype)
    chance = random.Random(4)
    talks = [[prompt] for prompt in texts(5, 40, 4)]
    for _ in range(12):
        some = chance.sample(talks, chance.randrange(1, 5))
        outs = engine.generate([talk[-1] for talk in some], GREEDY)
        assert [out.token_ids for out in outs] == without(model, [talk[-1] for talk in some], cache_dtype=cache_dtype)
        for talk, out in zip(some, outs, strict=True):
            if len(talk[-1]) < 180:
                talk.append(talk[-1] + out.token_ids + [chance.randrange(20, 300)] * 2)
    assert copies.found > copies.copied  # some turns found their rows


@pytest.mark.parametrize("compiled", [True, False])
def test_a_row_rests_beside_others_that_run(compiled: bool, monkeypatch: pytest.MonkeyPatch):
    """The compiled step leaves rows that nobody has alone; modules write to all of them, and nothing rests."""
    if not compiled:
        monkeypatch.setattr(DecodeStep, "of", lambda decoder: None)
    engine, _, copies = counting(small_model(), max_batch=6, speculate="never")
    prompts = [[20 + i, *prompt] for i, prompt in enumerate(texts(6, 40, 4))]  # nothing is shared
    wanted = Sampling(max_tokens=40, temperature=0, ignore_eos=True)
    running = [engine.requests(prompt, wanted if i else GREEDY)[0] for i, prompt in enumerate(prompts)]
    for request in running:
        engine.submit(request, lambda request: None)
    while not running[0].finish_reason:
        engine.step()
    for _ in range(3):
        engine.step()
    turn = prompts[0] + running[0].tokens + [33, 34]
    request = engine.requests(turn, GREEDY)[0]
    engine.submit(request, lambda request: None)
    while not engine.idle:
        engine.step()
    assert request.tokens == without(engine.model, [turn])[0]
    assert request.cached_tokens == len(turn) - 3 and copies.copied == (0 if compiled else len(turn) - 3)
    assert all(one.tokens[:12] == without(engine.model, [p])[0] for one, p in zip(running, prompts, strict=True))


def test_what_other_weights_left_in_a_row_is_not_gone_on_with():
    engine, prompt = Engine(small_model()), texts(1, 100, 1)[0]
    engine.generate([prompt], GREEDY)
    other = small_model(opinionated=False)
    engine.update_weights(other)
    assert engine.generate([prompt], GREEDY)[0].token_ids == without(other, [prompt])[0] and found(engine) == 0


def test_rows_of_several_requests_are_freed_when_all_have_ended():
    engine, pool, _ = counting(small_model())
    engine.generate(texts(3, 40, 4), GREEDY)
    assert pool.cache.batch == 0
    engine.generate(texts(1, 40, 4), Sampling(max_tokens=2, temperature=0))
    assert pool.cache.batch == 1
