"""Every example of docs/serving.md runs, in order, in a folder with a small model where the documents have theirs."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from luhuo.core.errors import LuhuoError
from luhuo.export import export
from luhuo.model.save import save
from tests.small_chat import small_model
from tests.test_inference_adapters import made
from tests.test_model_decoder import random_model

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"```([a-z]+)\n(.*?)```", re.DOTALL)
WAIT_S = 180


def test_both_languages_have_the_same_examples():
    english, chinese = (BLOCK.findall((DOCS / name).read_text("utf-8")) for name in ("serving.md", "serving.zh.md"))
    assert english == chinese and len(english) >= 10


class Shell:
    """A folder, a port, and the server of the last `luhuo serve`."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.server = folder, None
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "LUHUO_LANG": "en", "OMP_NUM_THREADS": "1"}

    def run(self, kind: str, text: str) -> str:
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        if kind == "yaml":
            (self.folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
            return ""
        if text.startswith("luhuo serve"):
            return self.start(["-m", *shlex.split(text)])
        if text.startswith("python -m luhuo.launch"):
            return self.start(shlex.split(text)[1:])
        words = [sys.executable, "-c", text] if kind == "python" else ["sh", "-ec", text]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=WAIT_S
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        return done.stdout

    def start(self, words: list[str]) -> str:
        self.stop()
        command = [sys.executable, *words, "--port", str(self.port)]
        self.server = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        assert self.server.stderr is not None
        for line in self.server.stderr:
            if "Serving at" in line:
                threading.Thread(target=self.server.stderr.read, daemon=True).start()
                return line
        raise AssertionError(f"the server did not start: {words}")

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            assert self.server.wait(WAIT_S) == 0
            self.server = None


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    save(small_model(max_positions=2048), tmp_path / "runs" / "quickstart" / "assistant")
    for number, name in enumerate(("polite", "brief")):
        made(tmp_path / "adapters" / name, number, rank=2)
    found = Shell(tmp_path)
    yield found
    if found.server is not None:
        found.server.kill()
        found.server.wait()


def test_every_example_runs(shell: Shell):
    told = []
    for kind, text in BLOCK.findall((DOCS / "serving.md").read_text("utf-8")):
        if not text.startswith("pip install"):
            told.append(shell.run(kind, text))
    shell.stop()
    everything = "\n".join(told)
    assert '"parent":"chat"' in everything and '"deleted":true' in everything and '"model":"brief"' in everything
    assert "CompletionUsage" in everything and "word=" in everything and '"id":"second"' in everything
    assert re.search(r"luhuo_requests_open \d", everything) and "vllm serve exported" in everything
    assert {"out.jsonl", "exported", "requests.jsonl"} <= {file.name for file in shell.folder.iterdir()}


def test_an_export_for_vllm_is_complete_and_says_how_to_serve_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(small_model(), tmp_path / "small")
    export(str(tmp_path / "small"), "vllm", "bf16", tmp_path / "out")
    command = capsys.readouterr().out.splitlines()[1]
    assert shlex.split(command)[:3] == ["vllm", "serve", str(tmp_path / "out")]
    assert "--dtype bfloat16" in command and "--max-model-len 256" in command
    script = tmp_path / "out" / "serve.sh"
    assert command in script.read_text() and os.access(script, os.X_OK)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] and config["model_type"]
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as tensors:
        assert "model.embed_tokens.weight" in tensors.keys()  # noqa: SIM118


def test_an_export_without_a_tokenizer_is_refused_and_leaves_nothing(tmp_path: Path):
    save(random_model(), tmp_path / "bare")
    with pytest.raises(LuhuoError, match="something is missing"):
        export(str(tmp_path / "bare"), "vllm", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
