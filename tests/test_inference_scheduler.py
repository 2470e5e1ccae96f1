"""Who runs when, within which memory; whatever it decides, answers are what they would be alone."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import torch

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.inference.engine import Engine
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling
from luhuo.inference.worker import Worker
from luhuo.model.config import MLAConfig, ModelConfig, RopeConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from tests.small_chat import random_prompts, small_config, small_model

GREEDY = Sampling(max_tokens=16, temperature=0, ignore_eos=True)
DRAWN = Sampling(max_tokens=16, seed=7, ignore_eos=True)


def alone(model: Any, prompts: list[list[int]], sampling: Sampling = GREEDY, **options: object) -> list[list[int]]:
    """Tokens of each prompt without company, in one piece, with nothing cached before."""
    found = []
    for prompt in prompts:
        engine = Engine(model, prefix_cache=False, step_tokens=10**6, speculate="never", **options)  # type: ignore[arg-type]
        found.append(engine.generate([prompt], sampling)[0].token_ids)
    return found


def tokens(engine: Engine, prompts: list[list[int]], sampling: Sampling = GREEDY) -> list[list[int]]:
    return [out.token_ids for out in engine.generate(prompts, sampling)]


def occupied(engine: Engine) -> int:
    pool = engine.scheduler.pool
    return pool.cache.batch * pool.cache.capacity + pool.kept


@pytest.mark.parametrize("step_tokens", [1, 7, 33, 64, 200])
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_chunks_of_any_size_give_the_same_answers(step_tokens: int, sampling: Sampling):
    model, prompts = small_model(), random_prompts(10, 120)
    engine = Engine(model, max_batch=4, step_tokens=step_tokens)
    assert tokens(engine, prompts, sampling) == alone(model, prompts, sampling)


def test_a_long_prompt_does_not_hold_up_answers_that_are_being_written():
    engine = Engine(small_model(max_positions=2048), step_tokens=64)
    short = engine.requests([30, 31], Sampling(max_tokens=60, temperature=0, ignore_eos=True))[0]
    engine.submit(short, lambda request: None)
    engine.step()
    long = engine.requests([40] * 1200, GREEDY)[0]
    engine.submit(long, lambda request: None)
    for _ in range(15):
        before = len(short.tokens)
        engine.step()
        assert len(short.tokens) == before + 1 and not long.tokens
    while not long.finish_reason:
        engine.step()
    assert long.tokens == alone(engine.model, [[40] * 1200])[0]


def test_a_short_prompt_does_not_wait_for_the_end_of_a_long_one():
    engine = Engine(small_model(max_positions=4096), step_tokens=128)
    long, short = engine.requests([40] * 3000, GREEDY)[0], engine.requests([30, 31, 32], GREEDY)[0]
    for request in (long, short):
        engine.submit(request, lambda request: None)
    for _ in range(4):
        engine.step()
    assert short.tokens and not long.tokens


def test_half_of_a_crowd_reads_its_first_word_long_before_the_last_one():
    engine = Engine(small_model(max_positions=512), step_tokens=128)
    crowd = [engine.requests(prompt, GREEDY)[0] for prompt in random_prompts(16, 120)]
    for request in crowd:
        engine.submit(request, lambda request: None)
    came, steps = {}, 0
    while len(came) < len(crowd):
        engine.step()
        steps += 1
        came |= {i: steps for i, request in enumerate(crowd) if request.tokens and i not in came}
    assert sorted(came.values())[len(crowd) // 2 - 1] <= 0.6 * steps, came


@pytest.mark.parametrize("native", [True, False])
def test_a_stream_of_short_prompts_does_not_keep_a_long_one_waiting(native: bool):
    engine = Engine(small_model(max_positions=4096), step_tokens=128, max_batch=4)
    if not native:
        engine.scheduler.passes._compiled = None
    long = engine.requests([40] * 2000, Sampling(max_tokens=4, temperature=0))[0]
    engine.submit(long, lambda request: None)
    for step in range(40):
        short = engine.requests([30, 31, 32 + step], Sampling(max_tokens=1, temperature=0))[0]
        engine.submit(short, lambda request: None)
        engine.step()
    assert long.tokens


@pytest.mark.parametrize("budget", [57, 64, 112, 130, 200, 400])
def test_twenty_requests_in_a_cache_for_two_are_all_answered_and_rightly(budget: int):
    model = small_model()
    prompts = [prompt[:16] for prompt in random_prompts(20)]
    engine = Engine(model, cache_tokens=budget, max_batch=20)
    sampling = Sampling(max_tokens=40, temperature=0, ignore_eos=True)
    requests = [engine.requests(prompt, sampling)[0] for prompt in prompts]
    for request in requests:
        engine.submit(request, lambda request: None)
    while not engine.idle:
        engine.step()
        assert occupied(engine) <= budget
    assert [request.tokens for request in requests] == alone(model, prompts, sampling)
    assert all(request.finish_reason == "length" for request in requests)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_request_that_lost_its_row_goes_on_where_it_was(sampling: Sampling):
    model, prompts = small_model(), [[20 + i] * 8 for i in range(6)]
    wanted = sampling.model_copy(update={"max_tokens": 100})
    engine = Engine(model, cache_tokens=220, max_batch=6)
    assert tokens(engine, prompts, wanted) == alone(model, prompts, wanted)
    assert engine.scheduler.preemptions > 0


def test_the_oldest_request_never_loses_its_row():
    engine = Engine(small_model(), cache_tokens=150, max_batch=6)
    requests = [
        engine.requests([20 + i] * 8, Sampling(max_tokens=100, temperature=0, ignore_eos=True))[0] for i in range(6)
    ]
    order: list[int] = []
    for i, request in enumerate(requests):
        engine.submit(request, lambda request, i=i: order.append(i) if request.finish_reason else None)
    while not engine.idle:
        engine.step()
    assert order == sorted(order) and len(order) == 6 and engine.scheduler.preemptions > 0


def test_the_context_is_what_the_cache_can_hold():
    engine = Engine(small_model(), cache_tokens=50)
    assert engine.context == 50
    out = engine.generate([[30] * 45], Sampling(max_tokens=20, temperature=0, ignore_eos=True))[0]
    assert len(out.token_ids) == 5 and out.finish_reason == "length"
    with pytest.raises(LuhuoError) as caught:
        engine.generate([[30] * 50], GREEDY)
    assert caught.value.found == 50


def test_nothing_is_held_when_nothing_runs():
    engine = Engine(small_model(), prefix_cache=False)
    engine.generate(random_prompts(9), GREEDY)
    assert engine.idle and occupied(engine) == 0 and engine.scheduler.waiting == engine.scheduler.running == 0


def test_a_cancelled_request_ends_wherever_it_is_and_others_go_on():
    engine = Engine(small_model(max_positions=512), max_batch=2, step_tokens=64)
    prompts = [[30], [31] * 400, [32] * 3]
    requests = [engine.requests(prompt, GREEDY)[0] for prompt in prompts]
    for request in requests:
        engine.submit(request, lambda request: None)
    for _ in range(3):
        engine.step()
    assert requests[0].tokens and not requests[1].tokens and not requests[2].tokens
    engine.cancel(requests[0])
    engine.cancel(requests[1])
    while not engine.idle:
        engine.step()
    assert [request.finish_reason for request in requests] == ["cancelled", "cancelled", "length"]
    assert requests[2].tokens == alone(engine.model, [prompts[2]])[0]


@pytest.mark.parametrize("cache_dtype", ["bf16", "fp16", "int8"])
def test_a_smaller_number_format_stays_close_and_is_the_same_in_any_company(cache_dtype: str):
    model, prompts = small_model(), random_prompts(8, 60)
    engine = Engine(model, max_batch=8, cache_dtype=cache_dtype, step_tokens=40, cache_tokens=400)
    assert tokens(engine, prompts) == alone(model, prompts, cache_dtype=cache_dtype)
    assert engine.scheduler.pool.cache.stored.itemsize < model.dtype.itemsize
    logits = []
    for stored in (None, engine.scheduler.pool.cache.stored):
        cache = type(engine.scheduler.pool.cache)(model.config, 1, 64, stored=stored)
        with torch.no_grad():
            model(torch.tensor([prompts[3]]), cache=cache)
            logits.append(model(torch.tensor([[33]]), cache=cache)[0, -1].log_softmax(-1))
    difference = (logits[0].exp() * (logits[0] - logits[1])).sum()
    assert 0 < abs(float(difference)) < 0.02  # Kullback-Leibler divergence, in nats


def special(**changes: object) -> Decoder:
    config = ModelConfig.parse({**small_config().model_dump(), **changes})
    model = initialise(Decoder(config), 0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


MLA = MLAConfig(q_rank=None, kv_rank=24, nope_dim=8, rope_dim=8, value_dim=16)
SPECIAL = {
    "latent attention": {"mla": MLA.model_dump(), "qk_norm": "none"},
    "sliding windows": {"windows": (8, 0)},
    "linear attention": {"linear_layers": (0,), "qk_norm": "none"},
    "attention sinks": {"attention_sinks": True},
    "ALiBi": {"positions": "none", "alibi_slopes": (0.5, 0.25, 0.125, 0.0625)},
    "learned positions": {"positions": "learned"},
    "prompts that see themselves": {"prefix_end": 25},
    "frequencies by length": {
        "rope": RopeConfig(kind="dynamic", factor=2.0).model_dump(),
    },
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_models_with_another_cache_are_right_in_company_in_chunks_and_with_little_memory(kind: str):
    model = special(**SPECIAL[kind])
    start = [30 + i % 7 for i in range(70)]
    prompts = [*random_prompts(5, 60), [*start, 25, 90], [*start, 25, 91, 92]]
    expected = alone(model, prompts)
    whole = model.config.reads_back or model.config.rope.by_length
    for options in ({}, {"step_tokens": 16}, {"cache_tokens": 200}, {"speculate": "always"}, {"cache_dtype": "int8"}):
        engine = Engine(model, **{"max_batch": 4, **options})
        if options == {"cache_dtype": "int8"}:
            expected = alone(model, prompts, cache_dtype="int8")
        for _ in range(2):
            assert tokens(engine, prompts) == expected, options
        assert (engine.scheduler.pool.prefix is None) == whole
        if not whole and not options:
            assert engine.scheduler.pool.prefix.found > 64  # type: ignore[union-attr]


def test_new_weights_take_effect_and_running_answers_go_on():
    model, other = small_model(), small_model(opinionated=False)
    engine, prompt = Engine(model), [30, 31, 32]
    request = engine.requests(prompt, GREEDY)[0]
    engine.submit(request, lambda request: None)
    for _ in range(6):
        engine.step()
    before = list(request.tokens)
    engine.update_weights(other)
    while not engine.idle:
        engine.step()
    assert request.tokens[: len(before)] == before
    rest = alone(other, [prompt + before], GREEDY.model_copy(update={"max_tokens": 16 - len(before)}))[0]
    assert request.tokens[len(before) :] == rest
    with pytest.raises(LuhuoError, match="another model"):
        engine.update_weights(small_model(layers=1))


def test_a_worker_runs_what_many_threads_ask_for():
    engine = Engine(small_model(), max_batch=4)
    worker, prompts = Worker(engine), random_prompts(24)
    texts: dict[int, list[str]] = {i: [] for i in range(24)}
    done = threading.Semaphore(0)

    def ask(numbers: range) -> None:
        for i in numbers:
            request = engine.requests(prompts[i], GREEDY)[0]

            def update(request: Request, i: int = i) -> None:
                texts[i].append(request.take_text())
                if request.finish_reason:
                    done.release()

            worker.submit(request, update)

    threads = [threading.Thread(target=ask, args=(range(i, 24, 4),)) for i in range(4)]
    for thread in threads:
        thread.start()
    direct = engine.generate(prompts[:3], GREEDY)  # the engine itself may be asked at the same time
    for _ in range(24):
        assert done.acquire(timeout=120)
    worker.close()
    expected = Engine(engine.model).generate(prompts, GREEDY)
    assert ["".join(texts[i]) for i in range(24)] == [out.text for out in expected]
    assert [out.token_ids for out in direct] == [out.token_ids for out in expected[:3]]
    with pytest.raises(RunFailed):
        worker.submit(engine.requests([30], GREEDY)[0], lambda request: None)


def test_a_worker_that_closes_finishes_or_cancels_what_runs():
    for drain, expected in ((True, "length"), (False, "cancelled")):
        engine = Engine(small_model(max_positions=2048))
        worker, told = Worker(engine), []
        started = threading.Event()
        count = 30 if drain else 2000
        request = engine.requests([30, 31], Sampling(max_tokens=count, temperature=0, ignore_eos=True))[0]

        def update(request: Request, told: list[str | None] = told, started: threading.Event = started) -> None:
            told.append(request.finish_reason)
            started.set()

        worker.submit(request, update)
        assert started.wait(120)
        worker.close(drain=drain)
        assert told[-1] == expected == request.finish_reason and worker.open_requests == 0


def test_a_fault_of_the_model_ends_requests_with_an_error_and_the_next_ones_work(monkeypatch: pytest.MonkeyPatch):
    engine = Engine(small_model())
    good = tokens(engine, [[30, 31]])

    def broken(*args: object, **options: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(engine.scheduler.model, "hidden", broken)
        with pytest.raises(RunFailed, match="failed"):
            engine.generate([[40] * 200], GREEDY)  # more than the compiled step takes
    assert engine.idle and tokens(engine, [[30, 31]]) == good


def test_a_fault_of_one_listener_cancels_only_its_request():
    engine = Engine(small_model())
    bad, good = engine.requests([30], GREEDY)[0], engine.requests([31], GREEDY)[0]

    def fails(request: Request) -> None:
        raise ValueError("gone")

    engine.submit(bad, fails)
    engine.submit(good, lambda request: None)
    while not engine.idle:
        engine.step()
    assert bad.finish_reason == "cancelled" and good.finish_reason == "length"


def test_a_stream_that_is_left_ends_its_request():
    engine = Engine(small_model())
    stream = engine.stream([30, 31], Sampling(max_tokens=100, ignore_eos=True, seed=1))
    next(stream)
    stream.close()
    engine.step()
    assert engine.idle


def test_requests_come_and_go_in_any_order_for_long():
    """A few hundred random arrivals, lengths and departures; every answer that ends is the right one."""
    model, chance = small_model(), random.Random(2)
    engine = Engine(model, max_batch=5, cache_tokens=260, step_tokens=48, speculate="always")
    expected: dict[tuple[int, ...], list[int]] = {}
    running: list[Request] = []
    finished = 0
    for _ in range(250):
        if chance.random() < 0.3:
            prompt = [30 + chance.randrange(4) for _ in range(chance.randrange(1, 90))]
            wanted = Sampling(max_tokens=chance.randrange(1, 60), temperature=0, ignore_eos=True)
            running.append(engine.requests(prompt, wanted)[0])
            engine.submit(running[-1], lambda request: None)
        if running and chance.random() < 0.05:
            engine.cancel(chance.choice(running))
        engine.step()
        assert occupied(engine) <= 260
        for request in [r for r in running if r.finish_reason]:
            running.remove(request)
            if request.finish_reason == "length" and finished < 25:
                finished += 1
                key = tuple(request.prompt)
                sampling = GREEDY.model_copy(update={"max_tokens": len(request.tokens)})
                expected[key] = alone(model, [request.prompt], sampling)[0]
                assert request.tokens == expected[key]
    assert finished > 10
