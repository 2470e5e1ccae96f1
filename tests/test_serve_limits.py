"""What the server refuses, gives up and finishes: keys, limits, queues, lost clients, slow clients, the drain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.worker import Worker
from luhuo.model.save import save
from luhuo.serve.errors import ApiError
from luhuo.serve.keys import Caller, KeyConfig, Keys
from luhuo.serve.served import Served, named
from tests.serve_cases import Running, running
from tests.small_chat import small_model

HELLO = [{"role": "user", "content": "hello"}]
ENDLESS = {"extra_body": {"ignore_eos": True}}


def key(name: str, secret: str, **limits) -> KeyConfig:
    return KeyConfig(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), **limits)


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def raw(server: Running, body: dict, path: str = "/v1/chat/completions") -> socket.socket:
    """A connection on which a request was sent, and nothing read."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_with_keys_only_those_who_have_one_may_ask():
    with running(keys=(key("team", "sesame"),)) as server:
        assert server.client("sesame").models.list().data
        for wrong in ("sesam", "sesame2", "\xff", "sesame sesame"):
            answer = httpx2.get(
                f"{server.url}/v1/models", headers={b"Authorization": f"Bearer {wrong}".encode("latin-1")}
            )
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/nothing"):
            assert httpx2.get(server.url + path).status_code == 401
        assert httpx2.get(f"{server.url}/v1/models", headers={"Authorization": "Basic sesame"}).status_code == 401
        assert httpx2.post(f"{server.url}/tokenize", json={}).status_code == 401
        assert httpx2.get(f"{server.url}/health").status_code == 200
        config = httpx2.get(f"{server.url}/page/config").json()
        assert config["key_required"] and config["models"] == []


def test_keys_come_from_a_file_of_digests_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    digest = hashlib.sha256(b"one").hexdigest()
    (tmp_path / "keys.yaml").write_text(f"keys:\n  - {{name: team, sha256: {digest}, admin: true}}\n")
    monkeypatch.setenv("LUHUO_API_KEYS", "two, three")
    keys = Keys.read(tmp_path / "keys.yaml")
    assert keys.find("Bearer one").config.admin and keys.find("bearer three").config.name == "LUHUO_API_KEYS-2"
    with pytest.raises(ApiError):
        keys.find(f"Bearer {digest}")


@pytest.mark.parametrize("text", ["", "keys: []", "keys: [{name: a, sha256: short}]", "- a", "keys: [", "kyes: []"])
def test_a_wrong_file_of_keys_is_one_message(text: str, tmp_path: Path):
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(LuhuoError):
        Keys.read(tmp_path / "keys.yaml")


def test_a_key_may_send_so_many_requests_a_minute_and_use_so_many_tokens():
    now = [0.0]
    caller = Caller(key("a", "a", requests_per_minute=2, tokens_per_minute=100), lambda: now[0])
    caller.enter()
    caller.leave(60)
    now[0] = 10
    caller.enter()
    with pytest.raises(ApiError) as caught:
        caller.enter()
    assert caught.value.status == 429 and caught.value.headers["Retry-After"] in ("50", "51")
    caller.leave(60)
    now[0] = 60.5
    with pytest.raises(ApiError) as caught:  # the first 60 tokens are forgotten, 60 are left, so it may
        caller.enter()
        caller.enter()
    now[0] = 71
    caller.enter()


def test_a_key_has_so_many_requests_at_a_time():
    with running(keys=(key("a", "a", concurrent=1),)) as server:
        client = server.client("a")
        stream = client.chat.completions.create(model="small", messages=HELLO, max_tokens=230, stream=True, **ENDLESS)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="small", messages=HELLO, max_tokens=1)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        stream.close()
        until(lambda: server.house.admission.requests == 0)
        assert client.chat.completions.create(model="small", messages=HELLO, max_tokens=1).choices


def test_a_full_queue_is_429_and_the_client_that_comes_again_gets_its_answer():
    with running(max_queue=2) as server:
        with pytest.raises(openai.RateLimitError, match="queue is full"):
            server.client().chat.completions.create(model="small", messages=HELLO, n=3)
        patient = server.client(max_retries=50)
        with ThreadPoolExecutor(6) as pool:
            ask = {"model": "small", "messages": HELLO, "max_tokens": 2}
            done = [pool.submit(patient.chat.completions.create, **ask) for _ in range(6)]
            assert all(one.result().choices for one in done)


def test_five_hundred_requests_at_once_are_all_answered():
    with running() as server:
        bodies = [
            {"model": "small", "messages": [{"role": "user", "content": str(i)}], "max_tokens": 2} for i in range(500)
        ]
        connections = [raw(server, body) for body in bodies]
        for connection in connections:
            connection.settimeout(120)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            connection.close()
        until(lambda: server.house.admission.open == 0)
        assert httpx2.get(f"{server.url}/health").status_code == 200


def test_with_a_cache_for_two_requests_twenty_get_the_answers_they_get_alone():
    engine = Engine(small_model(), cache_tokens=2 * 256)
    with running(models=[Served("small", engine=engine, worker=Worker(engine))]) as server:
        client = server.client()

        def ask(number: int) -> str:
            messages = [{"role": "user", "content": "x" * (1 + number * 7)}]
            found = client.chat.completions.create(
                model="small", messages=messages, max_tokens=100, temperature=0, **ENDLESS
            )
            assert found.usage is not None and found.usage.completion_tokens == 100
            return found.choices[0].message.content or ""

        alone = [ask(number) for number in range(20)]
        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(ask, range(20))) == alone
        assert engine.scheduler.preemptions > 0
        until(lambda: server.house.admission.open == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(stream: bool, monkeypatch: pytest.MonkeyPatch):
    with running() as server:
        engine = next(iter(server.house.models)).writer
        step = engine.step

        def as_slow_as_a_real_model() -> None:
            time.sleep(0.01)
            step()

        monkeypatch.setattr(engine, "step", as_slow_as_a_real_model)
        body = {"model": "small", "messages": HELLO, "max_tokens": 230, "n": 16, "ignore_eos": True}
        connections = [raw(server, body | {"stream": stream}) for _ in range(4)]
        until(lambda: server.house.admission.open == 64)
        for connection in connections:
            connection.close()
        until(lambda: server.house.admission.open == 0 and engine.idle)
        text = server.house.metrics.text()
        generated = next(line for line in text.splitlines() if line.startswith("luhuo_generated_tokens_total{"))
        assert float(generated.split()[-1]) < 4 * 230 * 16


def test_a_client_that_reads_nothing_does_not_stop_the_others():
    with running(stall_s=1) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        body = {"model": "small", "messages": HELLO, "max_tokens": 230, "n": 128, "ignore_eos": True, "stream": True}
        data = json.dumps(body | {"logprobs": True, "top_logprobs": 20}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        until(lambda: server.house.admission.open == 128)
        assert server.client().chat.completions.create(model="small", messages=HELLO, max_tokens=2).choices
        until(lambda: server.house.admission.open == 0, 120)
        connection.close()


def test_a_request_that_comes_too_slowly_is_given_up():
    with running(body_s=0.3) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        connection.settimeout(30)
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_request_that_is_much_too_large_gets_its_answer_not_a_broken_connection():
    """A client that sends on while it is refused sees the refusal once it has sent everything."""
    with running(max_body=1 << 20) as server:
        data = b"x" * (6 << 20)
        for declared in (True, False):
            for _ in range(4):
                content = data if declared else iter([data[:100_000]] * 60)
                answer = httpx2.post(f"{server.url}/tokenize", content=content, timeout=60)
                assert answer.status_code == 413 and "1048576" in answer.json()["error"]["message"]
        assert httpx2.get(f"{server.url}/health").status_code == 200


def test_a_request_without_end_is_given_up():
    with running(max_body=1024) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n")
        connection.settimeout(30)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                sent += connection.send(b"x" * 4096)
        assert sent < 64 << 20


def test_a_request_that_is_too_large_is_refused():
    with running(max_body=2048) as server:
        text = "x" * 5000
        answer = httpx2.post(f"{server.url}/tokenize", json={"model": "small", "prompt": text})
        assert answer.status_code == 413 and "2048" in answer.json()["error"]["message"]
        pieces = httpx2.post(f"{server.url}/tokenize", content=iter([text.encode()] * 3))
        assert pieces.status_code == 413


def test_an_answer_that_takes_too_long_is_stopped_and_says_so():
    with running(request_s=0.05) as server:
        body = {"model": "small", "messages": HELLO, "max_tokens": 230, "n": 60, "ignore_eos": True}
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
        streamed = httpx2.post(f"{server.url}/v1/chat/completions", json=body | {"stream": True}, timeout=60)
        last = streamed.text.strip().splitlines()[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        until(lambda: next(iter(server.house.models)).writer.idle)


def test_names_of_models_are_given_or_the_last_part_of_their_path():
    assert named(["a/b/chat/", "small=runs/x", "pypi:a==1/b.gguf"]) == [
        ("chat", "a/b/chat/"),
        ("small", "runs/x"),
        ("b.gguf", "pypi:a==1/b.gguf"),
    ]
    with pytest.raises(LuhuoError, match="same name"):
        named(["a/x", "b/x"])


@pytest.fixture
def command(tmp_path: Path):
    """`luhuo serve` as a process, and its port."""
    save(small_model(), tmp_path / "small")
    environment = os.environ | {"LUHUO_LANG": "en", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "luhuo", "serve", str(tmp_path / "small"), "--port", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if "Serving at" in line:
            port = int(line.rsplit(":", 1)[1])
            break
    rest: list[str] = []
    reader = threading.Thread(target=lambda: rest.extend(process.stderr or []))
    reader.start()
    yield process, port, rest
    process.kill()
    process.wait()
    reader.join()


def test_sigterm_finishes_what_runs_and_refuses_what_is_new(command):
    process, port, _ = command
    url = f"http://127.0.0.1:{port}"
    with httpx2.Client(timeout=60) as kept:
        assert kept.get(f"{url}/health").status_code == 200
        body = {"model": "small", "messages": HELLO, "max_tokens": 230, "n": 40, "ignore_eos": True, "stream": True}
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            until(lambda: kept.get(f"{url}/health").status_code == 503)
            refused = kept.post(f"{url}/v1/chat/completions", json={"model": "small", "messages": HELLO})
            assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
            events = [line for line in lines if line]
    assert events[-1] == "data: [DONE]"
    assert sum('"finish_reason":"length"' in line for line in events) == 40
    assert process.wait(30) == 0


def test_without_requests_sigint_ends_the_server_at_once(command):
    process, _, rest = command
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0 and not any("Traceback" in line for line in rest)


def test_an_address_in_use_is_one_message_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = [sys.executable, "-m", "luhuo", "serve", "nowhere", "--port", str(taken.getsockname()[1])]
        environment = os.environ | {"LUHUO_LANG": "en"}
        result = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert result.returncode == 2 and "cannot listen" in result.stderr and "Traceback" not in result.stderr
