"""`luhuo batch`, `luhuo complete` and `luhuo chat` with a message, as commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.save import save
from luhuo.serve.batch import run_batch
from tests.small_chat import small_model

WAIT_S = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    save(small_model(), folder)
    return str(folder)


def start(*words: str, **options) -> subprocess.Popen[str]:
    environment = os.environ | {"LUHUO_LANG": "en", "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-m", "luhuo", *words], text=True, env=environment, **pipes)


def chat(number: int, **more) -> dict:
    body = {"model": "any", "messages": [{"role": "user", "content": f"hello {number}"}], "max_tokens": 6} | more
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def write(file: Path, *lines: dict | str) -> Path:
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def texts(records: list[dict]) -> list[str]:
    return [record["response"]["body"]["choices"][0]["message"]["content"] for record in records]


def run(model: str, source: Path, out: Path, **options) -> int:
    return run_batch(model, source, out, dtype="auto", device="cpu", **options)


def test_answers_stand_in_the_order_of_the_requests_and_are_the_engines(model: str, tmp_path: Path):
    lengths = [40, 1, 25, 3, 12]
    lines = [chat(i, max_tokens=n, temperature=0) for i, n in enumerate(lengths)]
    assert run(model, write(tmp_path / "in.jsonl", *lines), tmp_path / "out.jsonl") == 0
    found = read(tmp_path / "out.jsonl")
    engine = Engine(small_model())
    expected = [
        engine.chat(line["body"]["messages"], Sampling(temperature=0, max_tokens=n)).text
        for line, n in zip(lines, lengths, strict=True)
    ]
    assert [record["custom_id"] for record in found] == [f"r{i}" for i in range(5)] and texts(found) == expected
    assert all(record["error"] is None and record["response"]["status_code"] == 200 for record in found)


def test_a_line_that_is_wrong_gets_an_error_and_the_others_their_answers(model: str, tmp_path: Path):
    lines = (
        chat(0),
        "{nonsense",
        chat(0),
        chat(1, temperature=9),
        chat(2) | {"url": "/v1/images"},
        chat(3, stream=True),
        chat(4, messages=[{"role": "user", "content": "x" * 900}]),
        "[" * 3000,
        {
            "custom_id": "t",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"prompt": ["a", "b"], "max_tokens": 2},
        },
        {"method": "POST"},
    )
    assert run(model, write(tmp_path / "in.jsonl", *lines), tmp_path / "out.jsonl") == 1
    found = read(tmp_path / "out.jsonl")
    assert [record["response"]["status_code"] for record in found] == [200, *[400] * 7, 200, 400]
    assert found[6]["error"]["code"] == "context_length_exceeded" and found[3]["error"]["line"] == 4
    assert "custom_id" in found[2]["error"]["message"] and len(found[8]["response"]["body"]["choices"]) == 2
    assert [record["custom_id"] for record in found][-2:] == ["t", None]


def test_a_batch_that_was_killed_goes_on_and_ends_with_the_same_answers(model: str, tmp_path: Path):
    source = write(tmp_path / "in.jsonl", *(chat(i, max_tokens=5 + i // 3, ignore_eos=True) for i in range(300)))
    killed, partial = start("batch", model, str(source), str(tmp_path / "out.jsonl")), tmp_path / ".out.jsonl.partial"
    end = time.monotonic() + WAIT_S
    while not (partial.exists() and partial.stat().st_size):
        assert killed.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "out.jsonl").exists()
    kept = partial.read_bytes()
    whole = kept[: kept.rfind(b"\n") + 1]
    partial.write_bytes(whole + b'{"id": "half of a li')
    assert run(model, source, tmp_path / "out.jsonl") == 0
    assert (tmp_path / "out.jsonl").read_bytes().startswith(whole)
    assert run(model, source, tmp_path / "straight.jsonl") == 0
    once, twice = read(tmp_path / "out.jsonl"), read(tmp_path / "straight.jsonl")
    assert len(once) == 300 and texts(once) == texts(twice)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "straight.jsonl"]


def test_a_half_done_output_of_other_requests_is_not_continued(model: str, tmp_path: Path):
    (tmp_path / ".out.jsonl.partial").write_text("")
    (tmp_path / ".out.jsonl.state.json").write_text("{}")
    source = write(tmp_path / "in.jsonl", chat(0))
    with pytest.raises(LuhuoError, match="other requests"):
        run(model, source, tmp_path / "out.jsonl")
    assert run(model, source, tmp_path / "out.jsonl", force=True) == 0
    with pytest.raises(LuhuoError, match="already"):
        run(model, source, tmp_path / "out.jsonl")


def test_complete_continues_an_argument_or_a_pipe(model: str):
    expected = Engine(small_model()).generate(["hello"], Sampling(temperature=0, max_tokens=5))[0].text
    told = start("complete", model, "hello", "--max-tokens", "5", "--echo").communicate(timeout=WAIT_S)[0]
    piped = start("complete", model, "--max-tokens", "5", stdin=subprocess.PIPE)
    assert told == f"hello{expected}\n" and piped.communicate("hello", timeout=WAIT_S)[0] == f"{expected}\n"


def test_a_message_to_chat_is_answered_with_what_comes_through_the_pipe(model: str):
    asked = start("chat", model, "summarise", "--max-tokens", "5", stdin=subprocess.PIPE)
    found = asked.communicate("some text\n", timeout=WAIT_S)[0]
    messages = [{"role": "user", "content": "summarise\n\nsome text"}]
    expected = Engine(small_model()).chat(messages, Sampling(temperature=0, max_tokens=5)).text
    assert found.rstrip("\n") == "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in expected)
