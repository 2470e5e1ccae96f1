"""`luhuo serve --engine ray`: replicas behind one address. Ray is no package of the tests: this runs where it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.save import save
from luhuo.serve.config import ServeConfig
from luhuo.serve.run import serve
from tests.small_chat import small_model
from tests.test_inference_adapters import made, merged

WAIT_S = 240


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    pytest.importorskip("ray", reason="luhuo[ray] is too large for the tests' environment")
    folder = tmp_path_factory.mktemp("ray")
    save(small_model(), folder / "small")
    made(folder / "red", 0, rank=4)
    words = ["serve", f"small={folder / 'small'}", "--adapter", f"red={folder / 'red'}", "--dtype", "fp32"]
    words += ["--engine", "ray", "--replicas", "2", "--port", "8765", "--log", str(folder / "log.jsonl")]
    environment = os.environ | {"LUHUO_LANG": "en", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "luhuo", *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if "Serving at" in line:
            break
    else:
        raise AssertionError("".join(told))
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield "http://127.0.0.1:8765/v1", folder
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0


def test_replicas_behind_one_address_answer_as_one_engine(address: tuple[str, Path]):
    url, folder = address
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=WAIT_S)
    assert [model.id for model in client.models.list()] == ["small", "red"]
    wanted = Sampling(max_tokens=12, temperature=0)
    engines = {"small": Engine(small_model()), "red": Engine(merged(folder / "red"))}
    found: dict[tuple[str, str], str] = {}

    def ask(model: str, prompt: str) -> None:
        parts = client.completions.create(model=model, prompt=prompt, max_tokens=12, temperature=0, stream=True)
        found[model, prompt] = "".join(part.choices[0].text for part in parts)

    asked = [(model, f"hello {number}") for number in range(12) for model in engines]
    threads = [threading.Thread(target=ask, args=pair) for pair in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, prompt in asked:
        assert found[model, prompt] == engines[model].generate([prompt], wanted)[0].text
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    assert len({line["replica"] for line in lines if line["path"] == "/v1/completions"}) == 2


def test_errors_keep_openais_format_and_nothing_is_loaded_over_http(address: tuple[str, Path]):
    client = openai.OpenAI(base_url=address[0], api_key="none", max_retries=0, timeout=WAIT_S)
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.PermissionDeniedError):
        client.post("/load_lora_adapter", body={"lora_name": "x", "lora_path": "y"}, cast_to=object)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"replicas": 2}, "--engine ray"),
        ({"engine": "ray", "adapter_root": "/tmp"}, "loaded over HTTP"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict, told: str):
    with pytest.raises(LuhuoError, match=told):
        serve(["small=nowhere"], ServeConfig.parse(settings))
