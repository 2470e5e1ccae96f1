"""The rest of the server: page, headers, other origins, feedback, metrics, log, loading models, malformed input."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from luhuo.dialogue.conversation import Conversation
from luhuo.model.save import save
from luhuo.serve.feedback import FeedbackBody
from luhuo.serve.keys import KeyConfig
from luhuo.serve.lines import json_line
from luhuo.serve.schemas import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingsBody,
    ResponsesBody,
    TokenizeBody,
)
from tests.serve_cases import Running, running
from tests.small_chat import small_model

TURN = [{"role": "user", "content": "hello"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("你好", "?"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(data=tmp_path_factory.mktemp("feedback")) as found:
        yield found


@pytest.fixture
def http(server: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


def test_the_page_is_served_with_a_strict_policy(http: httpx2.Client):
    for path in ("/", *(f"/{file}" for file in ("style.css",) if http.get(f"/{file}").status_code == 200)):
        answer = http.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and answer.headers["x-content-type-options"] == "nosniff"
    assert http.get("/").headers["content-type"].startswith("text/html")
    for path in ("/../app.py", "/%2e%2e/app.py", "/view/../../app.py", "/__init__.py"):
        assert http.get(path).status_code == 404


def test_the_page_learns_what_it_may_offer(http: httpx2.Client):
    found = http.get("/page/config").json()
    assert found["feedback"] and not found["key_required"]
    assert [model["id"] for model in found["models"]] == ["small", "vectors"]


def test_nothing_and_wrong_methods_are_errors_in_openais_format(http: httpx2.Client):
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/health", 405),
    ):
        answer = http.request(method, path)
        assert answer.status_code == status and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_pages_of_other_origins_and_false_host_names_are_refused(http: httpx2.Client, server: Running):
    body = {"model": "small", "prompt": "x"}
    assert http.post("/tokenize", json=body, headers={"Origin": server.url}).status_code == 200
    for origin in ("https://evil.example", "null", f"http://localhost:{server.port}", "http://127.0.0.1:1"):
        answer = http.post("/tokenize", json=body, headers={"Origin": origin})
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    assert http.get("/v1/models", headers={"Host": f"evil.example:{server.port}"}).status_code == 403
    assert http.get("/v1/models", headers={"Host": f"localhost:{server.port}"}).status_code == 200
    text = http.post("/tokenize", content=json.dumps(body), headers={"Content-Type": "text/plain"})
    assert text.status_code == 400


def test_more_host_names_can_be_allowed():
    with running(hosts=("models.example",)) as server:
        assert httpx2.get(f"{server.url}/health", headers={"Host": "models.example"}).status_code == 200
        assert httpx2.get(f"{server.url}/health", headers={"Host": "other.example"}).status_code == 403


def test_feedback_becomes_preference_data(http: httpx2.Client, server: Running):
    folder = server.house.config.data
    assert folder is not None
    thumb = {"prompt": TURN, "completion": GOOD, "label": True, "model": "small"}
    pair = {"prompt": TURN, "chosen": GOOD, "rejected": BAD, "chosen_model": "small", "rejected_model": "other"}
    many = [
        threading.Thread(target=httpx2.post, args=(f"{server.url}/feedback",), kwargs={"json": thumb})
        for _ in range(8)
    ]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert http.post("/feedback", json=pair).status_code == 201
    unpaired = [json.loads(line) for line in (folder / "unpaired_preference.jsonl").read_text("utf-8").splitlines()]
    paired = [json.loads(line) for line in (folder / "preference.jsonl").read_text("utf-8").splitlines()]
    assert unpaired == [thumb] * 8 and paired == [pair]
    assert Conversation.of(paired[0]["prompt"] + paired[0]["chosen"]).has_target


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path):
    (tmp_path / "unpaired_preference.jsonl").write_text('{"prompt": [{"ro')
    with running(data=tmp_path) as server:
        httpx2.post(f"{server.url}/feedback", json={"prompt": TURN, "completion": BAD, "label": False})
    last = (tmp_path / "unpaired_preference.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["label"] is False


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": TURN, "completion": GOOD},
        {"prompt": TURN, "completion": GOOD, "label": True, "chosen": GOOD},
        {"prompt": TURN, "chosen": GOOD},
        {"prompt": [], "completion": GOOD, "label": True},
        {"prompt": [{"role": "user", "content": "x" * 1_000_001}], "completion": GOOD, "label": True},
        {"prompt": TURN, "completion": GOOD, "label": True, "path": "../x"},
    ],
)
def test_feedback_of_another_shape_is_refused(http: httpx2.Client, body: dict):
    assert http.post("/feedback", json=body).status_code == 400


def test_without_a_folder_there_is_no_feedback():
    with running() as server:
        body = {"prompt": TURN, "completion": GOOD, "label": True}
        assert httpx2.post(f"{server.url}/feedback", json=body).status_code == 404
        assert not httpx2.get(f"{server.url}/page/config").json()["feedback"]


def test_metrics_count_requests_and_tokens_in_prometheus_text(http: httpx2.Client):
    http.post("/v1/chat/completions", json={"model": "small", "messages": TURN, "max_tokens": 3, "ignore_eos": True})
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}
    assert values['luhuo_generated_tokens_total{model="small"}'] >= 3
    chats = 'luhuo_http_requests_total{method="POST",path="/v1/chat/completions",status="200"}'
    assert values[chats] >= 1 and values["luhuo_requests_open"] == 0 and values["process_resident_memory_bytes"] > 1e7
    assert (
        values['luhuo_first_token_seconds_bucket{model="small",le="+Inf"}']
        == values['luhuo_first_token_seconds_count{model="small"}']
    )
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert len(typed) == sum(line.startswith("# TYPE") for line in lines)


def test_the_log_has_a_line_a_request_and_no_contents_unless_asked(tmp_path: Path):
    body = {"model": "small", "messages": [{"role": "user", "content": "秘密"}], "max_tokens": 3}
    for contents in (False, True):
        file = tmp_path / f"{contents}.jsonl"
        with running(log=file, log_contents=contents) as server:
            answer = httpx2.post(f"{server.url}/v1/chat/completions", json=body, headers={"X-Request-Id": "mine-1"})
            httpx2.get(f"{server.url}/nothing", headers={"X-Request-Id": 'a"b'})
        first, second = (json.loads(line) for line in file.read_text("utf-8").splitlines())
        assert answer.headers["x-request-id"] == first["id"] == "mine-1" and second["id"] != 'a"b'
        assert first["status"] == 200 and first["completion_tokens"] <= 3 and first["model"] == "small"
        assert ("秘密" in file.read_text("utf-8")) == contents and second["status"] == 404


def test_no_character_of_a_text_breaks_a_line():
    text = "a\u2028b\u2029c\x85d\r\n\x0b\x0c\x1c你好"
    assert len(json_line({"text": text}).splitlines()) == 1 and json.loads(json_line(text)) == text
    assert "你好" in json_line(text)


def test_only_an_administrator_loads_and_unloads_models(tmp_path: Path):
    save(small_model(), tmp_path / "more")
    keys = tuple(
        KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), admin=name == "root")
        for name in ("user", "root")
    )
    with running(keys=keys) as server, httpx2.Client(base_url=server.url, timeout=60) as http:
        user, root = ({"Authorization": f"Bearer {name}"} for name in ("user", "root"))
        body = {"model": str(tmp_path / "more")}
        assert http.post("/admin/models", json=body, headers=user).status_code == 403
        assert http.post("/admin/models", json=body, headers=root).status_code == 201
        assert http.post("/admin/models", json=body, headers=root).status_code == 409
        assert http.post("/admin/models", json={"model": "nowhere-at-all"}, headers=root).status_code == 400
        answer = server.client("user").chat.completions.create(model="more", messages=TURN, max_tokens=2)  # type: ignore
        assert answer.model == "more"
        assert http.delete("/admin/models/more", headers=user).status_code == 403
        assert http.delete("/admin/models/more", headers=root).json()["deleted"]
        assert http.get("/v1/models/more", headers=user).status_code == 404
    with running() as server:
        assert httpx2.post(f"{server.url}/admin/models", json=body).status_code == 403


NASTY = (
    *(None, True, 0, -1, 2**63, 1e308, "", "x", "\u0000", "你好", "\\ud800", "<|im_start|>", "9" * 400, "a" * 3000),
    *([], [None], [[]], [1, "a"], [[1], ["b"]], [10**9], {}, {"": ""}, {"a": {"b": []}}, {"50": 1e9}, {"50": 1}),
    *({"type": "json_schema"}, {"type": "json_object"}, {"include_usage": True}, ["x"], [65], 1, 0.5),
)
BODIES = {
    "/v1/chat/completions": (ChatBody, {"model": "small", "messages": TURN, "max_tokens": 2}),
    "/v1/completions": (CompletionBody, {"model": "small", "prompt": "x", "max_tokens": 2}),
    "/v1/responses": (ResponsesBody, {"model": "small", "input": "x", "max_output_tokens": 2}),
    "/v1/embeddings": (EmbeddingsBody, {"model": "vectors", "input": "x"}),
    "/tokenize": (TokenizeBody, {"model": "small", "prompt": "x"}),
    "/detokenize": (DetokenizeBody, {"model": "small", "tokens": [65]}),
    "/feedback": (FeedbackBody, {"prompt": TURN, "completion": GOOD, "label": True}),
}


def malformed(path: str, chance: random.Random) -> bytes:
    """A body with something odd in it, most often something wrong."""
    kind, base = BODIES[path]
    value = dict(base)
    for _ in range(chance.randrange(3)):
        value[chance.choice([*kind.model_fields, "unknown"])] = chance.choice(NASTY)
    if "messages" in value and chance.random() < 0.3:
        value["messages"] = [
            {"role": chance.choice(("user", "tool", "assistant", 3)), "content": chance.choice(NASTY)}
        ]
    data = json.dumps(value).replace("\\\\ud800", "\\ud800").encode()
    kind = chance.randrange(12)
    if kind == 0:
        return data[: chance.randrange(len(data))]
    if kind == 1:
        place = chance.randrange(len(data))
        return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
    if kind == 2:
        return chance.choice(
            (b"", b"[" * 5000, b"[]", b"null", b"NaN", b'"x"', b'{"model": NaN}', b"\xff\xfe", b"1" * 5000)
        )
    return data


def test_malformed_bodies_never_break_the_server(http: httpx2.Client, server: Running):
    chance = random.Random(2026)
    statuses: dict[int, int] = {}
    for number in range(420):
        path = list(BODIES)[number % len(BODIES)]
        body = malformed(path, chance)
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (path, body, answer.text)
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, (path, body)
    assert statuses.pop(200) > 40 and statuses.pop(400) > 100
    assert set(statuses) <= {201, 404}, statuses
    assert server.house.admission.open == server.house.admission.requests == 0
