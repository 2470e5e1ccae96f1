"""Long runs against the server: thousands of requests made from its own schema, and memory under load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis

from luhuo.serve.metrics import resident_bytes
from tests.serve_cases import Running, running

REQUESTS = 2000
NEAR = 1024
"""Bounds up to which the fuzzer is told of them."""
LOADS = 640
GROWTH = 48 << 20
"""What memory may grow by between the first and the last third of a load."""


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(data=tmp_path_factory.mktemp("feedback"), max_tokens=4) as found:
        yield found


def bounded(schema: Any) -> Any:
    """A schema without bounds that take the fuzzer megabytes to break; tests of their own break those."""
    if isinstance(schema, dict):
        far = {"maxLength", "maxItems", "maxProperties"}
        return {k: bounded(v) for k, v in schema.items() if k not in far or not isinstance(v, int) or v <= NEAR}
    return [bounded(one) for one in schema] if isinstance(schema, list) else schema


def fuzz(server: Running, requests: int, seed: int) -> dict[int, int]:
    """So many requests at least, made from the server's own schema, right ones and wrong ones: answers by status."""
    described = bounded(httpx2.get(f"{server.url}/openapi.json").json())
    schema = schemathesis.openapi.from_dict(described)
    operations = [found.ok() for found in schema.get_all_operations()]
    modes = schemathesis.GenerationMode
    runs = [(one, mode) for one in operations for mode in ((modes.POSITIVE, modes.NEGATIVE) if one.body else [None])]
    with_body = sum(mode is not None for _, mode in runs)
    statuses: dict[int, int] = {}
    for operation, mode in runs:

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode or modes.POSITIVE))
        @hypothesis.settings(
            max_examples=-(-requests // with_body) if mode else 10,
            phases=[hypothesis.Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.seed(seed)
        def ask(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = "vectors" if "embeddings" in case.path else "small"
            answer = case.call(base_url=server.url, timeout=60)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (case, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

        ask()
    return statuses


def check_alive(server: Running) -> None:
    """Nothing is left over, and the next request is answered."""
    until(lambda: server.house.admission.open == server.house.admission.requests == 0)
    assert next(iter(server.house.models)).writer.idle
    assert server.client().chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}]).choices


def test_requests_made_from_the_schema_break_nothing(server: Running):
    statuses = fuzz(server, 280, seed=1)
    assert sum(statuses.values()) >= 280 and {200, 400} <= set(statuses)
    check_alive(server)


@pytest.mark.slow
def test_two_thousand_requests_made_from_the_schema_break_nothing(server: Running):
    statuses = fuzz(server, REQUESTS, seed=2026)
    assert sum(statuses.values()) >= REQUESTS and {200, 201, 400, 404} <= set(statuses)
    check_alive(server)


def test_texts_and_lists_beyond_their_bounds_are_refused(server: Running):
    turn = {"role": "user", "content": "x"}
    for prompt in ([turn | {"content": "x" * 1_000_001}], [turn] * 4097):
        answer = httpx2.post(f"{server.url}/feedback", json={"prompt": prompt, "completion": [turn], "label": True})
        assert answer.status_code == 400 and answer.json()["error"]["param"].startswith("prompt")
    for path, body in (
        ("/v1/chat/completions", {"messages": [turn] * 4097}),
        ("/v1/embeddings", {"input": ["x"] * 2049}),
    ):
        answer = httpx2.post(server.url + path, json={"model": "small", **body})
        assert answer.status_code == 400 and "at most" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_memory_stays_flat_under_load_with_clients_that_leave(server: Running):
    sizes: list[float] = []

    def client(number: int) -> None:
        chance = random.Random(number)
        with httpx2.Client(base_url=server.url, timeout=60) as http:
            for _ in range(LOADS // 8):
                text = "x" * chance.randrange(1, 150)
                body = {"model": "small", "messages": [{"role": "user", "content": text}], "max_tokens": 4}
                if chance.random() < 0.3:
                    with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as stream:
                        next(stream.iter_bytes(), None)  # and away
                else:
                    assert http.post("/v1/chat/completions", json=body).status_code == 200
                sizes.append(resident_bytes())

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    third = len(sizes) // 3
    assert len(sizes) == LOADS // 8 * 8
    assert max(sizes[-third:]) - max(sizes[:third]) < GROWTH
    assert server.house.admission.requests == 0
