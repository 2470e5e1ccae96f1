"""Long runs against the server: thousands of requests made from its own schema, and memory under load."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import httpx2
import pytest

from luhuo.serve.metrics import resident_bytes
from tests.serve_cases import Running, running

REQUESTS = 2000
LOADS = 640
GROWTH = 48 << 20
"""What memory may grow by between the first and the last third of a load."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(data=tmp_path_factory.mktemp("feedback"), max_tokens=4) as found:
        yield found


@pytest.mark.slow
def test_two_thousand_requests_made_from_the_schema_break_nothing(server: Running):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is no part of the test extra")
    hypothesis = pytest.importorskip("hypothesis", reason="comes with schemathesis")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    positive, negative = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    runs = [(one, mode) for one in operations for mode in ((positive, negative) if one.body else (positive,))]
    statuses: dict[int, int] = {}
    for operation, mode in runs:

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(
            max_examples=REQUESTS // sum(bool(one.body) for one, _ in runs) + 1,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.seed(2026)
        def ask(case) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = "vectors" if "embeddings" in case.path else "small"
            answer = case.call()
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (case, answer.text)

        ask()
    assert sum(statuses.values()) >= REQUESTS // 2 and {200, 400} <= set(statuses)
    assert server.house.admission.open == 0
    assert httpx2.get(f"{server.url}/health").status_code == 200


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
