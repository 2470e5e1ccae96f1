"""The whole road at test size: what a newcomer's two commands do, and that it survives being killed."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, luhuo, start

RECIPE = ROOT / "recipes" / "quickstart.yaml"
KILLS = 10


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the quickstart at test size."""
    out = tmp_path_factory.mktemp("road") / "runs" / "quickstart"
    result = luhuo("run", str(RECIPE), "--variant", "test", "--out", str(out))
    assert result.returncode == 0, result.stderr[-4000:]
    assert "luhuo chat" in result.stdout.replace("\n", " ")
    return out


def weights(out: Path) -> dict[str, str]:
    files = {}
    for stage in ("base", "assistant", "control", "reward", "preferred", "practised", "small"):
        manifest = json.loads((out / stage / "manifest.json").read_text())
        files[stage] = manifest["files"]["model.safetensors"]["sha256"]
    return files


def test_lineage_names_every_stage_and_every_corpus_file(road: Path):
    tree = luhuo("lineage", str(road / "assistant")).stdout
    corpus = json.loads((road / "text" / "manifest.json").read_text())
    assert all(name in tree for name in ("world", "corpus", "tokenizer", "shards", "pretrain", "sft"))
    assert corpus["sources"]
    for source in corpus["sources"]:
        assert source["reference"] in tree and source["licence"] in tree


def test_transformers_opens_the_assistant_with_equal_logits(road: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import luhuo as package

    theirs = AutoModelForCausalLM.from_pretrained(road / "assistant", dtype=torch.float32).eval()
    ours = package.load(str(road / "assistant"), dtype="fp32", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(road / "assistant")
    messages = [{"role": "user", "content": "Who lives in 青河? 谁住在那里？"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        assert (theirs(ids).logits - ours(ids)).abs().max() < 1e-4


def test_summary_holds_bits_per_byte_beside_xz_and_accuracy_of_base_assistant_and_control(road: Path):
    summary = json.loads((road / "summary.json").read_text())["stages"]
    base = summary["base_scores"]["metrics"]
    for key in ("bpb.en", "bpb.zh", "xz.en", "xz.zh"):
        assert 0 < base[key] < 20
    sources = [s["name"] for s in json.loads((road / "text" / "manifest.json").read_text())["sources"]]
    assert all(any(key == f"bpb.source.{name}" for key in base) for name in sources)
    for stage in ("base_scores", "assistant_scores", "control_scores"):
        assert 0 <= summary[stage]["metrics"]["accuracy.mean"] <= 1
        families = json.loads((road / stage / "scores.json").read_text())["accuracy"]["families"]
        assert len(families) >= 8
    assert "difference.mean" in summary["against_base"]["metrics"]


def test_the_report_is_one_file_without_outside_resources(road: Path):
    page = (road / "report.html").read_text(encoding="utf-8")
    assert "assistant" in page
    assert not re.search(r"(?:src|href)=[\"']https?://", page)


def test_every_model_directory_has_a_card_that_names_licences(road: Path):
    card = (road / "assistant" / "README.md").read_text(encoding="utf-8")
    for source in json.loads((road / "text" / "manifest.json").read_text())["sources"]:
        assert source["licence"] in card


def test_killed_at_random_moments_it_ends_with_the_same_weights(road: Path, tmp_path: Path):
    out = tmp_path / "killed"
    command = ("run", str(RECIPE), "--variant", "test", "--out", str(out))
    chance = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = start(*command)
        process.join(chance.uniform(0.1, 2.0))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0:  # it got through before the kill: the next ones meet a new run
            assert weights(out) == weights(road)
            shutil.rmtree(out)
    last = luhuo(*command)
    assert last.returncode == 0, last.stderr[-4000:]
    assert weights(out) == weights(road)
    assert not list(out.glob(".*.partial"))


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(luhuo [^`]+)`", text)
    return [line for line in lines + inline if line]


def served_and_stopped(*words: str, cwd: Path, stdin: str) -> subprocess.CompletedProcess[str]:
    """A command that serves until it is told to stop: told so as soon as it says where."""
    command = [sys.executable, "-m", "luhuo", *words, "--port", "0"]
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "http://" in line:
                process.terminate()
                break
        told.append(process.stderr.read())
    return subprocess.CompletedProcess(command, process.returncode, "", "".join(told))


def test_the_commands_of_the_readme_work(road: Path, tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(road)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    chats = [
        {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "好"}]} for i in range(8)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chats))
    ran = 0
    for line in readme_commands():
        words = shlex.split(line)
        if words[0] == "make":
            result = subprocess.run(["make", "-n", words[1]], cwd=ROOT, capture_output=True, text=True)
        elif words[0].endswith("luhuo"):
            words = words[:2] if words[1] == "pull" else words  # without a name it lists them: no network is needed
            small = {"run": ["--dry-run"], "sft": ["steps=2"], "evaluate": ["--limit", "1"]}.get(words[1], [])
            call = served_and_stopped if words[1] == "serve" else luhuo
            result = call(*words[1:], *small, cwd=tmp_path, stdin="你好\n/exit\n")
        else:
            continue
        assert result.returncode == 0, f"{line}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        ran += 1
    assert ran >= 8


def test_offline_once_the_inputs_are_cached(road: Path, tmp_path: Path):
    environment = os.environ | {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    command = ("run", str(RECIPE), "--variant", "test", "--out", str(tmp_path / "o"))
    for stage in ("world", "text"):
        result = luhuo(*command, "--only", stage, environment=environment)
        assert result.returncode == 0, result.stderr
