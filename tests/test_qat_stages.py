"""Training stages with `quantisation`: what they write, and what the documents say of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from luhuo.align.reward_stage import RewardStage
from luhuo.cli import app
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.decoder import Decoder
from luhuo.model.load import load
from luhuo.model.quantised import QuantisedLinear
from luhuo.model.save import save
from luhuo.stages import configured
from luhuo.train.quantisation.config import Quantisation
from tests.objective_runs import SMALL, material
from tests.small_chat import small_model

DOCS = Path(__file__).parents[1] / "docs"
TINY: dict[str, Any] = SMALL | {"steps": 2, "eval_tokens": 256}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run: tokenizer, shards and a base model."""
    folder = tmp_path_factory.mktemp("run")
    given = material(folder)
    produce("pretrain", configured("pretrain", given | TINY), folder / "base")
    return folder


def made(run: Path, name: str, stage: str = "pretrain", **values: Any) -> Path:
    given = {"model": str(run / "base"), "shards": str(run / "shards"), "tokenizer": str(run / "tokenizer")}
    produce(stage, configured(stage, given | TINY | values), run / name)
    return run / name


def test_pretraining_writes_the_quantised_directory_and_its_score(run: Path) -> None:
    out = made(run, "rounded", quantisation={"bits": 2, "group": 8})
    settings = json.loads((out / "config.json").read_text())["quantization_config"]
    assert settings["config_groups"]["group_0"]["weights"]["num_bits"] == 2
    model = load(out, device="cpu")
    assert isinstance(model, Decoder) and isinstance(model.blocks[0].attention.qkv, QuantisedLinear)  # type: ignore[union-attr]
    assert not list(out.rglob(".checkpoint"))


def test_a_quantised_directory_is_trained_on_from_its_own_numbers(run: Path) -> None:
    first = made(run, "first", quantisation={"bits": 4, "group": 8})
    again = made(run, "again", model=str(first), learning_rate=1e-8, quantisation={"bits": 4, "group": 8})
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before, after = (load(folder, dtype="fp32", device="cpu")(ids) for folder in (first, again))  # type: ignore[operator]
    torch.testing.assert_close(after, before, rtol=0, atol=0.05 * before.abs().max().item())


def test_a_model_learns_rounded_from_itself_in_full_precision(run: Path) -> None:
    teacher = {"teacher": str(run / "base"), "share": 0.5}
    out = made(run, "taught", "pretrain-distill", quantisation={"bits": 3, "group": 8, "method": "lsq"}, **teacher)
    settings = json.loads((out / "config.json").read_text())["quantization_config"]
    assert settings["config_groups"]["group_0"]["weights"]["num_bits"] == 3


def test_an_encoder_is_refused_before_it_is_trained(run: Path) -> None:
    values = {"model": None, "objective": "masked", "quantisation": {"bits": 4, "group": 8}}
    with pytest.raises(LuhuoError, match="Only decoders"):
        made(run, "encoder", **values)


def test_reward_models_are_refused(tmp_path: Path) -> None:
    save(small_model(), tmp_path / "model")
    rows = [{"prompt": f"{i}?", "chosen": f"{i}", "rejected": "no"} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    given = {"model": str(tmp_path / "model"), "data": str(tmp_path / "pairs.jsonl"), "length": 128, "threads": 1}
    stage = RewardStage.parse(given | {"steps": 1, "device": "cpu", "quantisation": {"bits": 4, "group": 8}})
    with pytest.raises(LuhuoError, match="Only decoders"):
        produce("reward", stage, tmp_path / "reward")


def test_a_policy_samples_with_the_rounded_weights_that_are_trained(tmp_path: Path) -> None:
    save(small_model(), tmp_path / "model")
    rows = [{"messages": [{"role": "user", "content": f"say {n}"}], "answer": str(n)} for n in range(4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    reward = "def reward(item, text, info):\n    return text.count('a') / max(1, len(text))\n"
    (tmp_path / "reward.py").write_text(reward, encoding="utf-8")
    given = {name: str(tmp_path / name) for name in ("model",)} | {"prompts": str(tmp_path / "prompts.jsonl")}
    given |= {"rewards": [{"kind": "function", "file": str(tmp_path / "reward.py")}], "kl": 0.1}
    small = {"steps": 2, "prompts_per_round": 2, "samples": 2, "max_tokens": 6, "dtype": "fp32", "device": "cpu"}
    rounding = {"quantisation": {"bits": 2, "group": 8}, "threads": 1, "learning_rate": 1e-3}
    produce("grpo", configured("grpo", given | small | rounding), tmp_path / "out")
    told = [row for row in MetricsLog(tmp_path / "out" / "metrics.jsonl").read() if "loss" in row]
    assert all(row["sampler_gap"] < 1e-4 for row in told)
    assert told[0]["kl"] > 1e-3  # the reference is not rounded
    assert "quantization_config" in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("language", ["", ".zh"])
def test_every_setting_is_documented_and_no_other(language: str) -> None:
    text = (DOCS / f"compression-qat{language}.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [
        "bits", "group", "symmetric", "method", "search", "step_rate", "activations", "start_step"
    ]  # fmt: skip
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(Quantisation.model_fields)


def test_commands_of_the_document_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(run)
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(4)]
    Path("chat.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    blocks = [
        re.findall(r"```bash\n(.*?)```", (DOCS / f"compression-qat{z}.md").read_text(), re.DOTALL) for z in ("", ".zh")
    ]
    assert blocks[0] == blocks[1]
    for command in blocks[0][0].strip().splitlines():
        words = shlex.split(
            re.sub(r"steps=300|group: 64", lambda m: "steps=1" if "s" in m[0] else "group: 8", command)
        )
        assert words.pop(0) == "luhuo"
        words = [word.replace("{bits: 4}", "{bits: 4, group: 8}") for word in words]
        small = ["length=48", "batch=96", "threads=1", "device=cpu"]
        small += ["steps=1"] if words[0] == "sft" else ["eval_tokens=64"]
        result = CliRunner().invoke(app, [*words, *small], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert "quantization_config" in json.loads(Path("runs/assistant-int4/config.json").read_text())
