"""`luhuo pull`, and hubs as sources of a corpus: through the command line, over real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from luhuo.core.artifact import produce, read_manifest
from luhuo.core.lineage import lineage
from luhuo.model.info import describe
from luhuo.model.save import save
from luhuo.stages import configured
from tests.hub_server import Hub, serve
from tests.test_model_decoder import random_model

SETTINGS = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "LUHUO_OFFLINE",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
)


@pytest.fixture
def model(tmp_path: Path) -> dict[str, bytes]:
    """The files of a small published model."""
    save(random_model(), tmp_path / "source")
    files = {f.name: f.read_bytes() for f in (tmp_path / "source").iterdir()}
    return files | {"README.md": b"---\nlicense: mit\n---\n", "pytorch_model.bin": b"pickle" * 9_000}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return kept | {"LUHUO_CACHE": str(tmp_path / "cache"), "LUHUO_LANG": "en", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Hub], None]:
    """Let this process ask a stand-in hub."""

    def ask(hub: Hub) -> None:
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
        for name, value in {"LUHUO_CACHE": str(tmp_path / "cache"), **at(hub)}.items():
            monkeypatch.setenv(name, value)

    return ask


def luhuo(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "luhuo", *words], capture_output=True, text=True, env=environment)


def at(hub: Hub) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_pull_copies_a_model_into_a_folder_and_says_what_it_is(scheme, model, environment, tmp_path: Path):
    with serve(Hub({"models/owner/demo": model})) as hub:
        result = luhuo(environment | at(hub), "pull", f"{scheme}:owner/demo", "--to", str(tmp_path / "here"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == str(tmp_path / "here")
    for said in ("licence: mit", "architecture: Qwen3ForCausalLM", "parameters: ", "size: 0.1 MB"):
        assert said in result.stdout
    wanted = sorted(name for name in model if name != "pytorch_model.bin")
    assert sorted(f.name for f in (tmp_path / "here").iterdir()) == wanted
    assert all((tmp_path / "here" / name).read_bytes() == model[name] for name in wanted)


def test_a_pull_that_was_interrupted_continues(model, environment, tmp_path: Path):
    size = len(model["model.safetensors"])
    with serve(Hub({"models/owner/demo": model}, drop_after=[size // 2, 0, 0, 0])) as hub:
        first = luhuo(environment | at(hub), "pull", "ms:owner/demo")
        assert first.returncode == 1 and "it continues after" in first.stderr and "Traceback" not in first.stderr
        hub.drop_after = []
        again = luhuo(environment | at(hub), "pull", "ms:owner/demo")
        assert again.returncode == 0, again.stderr
        assert hub.sent == size


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_info_of_a_model_at_a_hub_does_not_fetch_its_weights(scheme, model, here):
    with serve(Hub({"models/owner/demo": model})) as hub:
        here(hub)
        found = describe(f"{scheme}:owner/demo")
        assert hub.sent == 0
    assert (found.architecture, found.licence, found.stored) == ("Qwen3ForCausalLM", "mit", {})
    assert found.parameters == 12_848 and found.serve["bf16"]["weights"] == 2 * 12_848


def test_pull_without_a_name_lists_the_short_names(environment):
    result = luhuo(environment | {"COLUMNS": "160"}, "pull")
    assert result.returncode == 0
    assert "smollm2-135m-instruct" in result.stdout and "ms:Qwen/Qwen3-0.6B" in result.stdout


def test_pull_of_an_unknown_name_is_one_message(environment):
    result = luhuo(environment, "pull", "smollm-135m-instruct")
    assert result.returncode == 2 and "Did you mean “smollm2-135m-instruct”?" in result.stderr


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_a_data_set_of_a_hub_is_a_source_of_a_corpus(scheme, tmp_path: Path, here):
    rows = "".join(f'{{"text": "Document number {i} tells of {i * 7} different things."}}\n' for i in range(300))
    files = {"data/train-0.jsonl": rows.encode(), "data/train-1.jsonl": b'{"text": "One more page of text."}\n'}
    reference = f"{scheme}:datasets/owner/texts/data/*.jsonl"
    source = {"name": "texts", "path": reference, "licence": "CC0-1.0", "lang": "en", "valid": 0.05, "test": 0.05}
    with serve(Hub({"datasets/owner/texts": files | {"other.csv": b"text\nno\n"}})) as hub:
        here(hub)
        produce("corpus", configured("corpus", {"sources": [source]}), tmp_path / "corpus")
    assert read_manifest(tmp_path / "corpus")["metrics"]["documents.train"] > 250
    assert any(reference in line and "CC0-1.0" in line for _, line in lineage(tmp_path / "corpus"))
