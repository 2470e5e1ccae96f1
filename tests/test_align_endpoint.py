"""Asking a model behind an OpenAI-compatible endpoint: in order, a few at a time, again where that may help."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from luhuo.align import endpoint as room
from luhuo.align.endpoint import Endpoint, NoReply, Question, Reply
from luhuo.align.endpoint_config import EndpointConfig
from luhuo.core.errors import LuhuoError, RunFailed
from tests.serve_cases import running

Answer = Callable[[dict[str, Any], int], tuple[int, Any, dict[str, str]]]
"""(body, number of the request) -> status, content, headers."""


class Strange:
    """A server that answers as a test wants it to."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.bodies, self.headers = answer, [], []
        self.now = self.most = 0
        self.lock = threading.Lock()


@contextlib.contextmanager
def strange(answer: Answer) -> Iterator[tuple[str, Strange]]:
    seen = Strange(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                seen.bodies.append(body)
                seen.headers.append(dict(self.headers))
                seen.now += 1
                seen.most = max(seen.most, seen.now)
                number = len(seen.bodies)
            status, content, headers = seen.answer(body, number)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            with seen.lock:
                seen.now -= 1

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


def said(text: str, **more: Any) -> tuple[int, Any, dict[str, str]]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | more
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, {}


def question(text: str, **how: Any) -> Question:
    return Question([{"role": "user", "content": text}], **how)


def config(url: str, **more: Any) -> EndpointConfig:
    return EndpointConfig.parse({"url": url, "model": "small", "tries": 3} | more)


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PAUSE_S", 0.001)


def test_our_own_server_answers_in_order_and_the_same_again():
    with running() as server, Endpoint(config(f"{server.url}/v1")) as model:
        asked = [question(f"hello {i}", max_tokens=5, seed=i, temperature=1.0, logprobs=i == 0) for i in range(6)]
        first, again = model.ask(asked), model.ask(asked)
    assert [reply.text for reply in first if isinstance(reply, Reply)] == [
        reply.text for reply in again if isinstance(reply, Reply)
    ]
    assert all(isinstance(reply, Reply) and 0 < reply.tokens <= 5 for reply in first)
    assert isinstance(first[0], Reply) and len(first[0].places) == first[0].tokens
    assert all(10 < len(place) <= 20 for place in first[0].places)


def test_replies_come_in_order_and_no_more_are_asked_at_once_than_allowed():
    gate = threading.Event()

    def answer(body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, str]]:
        text = body["messages"][0]["content"]
        if text == "0":
            gate.wait(10)
        elif number >= 3:
            gate.set()
        return said(f"to {text}")

    with strange(answer) as (url, seen), Endpoint(config(url, at_once=3)) as model:
        replies = model.ask([question(str(i)) for i in range(12)])
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [f"to {i}" for i in range(12)]
    assert 1 < seen.most <= 3


def test_questions_are_taken_only_as_they_are_needed():
    taken = []

    def questions() -> Iterator[Question]:
        for i in range(100):
            taken.append(i)
            yield question(str(i))

    with strange(lambda body, number: said("x")) as (url, _), Endpoint(config(url, at_once=2)) as model:
        replies = model.stream(questions())
        next(replies)
        assert len(taken) <= 5
        assert sum(1 for _ in replies) == 99


def test_a_busy_server_is_asked_again_as_late_as_it_says():
    def answer(body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, str]]:
        busy = {1: (429, {"error": {"message": "slow"}}, {"Retry-After": "0.01"}), 2: (503, b"<html>", {})}
        return busy.get(number) or said("at last")

    with strange(answer) as (url, seen), Endpoint(config(url)) as model:
        assert model.ask([question("?")]) == [Reply("at last", "stop", 3, 1)]
    assert len(seen.bodies) == 3


def test_what_is_refused_for_one_question_is_its_failure_alone():
    def answer(body: dict[str, Any], number: int) -> tuple[int, Any, dict[str, str]]:
        if body["messages"][0]["content"] == "long":
            return 400, {"error": {"message": "too many tokens"}}, {}
        return said("fine")

    with strange(answer) as (url, seen), Endpoint(config(url)) as model:
        good, bad = model.ask([question("short"), question("long")])
    assert good == Reply("fine", "stop", 3, 1)
    assert isinstance(bad, NoReply) and "400" in bad.reason and "too many tokens" in bad.reason
    assert len(seen.bodies) == 2


def test_a_server_that_keeps_failing_costs_the_question_its_answer_and_says_why():
    with strange(lambda body, number: (500, b"oops", {})) as (url, seen), Endpoint(config(url)) as model:
        [reply] = model.ask([question("?")])
    assert isinstance(reply, NoReply) and "500" in reply.reason and len(seen.bodies) == 3


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"choices": [{"message": {"content": 3}}]}'])
def test_what_is_no_answer_of_a_chat_model_is_a_failure(content: bytes):
    with strange(lambda body, number: (200, content, {})) as (url, _), Endpoint(config(url)) as model:
        [reply] = model.ask([question("?")])
    assert isinstance(reply, NoReply) and "chat model" in reply.reason


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_name_ends_the_run_with_one_message(status: int):
    told = {"error": {"message": "not you"}}
    with (
        strange(lambda body, number: (status, told, {})) as (url, seen),
        Endpoint(config(url, at_once=1)) as model,
        pytest.raises(LuhuoError, match=f"{status}: not you(.|\n)*key_from"),
    ):
        model.ask([question("?")])
    assert len(seen.bodies) == 1


def test_a_server_that_is_not_there_ends_the_run_and_its_password_is_not_shown():
    with (
        Endpoint(config("http://me:secret@127.0.0.1:9/v1")) as model,
        pytest.raises(RunFailed, match="cannot be reached") as caught,
    ):
        model.ask([question("?")])
    assert "secret" not in str(caught.value)


def test_a_redirect_is_not_followed():
    moved = 307, b"", {"Location": "http://127.0.0.1:9/"}
    with strange(lambda body, number: moved) as (url, _), Endpoint(config(url)) as model:
        [reply] = model.ask([question("?")])
    assert isinstance(reply, NoReply) and "307" in reply.reason


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    with strange(lambda body, number: said("x")) as (url, seen):
        with pytest.raises(LuhuoError, match="A_KEY"):
            Endpoint(config(url, key_from="A_KEY"))
        monkeypatch.setenv("A_KEY", "k1")
        with Endpoint(config(url, key_from="A_KEY", limit_name="max_completion_tokens", extra={"top_p": 0.5})) as one:
            one.ask([question("?", max_tokens=7, seed=1 << 40)])
    assert seen.headers[0]["Authorization"] == "Bearer k1"
    assert seen.bodies[0]["max_completion_tokens"] == 7 and seen.bodies[0]["top_p"] == 0.5
    assert "max_tokens" not in seen.bodies[0] and 0 <= seen.bodies[0]["seed"] < 1 << 31
