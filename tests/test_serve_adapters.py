"""LoRA adapters over HTTP: each is a model by name, all share a batch, an administrator loads and unloads them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.save import save as save_model
from luhuo.serve.adapters import load_named
from luhuo.serve.batch import run_batch
from luhuo.serve.keys import KeyConfig
from luhuo.serve.served import Models, Served
from tests.serve_cases import Running, running, small_encoder
from tests.small_chat import small_model, with_template
from tests.test_inference_adapters import made, merged

ADMIN = {"Authorization": "Bearer root"}
KEYS = tuple(
    KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), admin=name == "root")
    for name in ("root", "user")
)
PROMPTS = ["hello world", "你好，世界", "the answer is"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    made(folder / "red", 0, rank=4, targets=["all"])
    made(folder / "deeper" / "blue", 1, rank=2, targets=["q_proj", "down_proj"])
    made(folder / "prompt", method="prompt", tokens=4)
    made(folder / "templated", 2, rank=2)
    with_template("{% for m in messages %}[{{ m.content }}]{% endfor %}").save(folder / "templated")
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[Running]:
    models = Models([Served.of("small", small_model()), Served.of("vectors", small_encoder())])
    load_named(models, [f"red={root / 'red'}"])
    with running(models=list(models), keys=KEYS, adapter_root=root) as found:
        yield found


def admin(server: Running) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=60, headers=ADMIN)


def load(server: Running, **body: object) -> httpx2.Response:
    with admin(server) as http:
        return http.post("/v1/load_lora_adapter", json=body)


def unload(server: Running, name: str) -> httpx2.Response:
    with admin(server) as http:
        return http.post("/v1/unload_lora_adapter", json={"lora_name": name})


def completed(client: openai.OpenAI, model: str, prompt: str) -> str:
    found = client.completions.create(model=model, prompt=prompt, max_tokens=12, temperature=0)
    assert found.model == model
    return found.choices[0].text


def test_an_adapter_is_a_model_with_a_parent(server: Running):
    listed = {model.id: model for model in server.client("user").models.list()}
    assert list(listed) == ["small", "vectors", "red"]
    assert listed["red"].parent == "small" and listed["small"].parent is None  # type: ignore[attr-defined]
    assert listed["red"].tasks == listed["small"].tasks  # type: ignore[attr-defined]


def test_clients_of_several_adapters_and_of_the_base_get_what_each_model_alone_says(server: Running, root: Path):
    assert load(server, lora_name="blue", lora_path="deeper/blue").status_code == 200
    wanted = Sampling(max_tokens=12, temperature=0)
    engines = {
        "small": Engine(small_model()),
        "red": Engine(merged(root / "red")),
        "blue": Engine(merged(root / "deeper" / "blue")),
    }
    found: dict[tuple[str, str], str] = {}
    client = server.client("user")

    def ask(model: str, prompt: str) -> None:
        found[model, prompt] = completed(client, model, prompt)

    threads = [threading.Thread(target=ask, args=(model, prompt)) for model in engines for prompt in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (model, prompt), text in found.items():
        assert text == engines[model].generate([prompt], wanted)[0].text, (model, prompt)
    assert len({found[model, PROMPTS[0]] for model in engines}) == 3


def test_chat_streams_and_the_responses_api_go_to_the_adapter_too(server: Running, root: Path):
    client, messages = server.client("user"), [{"role": "user", "content": "hello"}]
    told = Engine(merged(root / "red")).chat(messages, Sampling(max_tokens=8, temperature=0))
    options = {"model": "red", "max_tokens": 8, "temperature": 0}
    stream = client.chat.completions.create(messages=messages, stream=True, **options)  # type: ignore[call-overload]
    parts = list(stream)
    assert {part.model for part in parts} == {"red"}
    assert "".join(part.choices[0].delta.content or "" for part in parts) == told.text
    answer = client.responses.create(model="red", input="hello", max_output_tokens=16, temperature=0)
    told = Engine(merged(root / "red")).chat(messages, Sampling(max_tokens=16, temperature=0))
    assert answer.model == "red" and answer.output_text == told.text


def test_log_probabilities_of_an_echoed_prompt_are_the_adapters(server: Running):
    client = server.client("user")
    ask = {"prompt": "hello world", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    found = [client.completions.create(model=model, **ask).choices[0].logprobs for model in ("small", "red")]
    assert found[0] is not None and found[1] is not None and found[0].token_logprobs != found[1].token_logprobs


def test_a_chat_template_of_its_own_counts(server: Running):
    assert load(server, lora_name="templated", lora_path="templated").status_code == 200
    with admin(server) as http:
        counts = [
            http.post("/tokenize", json={"model": m, "messages": [{"role": "user", "content": "x"}]}).json()["count"]
            for m in ("small", "templated")
        ]
    assert counts[1] == 3 < counts[0]


def test_only_an_administrator_loads_and_unloads(server: Running):
    for path, body in (
        ("/v1/load_lora_adapter", {"lora_name": "blue", "lora_path": "deeper/blue"}),
        ("/v1/unload_lora_adapter", {"lora_name": "red"}),
    ):
        for headers, status in (({}, 401), ({"Authorization": "Bearer user"}, 403)):
            assert httpx2.post(server.url + path, json=body, headers=headers).status_code == status
    assert "red" in [model.id for model in server.client("user").models.list()]


def test_adapters_come_from_below_the_configured_folder_only(server: Running, root: Path, tmp_path: Path):
    outside = made(tmp_path / "outside", 5, rank=2)
    link = root / "link"
    link.symlink_to(outside)
    try:
        for path in (str(outside), f"../{outside.name}", "deeper/../../x", "link", ".", "/etc/passwd", "\0", "a\0b"):
            answer = load(server, lora_name="new", lora_path=path)
            assert answer.status_code in (400, 403), path
            assert str(root) not in answer.text and "No such file" not in answer.text
    finally:
        link.unlink()
    assert load(server, lora_name="new", lora_path=str(root / "red")).status_code == 200
    assert unload(server, "new").status_code == 200


def test_without_a_folder_nothing_is_loaded_over_http():
    with running(keys=KEYS) as server:
        answer = load(server, lora_name="red", lora_path="red")
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "adapters_off"


def test_what_is_wrong_with_an_adapter_is_told(server: Running):
    for body, status, word in (
        ({"lora_name": "red", "lora_path": "red"}, 409, "already"),
        ({"lora_name": "small", "lora_path": "red"}, 409, "already"),
        ({"lora_name": "new", "lora_path": "nothing"}, 400, "no adapter here"),
        ({"lora_name": "new", "lora_path": "prompt"}, 400, "cannot share a batch"),
        ({"lora_name": "new", "lora_path": "red", "base_model_name": "none"}, 404, "not served"),
        ({"lora_name": "new", "lora_path": "red", "base_model_name": "vectors"}, 400, "takes no adapters"),
        ({"lora_name": "new", "lora_path": "red", "base_model_name": "red"}, 400, "takes no adapters"),
        ({"lora_name": "", "lora_path": "red"}, 400, "lora_name"),
        ({"lora_name": "new"}, 400, "lora_path"),
    ):
        answer = load(server, **body)
        assert answer.status_code == status and word in answer.json()["error"]["message"], answer.text
    assert unload(server, "nothing").status_code == 404 and unload(server, "small").status_code == 404


def test_a_full_server_takes_no_more(root: Path):
    with running(keys=KEYS, adapter_root=root, max_adapters=1) as server:
        assert load(server, lora_name="red", lora_path="red").status_code == 200
        assert load(server, lora_name="blue", lora_path="deeper/blue").status_code == 409


def test_unloading_finishes_what_runs_and_refuses_what_comes(server: Running, root: Path):
    client = server.client("user")
    ask = {"model": "red", "prompt": "hello", "max_tokens": 200, "temperature": 0, "extra_body": {"ignore_eos": True}}
    stream = client.completions.create(stream=True, **ask)
    first = next(iter(stream)).choices[0].text
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(unload(server, "red").status_code))
    thread.start()
    while "red" in [model.id for model in client.models.list()]:
        time.sleep(0.005)
    with pytest.raises(openai.NotFoundError):
        completed(client, "red", "hello")
    rest = "".join(part.choices[0].text for part in stream)
    thread.join()
    whole = Sampling(max_tokens=200, temperature=0, ignore_eos=True)
    assert done == [200] and first + rest == Engine(merged(root / "red")).generate(["hello"], whole)[0].text
    assert len(server.house.models.find("small").writer.adapters) == 0
    assert load(server, lora_name="red", lora_path="deeper/blue").status_code == 200
    alone = Engine(merged(root / "deeper" / "blue")).generate(["hello"], Sampling(max_tokens=12, temperature=0))[0]
    assert completed(client, "red", "hello") == alone.text


def test_a_base_is_not_unloaded_under_its_adapters(server: Running):
    with admin(server) as http:
        assert http.delete("/admin/models/small").status_code == 409
        assert http.delete("/admin/models/red").json()["deleted"]
        assert http.delete("/admin/models/small").status_code == 200


def test_figures_are_counted_by_adapter(server: Running):
    completed(server.client("user"), "red", "hello")
    with admin(server) as http:
        text = http.get("/metrics").text
    assert 'luhuo_generated_tokens_total{model="red"} 12' in text and "luhuo_adapters 1" in text


def test_names_on_the_command_line_are_checked(root: Path):
    models = Models([Served.of("one", small_model()), Served.of("two", small_model())])
    load_named(models, [f"two:red={root / 'red'}"])
    assert models.find("red").parent is models.find("two")
    for word, told in (
        (f"red={root / 'red'}", "same name"),
        (f"new={root / 'red'}", "which model"),
        (f"three:new={root / 'red'}", "not served"),
        (str(root / "red"), "needs a name"),
        ("=x", "needs a name"),
        (f"one:new={root / 'prompt'}", "cannot share a batch"),
    ):
        with pytest.raises(LuhuoError, match=told):
            load_named(models, [word])
    for served in models:
        served.close(drain=False)


def test_lines_of_a_batch_name_the_adapter_that_answers(root: Path, tmp_path: Path):
    save_model(small_model(), tmp_path / "model")
    lines = [
        {
            "custom_id": f"{number}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": model, "prompt": "hello", "max_tokens": 12, "temperature": 0},
        }
        for number, model in enumerate(("red", "anything", "red"))
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, words = tmp_path / "out.jsonl", [f"red={root / 'red'}"]
    model = str(tmp_path / "model")
    assert run_batch(model, tmp_path / "in.jsonl", out, adapters=words, dtype="fp32", device="cpu") == 0
    bodies = [json.loads(line)["response"]["body"] for line in out.read_text("utf-8").splitlines()]
    texts = [body["choices"][0]["text"] for body in bodies]
    wanted = Sampling(max_tokens=12, temperature=0)
    red, base = (Engine(m).generate(["hello"], wanted)[0].text for m in (merged(root / "red"), small_model()))
    assert texts == [red, base, red] and bodies[0]["model"] == "red"
