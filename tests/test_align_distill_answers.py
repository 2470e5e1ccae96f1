"""Sequence-level distillation: a teacher's answers become data, from here or from a server that may be difficult."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from luhuo.align.distill import endpoint
from luhuo.align.distill.answers import answer
from luhuo.core.artifact import Done, Workspace, produce
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.layouts import read_conversations
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from luhuo.serve.served import Served
from luhuo.stages import configured
from tests.serve_cases import running
from tests.small_chat import small_model

QUESTIONS = ["hello", "你好", "42", "苹果", "how", "天"]
REWARD = "def score(item, text, info):\n    return -float(len(text))\n"


def ending_model() -> Decoder:
    """A model that ends a good part of its answers."""
    model = small_model()
    with torch.no_grad():
        states = model.hidden(torch.arange(5, 300)[None])[0].mean(0)
        model.embedding[model.tokenizer.end_of_turn_id] = 4 * states / states.square().sum()  # type: ignore[union-attr]
    return model


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Prompts, the last of a conversation, and a reward."""
    rows: list[dict[str, Any]] = [{"messages": said(question), "id": question} for question in QUESTIONS]
    turns = [{"role": role, "content": "hello"} for role in ("user", "assistant", "user")]
    rows.append({"messages": turns, "id": "turns"})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "reward.py").write_text(REWARD, encoding="utf-8")
    return {"prompts": str(tmp_path / "prompts.jsonl"), "max_tokens": 12, "device": "cpu", "threads": 1}


def rewards(tmp_path: Path) -> list[dict[str, Any]]:
    return [{"kind": "function", "file": str(tmp_path / "reward.py"), "function": "score"}]


def run(given: dict[str, Any], target: Path, **changes: Any) -> Done:
    return produce("teacher-answers", configured("teacher-answers", given | changes), target)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_of_a_local_teacher_are_conversations_whose_last_turn_alone_is_learned(
    given: dict[str, Any], tmp_path: Path
) -> None:
    save(ending_model(), tmp_path / "teacher")
    done = run(given, tmp_path / "out", teacher=str(tmp_path / "teacher"), samples=6, temperature=1.0, keep="all")
    ledger = rows(done.path / "answers.jsonl")
    assert len(ledger) == 7 and all(len(row["answers"]) == 6 for row in ledger)
    found = list(read_conversations(done.path / "conversations.jsonl")[1])
    assert found and all([m.is_target for m in one.messages][-1] for one in found)
    (asked_before, *_) = [one for one in found if one.meta["id"] == "turns"]
    assert [m.is_target for m in asked_before.messages] == [False, False, False, True]
    meta = rows(done.path / "conversations.jsonl")[0]["meta"]
    assert meta["teacher"].endswith("teacher") and meta["temperature"] == 1.0
    failed = rows(done.path / "failed.jsonl")
    answers = {(row["id"], one["text"]) for row in ledger for one in row["answers"]}
    accounted = {(row["id"], row["messages"][-1]["content"]) for row in rows(done.path / "conversations.jsonl")}
    assert answers == accounted | {(row["id"], row["answer"]) for row in failed}
    assert {row["reason"] for row in failed} <= {"cut off", "empty"}


def test_the_best_of_n_by_a_reward_is_kept_and_the_rest_has_a_reason(given: dict[str, Any], tmp_path: Path) -> None:
    save(ending_model(), tmp_path / "teacher")
    scored = {"samples": 6, "temperature": 1.0, "rewards": rewards(tmp_path), "min_score": -6.0}
    done = run(given, tmp_path / "out", teacher=str(tmp_path / "teacher"), **scored)
    ledger = {row["id"]: row["answers"] for row in rows(done.path / "answers.jsonl")}
    for kept in rows(done.path / "conversations.jsonl"):
        ended = [one["score"] for one in ledger[kept["id"]] if one["ended"] and one["text"].strip()]
        assert kept["score"] == max(ended) >= -6
    assert any(row["reason"].startswith("score") for row in rows(done.path / "failed.jsonl"))
    assert {"best_of_1", "best_of_4", "pairs", "truncated"} <= done.manifest["metrics"].keys()


def test_prompts_without_room_are_kept_with_the_reason(given: dict[str, Any], tmp_path: Path) -> None:
    save(ending_model(), tmp_path / "teacher")
    with (tmp_path / "prompts.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"messages": said("hello " * 200), "id": "long"}) + "\n")
    done = run(given, tmp_path / "out", teacher=str(tmp_path / "teacher"), samples=4, temperature=1.0)
    (row,) = [row for row in rows(done.path / "failed.jsonl") if row["id"] == "long"]
    assert row["reason"].startswith("prompt too long")


def test_a_server_answers_as_the_same_model_here_does(given: dict[str, Any], tmp_path: Path) -> None:
    model = ending_model()
    save(model, tmp_path / "teacher")
    here = run(given, tmp_path / "here", teacher=str(tmp_path / "teacher"), dtype="fp32")
    with running(models=[Served.of("small", model)]) as server:
        place = {"url": f"{server.url}/v1", "model": "small", "concurrency": 3}
        there = run(given, tmp_path / "there", endpoint=place)
    ours, theirs = (sorted(rows(d.path / "answers.jsonl"), key=lambda row: row["place"]) for d in (here, there))
    assert [one["answers"][0]["text"] for one in ours] == [one["answers"][0]["text"] for one in theirs]
    assert rows(there.path / "conversations.jsonl")[0]["meta"]["teacher"] == "small"


class Difficult(BaseHTTPRequestHandler):
    """A server that does what `script` says to the content of the last message; else it answers."""

    script: Any = None
    asked: list[str]
    keys: list[str | None]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        with threading.Lock():
            self.asked.append(text)
            self.keys.append(self.headers.get("Authorization"))
        status, headers, answer = type(self).script(text, self.asked.count(text))
        message = {"choices": [{"message": {"role": "assistant", **answer}, "finish_reason": "stop"}]}
        told = json.dumps(message if status == 200 else {"error": answer}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(told))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *given: Any) -> None:
        """Nothing is said."""


@contextmanager
def difficult(script: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """An endpoint that follows a script (text, how often it was asked) -> (status, headers, answer)."""
    handler = type("Handler", (Difficult,), {"script": staticmethod(script), "asked": [], "keys": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield {"url": f"http://127.0.0.1:{server.server_port}/v1", "model": "m", "concurrency": 2}, handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting is short."""
    monkeypatch.setattr(endpoint, "PAUSE_S", 0.01)


@pytest.mark.usefixtures("quick")
def test_a_busy_or_failing_server_is_asked_again_and_a_refused_prompt_is_kept_with_its_reason(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(text: str, times: int) -> Any:
        if text == "42":
            return 400, {}, {"message": "this prompt is not allowed"}
        if text == "hello" and times == 1:
            return 429, {"Retry-After": "0.05"}, {"message": "slowly"}
        if text == "how" and times <= 2:
            return 503, {}, {"message": "busy"}
        return 200, {}, {"content": f"answer to {text}", "reasoning_content": "hm \ud800"}

    monkeypatch.setenv("A_KEY", "secret")
    with difficult(script) as (place, server):
        done = run(given, tmp_path / "out", endpoint={**place, "key_from": "A_KEY", "parameters": {"top_p": 0.5}})
    found = {row["id"]: row["messages"][-1] for row in rows(done.path / "conversations.jsonl")}
    assert found.keys() == {*QUESTIONS, "turns"} - {"42"}
    assert found["how"]["content"] == "answer to how" and found["how"]["reasoning_content"] == "hm ?"
    (failed,) = rows(done.path / "failed.jsonl")
    assert failed["id"] == "42" and "400" in failed["reason"] and "not allowed" in failed["reason"]
    assert server.asked.count("how") == 3 and server.asked.count("42") == 1
    assert set(server.keys) == {"Bearer secret"}
    written = "".join(path.read_text(encoding="utf-8") for path in done.path.glob("*.json*"))
    assert "secret" not in written


@pytest.mark.usefixtures("quick")
def test_what_was_answered_is_not_asked_again(given: dict[str, Any], tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()

    def script(text: str, times: int) -> Any:
        if broken.is_set() and text in ("天", "苹果"):
            return 500, {}, {"message": "broken"}
        return 200, {}, {"content": f"answer to {text}"}

    with difficult(script) as (place, server):
        stage = configured("teacher-answers", given | {"endpoint": {**place, "tries": 2}})
        folder = tmp_path / "out"
        folder.mkdir()
        out = Workspace(folder, MetricsLog(folder / "m.jsonl"))
        answer(stage, out)  # type: ignore[arg-type]
        assert out.results["failed"] == 2 and out.results["conversations"] == 5
        with (folder / "answers.jsonl").open("a", encoding="utf-8") as handle:
            handle.write('{"place": 99, "cut o')
        server.asked.clear()
        broken.clear()
        answer(stage, out)  # type: ignore[arg-type]
        assert sorted(server.asked) == sorted(["天", "苹果"])
    assert out.results["failed"] == 0 and out.results["conversations"] == 7
    assert len(rows(folder / "answers.jsonl")) == 7


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("status", "told"), [(401, "bad key"), (404, "no such model"), (429, "insufficient_quota: pay")]
)
def test_what_no_prompt_gets_around_ends_the_run_at_once(
    status: int, told: str, given: dict[str, Any], tmp_path: Path
) -> None:
    with difficult(lambda text, times: (status, {}, {"message": told})) as (place, server):
        with pytest.raises(LuhuoError, match="refuses") as caught:
            run(given, tmp_path / "out", endpoint=place)
        assert len(server.asked) <= 2 * place["concurrency"] + 2
    assert told in str(caught.value) and "key_from" in str(caught.value)


@pytest.mark.usefixtures("quick")
def test_a_server_that_fails_every_prompt_or_is_not_there_gets_one_message(
    given: dict[str, Any], tmp_path: Path
) -> None:
    with difficult(lambda text, times: (500, {}, {"message": "down"})) as (place, _):
        with pytest.raises(RunFailed, match="in a row") as caught:
            run(given, tmp_path / "fails", endpoint={**place, "tries": 1})
        assert "down" in str(caught.value)
    with pytest.raises(RunFailed, match="cannot be reached") as caught:
        run(given, tmp_path / "gone", endpoint={**place, "tries": 2})
    assert "what was answered is kept" in str(caught.value)


def test_a_pause_that_the_server_asks_for_holds_for_all_requests() -> None:
    stamps: list[float] = []

    def script(text: str, times: int) -> Any:
        stamps.append(time.monotonic())
        return (429, {"Retry-After": "0.4"}, {}) if len(stamps) == 1 else (200, {}, {"content": "x"})

    with difficult(script) as (place, _):
        asker = endpoint.Endpoint(endpoint.EndpointConfig.parse(place))
        options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 4, "seed": 0}
        first = threading.Thread(target=asker.ask, args=([{"role": "user", "content": "a"}],), kwargs=options)
        first.start()
        while not asker._not_before:
            time.sleep(0.005)
        assert asker.ask([{"role": "user", "content": "b"}], **options).text == "x"
        first.join()
    assert len(stamps) == 3 and min(stamps[1:]) - stamps[0] >= 0.39


def test_settings_that_cannot_work_are_refused(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, told in (
        ({}, "teacher or endpoint"),
        ({"teacher": "x", "min_score": 1.0}, "needs rewards"),
        ({"teacher": "x", "samples": 2}, "greedy"),
    ):
        with pytest.raises(LuhuoError, match=told):
            configured("teacher-answers", given | changes)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(LuhuoError, match="address"):
        endpoint.Endpoint(endpoint.EndpointConfig(model="m"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/")
    assert endpoint.Endpoint(endpoint.EndpointConfig(model="m")).url == "http://127.0.0.1:1/v1/chat/completions"
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(LuhuoError, match="key") as caught:
        endpoint.Endpoint(endpoint.EndpointConfig(model="m", key_from="NO_KEY"))
    assert caught.value.where == "NO_KEY"
