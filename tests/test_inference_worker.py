"""Threads around one engine: whoever brings a request does not wait for the step that another one is taking."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from luhuo.inference.engine import Engine
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling
from luhuo.inference.turns import Turns
from luhuo.inference.worker import Worker
from tests.small_chat import random_prompts, small_model

GREEDY = Sampling(max_tokens=6, temperature=0, ignore_eos=True)
LONG_S = 30.0


@contextmanager
def held_elsewhere(turns: Turns) -> Iterator[None]:
    """Another thread holds them meanwhile."""
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with turns:
            held.set()
            assert enough.wait(LONG_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(LONG_S)
    yield
    enough.set()
    thread.join()


def test_a_change_waits_for_nobody_and_is_made_before_the_next_holder_goes_on():
    turns, made = Turns(), []
    with held_elsewhere(turns):
        turns.soon(lambda: made.append(1))
        assert made == [] and turns.waiting
    with turns:
        assert made == [1] and not turns.waiting
        turns.soon(lambda: made.append(2))  # by the holder itself
        assert made == [1, 2]
    turns.soon(lambda: made.append(3))
    assert made == [1, 2, 3]


def test_a_change_that_fails_lets_go_of_the_lock():
    def broken() -> None:
        raise ZeroDivisionError

    turns = Turns()
    with held_elsewhere(turns):
        turns.soon(broken)
    with pytest.raises(ZeroDivisionError), turns:
        pass
    other = threading.Thread(target=turns.__enter__)
    other.start()
    other.join(LONG_S)
    assert not other.is_alive()


def test_requests_come_and_go_while_a_step_takes_its_time(monkeypatch: pytest.MonkeyPatch):
    engine, prompts = Engine(small_model()), random_prompts(3)
    wanted = [out.token_ids for out in engine.generate(prompts, GREEDY)]
    first, second, third = (engine.requests(prompt, GREEDY)[0] for prompt in prompts)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Semaphore(0)
    step = engine.scheduler.step

    def slow() -> list[Request]:
        begun.set()
        assert go_on.wait(LONG_S)
        return step()

    def told(request: Request) -> None:
        if request.finish_reason:
            ended.release()

    monkeypatch.setattr(engine.scheduler, "step", slow)
    worker = Worker(engine)
    worker.submit(first, told)
    assert begun.wait(LONG_S)
    worker.submit(second, told)
    worker.submit(third, told)
    worker.cancel(third)
    assert not first.tokens and not engine.idle  # all of it while the step stood still
    go_on.set()
    assert all(ended.acquire(timeout=LONG_S) for _ in range(3))
    worker.close()
    assert [first.tokens, second.tokens] == wanted[:2] and third.finish_reason == "cancelled" and engine.idle


def test_what_is_to_follow_a_step_is_called_once_for_all_its_requests():
    engine, order = Engine(small_model()), []
    worker, ended = Worker(engine), threading.Semaphore(0)

    def sent() -> None:
        order.append("sent")

    def told(request: Request) -> None:
        order.append(request)
        worker.after_step(sent)
        if request.finish_reason:
            ended.release()

    with engine._lock:  # so that the first step has them all
        requests = [engine.requests(prompt, GREEDY)[0] for prompt in random_prompts(4, 5)]
        for request in requests:
            worker.submit(request, told)
    assert all(ended.acquire(timeout=LONG_S) for _ in requests)
    worker.close()
    steps = [[]]
    for one in order:
        steps[-1].append(one) if one != "sent" else steps.append([])
    assert steps.pop() == [] and max(map(len, steps)) == 4
    assert all(0 < len(step) == len(set(map(id, step))) for step in steps)
    before = len(order)
    worker.after_step(sent)  # in a thread that is not the worker's: at once
    assert order[before:] == ["sent"]
