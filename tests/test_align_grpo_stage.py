"""The stage `grpo` from its settings to a model directory."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from luhuo.align.grpo_stage import GrpoStage
from luhuo.core.artifact import produce
from luhuo.core.digest import file_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from luhuo.stages import configured
from tests.small_chat import small_model

REWARD = """
def reward(item, text, info):
    return sum(ord(letter) % 2 == 0 for letter in text) / max(1, len(text))


def environment(row, messages):
    turns = sum(message["role"] == "assistant" for message in messages)
    return {"role": "user", "content": f"again, {row['answer']}"} if turns < 2 else None
"""
SMALL: dict[str, Any] = {
    "steps": 2,
    "prompts_per_round": 2,
    "samples": 3,
    "max_tokens": 8,
    "learning_rate": 1e-3,
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Settings of a small run: a model, prompts, and a reward from a file."""
    (tmp_path / "model").mkdir()
    save(small_model(), tmp_path / "model")
    rows = [{"messages": [{"role": "user", "content": f"say {n}"}], "answer": str(n)} for n in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "reward.py").write_text(REWARD)
    rewards = [{"kind": "function", "file": str(tmp_path / "reward.py")}]
    return SMALL | {"model": str(tmp_path / "model"), "prompts": str(tmp_path / "prompts.jsonl"), "rewards": rewards}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Metrics of each step."""
    return [row for row in MetricsLog(folder / "metrics.jsonl").read() if "loss" in row]


def test_the_stage_writes_a_model_that_learned(given: dict[str, Any], tmp_path: Path) -> None:
    before = file_digest(tmp_path / "model" / "model.safetensors")
    valid = {"valid": given["prompts"], "eval_every": 1, "kl": 0.1, "epochs": 2}
    done = produce("grpo", GrpoStage.parse(given | valid), tmp_path / "out")
    policy, start = (load_decoder(tmp_path / name, dtype="fp32", device="cpu") for name in ("out", "model"))
    assert any(not torch.equal(a, b) for a, b in zip(policy.parameters(), start.parameters(), strict=True))
    assert file_digest(tmp_path / "model" / "model.safetensors") == before
    assert policy.tokenizer is not None and not (tmp_path / "out" / ".checkpoint").exists()
    assert {"reward", "valid.reward", "reward.reward", "steps"} <= set(done.manifest["metrics"])


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("method", ["grpo", "rloo", "gspo", "dr_grpo", "reinforce++", "reinforce++-baseline"])
def test_answers_of_equal_worth_move_nothing(
    given: dict[str, Any], tmp_path: Path, method: str, optimiser: str
) -> None:
    """Optimisers scale their steps: without care the rounding of a mean would be learned from, at full length."""
    (tmp_path / "reward.py").write_text("def reward(item, text, info):\n    return 0.7\n")
    changes = {"method": method, "optimiser": optimiser, "samples": 7, "weight_decay": 0.1}
    produce("grpo", GrpoStage.parse(given | changes), tmp_path / "out")
    policy, start = (load_decoder(tmp_path / name, dtype="fp32", device="cpu") for name in ("out", "model"))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), start.parameters(), strict=True))


def test_the_reference_stays_the_starting_model(given: dict[str, Any], tmp_path: Path) -> None:
    produce("grpo", GrpoStage.parse(given | {"kl": 0.1, "steps": 3, "learning_rate": 1e-2}), tmp_path / "out")
    told = [row["kl"] for row in lines(tmp_path / "out")]
    assert abs(told[0]) < 1e-5 < abs(told[-1])


def test_an_adapter_is_trained_against_its_base(given: dict[str, Any], tmp_path: Path) -> None:
    adapter = {"adapter": {"method": "lora", "rank": 2}, "kl": 0.1, "epochs": 2, "learning_rate": 1e-2}
    produce("grpo", GrpoStage.parse(given | adapter), tmp_path / "out")
    told = [row["kl"] for row in lines(tmp_path / "out")]
    assert abs(told[0]) < 1e-5 < abs(told[-1])
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_an_environment_answers_between_the_turns(given: dict[str, Any], tmp_path: Path) -> None:
    turns = {"environment": str(tmp_path / "reward.py"), "turns": 2, "max_tokens": 110, "steps": 1, "samples": 6}
    produce("grpo", GrpoStage.parse(given | turns), tmp_path / "several")
    alone = {"max_tokens": 110, "steps": 1, "samples": 6}
    produce("grpo", GrpoStage.parse(given | alone), tmp_path / "one")
    # The first turns are the same; some of them ended, and were answered.
    assert lines(tmp_path / "several")[0]["length"] > lines(tmp_path / "one")[0]["length"]


def test_shuffled_rewards_have_the_same_mean_and_another_gradient(given: dict[str, Any], tmp_path: Path) -> None:
    for name, shuffle in (("real", False), ("control", True)):
        produce("grpo", GrpoStage.parse(given | {"shuffle_rewards": shuffle, "steps": 1}), tmp_path / name)
    real, control = (lines(tmp_path / name)[0] for name in ("real", "control"))
    assert real["reward"] == pytest.approx(control["reward"]) and real["grad_norm"] != control["grad_norm"]


def test_long_answers_are_punished_softly(given: dict[str, Any], tmp_path: Path) -> None:
    produce("grpo", GrpoStage.parse(given | {"overlong": 6, "steps": 1}), tmp_path / "out")
    row = lines(tmp_path / "out")[0]
    assert row["reward.overlong"] < 0 and row["reward"] == pytest.approx(
        row["reward.reward"] + row["reward.overlong"], abs=1e-5
    )


def test_prompts_without_room_for_an_answer_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="leaves room"):
        produce("grpo", GrpoStage.parse(given | {"max_tokens": 250}), tmp_path / "out")


@pytest.mark.parametrize("page", ["docs/grpo.md", "docs/grpo.zh.md"])
def test_the_command_of_the_documentation_is_one(page: str) -> None:
    text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
    (command,) = re.findall(r"```bash\n(.*?)\n```", text, re.S)
    words = shlex.split(command)
    assert words[:2] == ["luhuo", "grpo"] and words[-2] == "--out"
    values = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in words[2:-2])}
    stage = configured("grpo", values)
    assert isinstance(stage, GrpoStage) and stage.learning_rate == 3e-4


@pytest.mark.parametrize("page", ["docs/grpo.md", "docs/grpo.zh.md"])
def test_the_environment_of_the_documentation_runs(page: str) -> None:
    text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)\n```", text, re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    asked = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "3"}]
    said = names["environment"]({"answer": "2"}, asked)
    assert said["role"] == "user"
    assert names["environment"]({"answer": "2"}, [*asked, said, {"role": "assistant", "content": "3"}]) is None
    assert names["environment"]({"answer": "3"}, asked) is None
