"""The stage `reward` from data to a measured model: adapters, resume, several processes, trl's loss, the report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from luhuo.align.reward_data import assemble, read_reward_data
from luhuo.align.reward_files import is_reward_model, load_reward_model
from luhuo.align.reward_measures import score
from luhuo.align.reward_model import RewardModel, with_head
from luhuo.align.reward_objective import PairwiseReward
from luhuo.align.reward_stage import RewardStage
from luhuo.cli import app
from luhuo.core.artifact import produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.model.save import save
from luhuo.report.write import write_report
from luhuo.train import trainer
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch
from luhuo.train.parallel import spread
from luhuo.train.parallel_config import Parallel
from luhuo.train.pieces import gathered, local
from luhuo.train.ranks import Ranks
from tests.parallel_cases import together
from tests.small_chat import small_model, small_tokenizer
from tests.test_align_reward_model import encoder

WORDS = [f"word {i}" for i in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and comparisons in which "good" is better than "bad", alone or last."""
    root = tmp_path_factory.mktemp("reward")
    save(small_model(opinionated=False), root / "model")
    for name, start in (("train", 0), ("test", 100)):
        rows = [
            {
                "prompt": f"{word} {start + i}",
                "chosen": f"{i} good" if i % 2 else "good",
                "rejected": "bad" if i % 3 else f"{i} bad",
                "defect": "odd" if i % 2 else "even",
                "lang": "en",
            }
            for i, word in enumerate(WORDS * 3)
        ]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def stage(folder: Path, **changes: Any) -> RewardStage:
    values = {
        "model": str(folder / "model"),
        "data": str(folder / "train.jsonl"),
        "test": str(folder / "test.jsonl"),
        "batch": 256,
        "length": 128,
        "steps": 12,
        "learning_rate": 0.01,
        "device": "cpu",
        "dtype": "fp32",
        "threads": 1,
        "prefetch": 0,
    }
    return RewardStage.parse(values | changes)


def scores(path: Path) -> torch.Tensor:
    model = load_reward_model(path, device="cpu")
    ids = torch.tensor([small_tokenizer().encode("hello world 苹果")])
    with torch.no_grad():
        return model.scores({"ids": ids})


def test_a_model_is_trained_measured_and_compared_with_judges_that_cannot_read(folder: Path, tmp_path: Path) -> None:
    done = produce("reward", stage(folder), tmp_path / "reward")
    told, found = json.loads((done.path / "reward.json").read_text()), done.manifest["metrics"]
    assert told["kind"] == "pairwise" and told["n"] == 24
    assert told["accuracy"] == found["test.accuracy"] > 0.9 and told["low"] <= told["accuracy"] <= told["high"]
    assert set(told["by"]["defect"]) == {"odd", "even"} and set(told["by"]["lang"]) == {"en"}
    assert found["test.baseline.words"] == 1.0, "one word says it all here"
    assert 0 <= told["calibration"]["ece"] <= 1 and sum(b["n"] for b in told["calibration"]["bins"]) == 24
    assert {"rows.read": 24, "rows.used": 24}.items() <= found.items()
    logged = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    held_out = next(line["valid.loss"] for line in reversed(logged) if "valid.loss" in line)
    assert told["loss"] == pytest.approx(held_out, abs=1e-3), "measured on the scale of training"
    assert is_reward_model(done.path) and not (done.path / ".checkpoint").exists()
    model = load_reward_model(done.path, device="cpu")
    data = read_reward_data([folder / "train.jsonl"], small_tokenizer(), 128, print)
    with torch.no_grad():
        better = [model.scores({"ids": torch.tensor([list(item.ids[0])])}).item() for item in data.items]
    assert torch.tensor(better).mean().item() == pytest.approx(0, abs=1e-3)
    assert torch.tensor(better).std(unbiased=False).item() == pytest.approx(1, abs=1e-3)


def test_the_report_shows_how_reliable_the_model_is(folder: Path, tmp_path: Path) -> None:
    produce("reward", stage(folder, steps=3), tmp_path / "reward")
    bins = [{"confidence": x, "accuracy": y, "n": 10} for x, y in ((0.55, 0.6), (0.75, 0.7), (0.95, 0.9))]
    told = json.loads((tmp_path / "reward/reward.json").read_text())
    (tmp_path / "reward/reward.json").write_text(json.dumps(told | {"calibration": {"ece": 0.05, "bins": bins}}))
    page = write_report(tmp_path, "a run").read_text(encoding="utf-8")
    assert "reward: reliability" in page and "calibrated" in page


@pytest.mark.parametrize("page", ["reward-model.md", "reward-model.zh.md"])
def test_the_command_of_the_document_works(
    page: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    command = shlex.split(text.split("```bash\n")[1].split("```")[0])
    quickstart = tmp_path / "runs/quickstart"
    (quickstart / "world").mkdir(parents=True)
    (quickstart / "assistant").symlink_to(folder / "model")
    (quickstart / "world/preference").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, [*command[1:], "steps=1", "length=128"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    model = load_reward_model("runs/reward")
    assert model.scores({"ids": torch.tensor([[5, 6, 7]])}).shape == (1, 1)


def test_a_run_that_was_cut_off_ends_as_if_nothing_had_happened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"steps": 6, "checkpoint_every": 3, "background": False}
    whole = produce("reward", stage(folder, **values), tmp_path / "whole")
    save_if_due = trainer.Trainer._save_if_due

    def stopped(self: trainer.Trainer, saved: float) -> float:
        found = save_if_due(self, saved)
        if self.step == 3:
            raise Interrupted("stopped")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_save_if_due", stopped)
        with pytest.raises(Interrupted):
            produce("reward", stage(folder, **values), tmp_path / "cut")
    resumed = produce("reward", stage(folder, **values), tmp_path / "cut")
    assert (resumed.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


def test_an_adapter_takes_its_head_along_and_peft_scores_the_same(folder: Path, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    done = produce("reward", stage(folder, adapter={"method": "lora", "rank": 4}), tmp_path / "lora")
    assert done.manifest["metrics"]["test.accuracy"] > 0.9
    values = json.loads((done.path / "adapter_config.json").read_text())
    assert values["task_type"] == "SEQ_CLS" and values["modules_to_save"] == ["score"]
    assert is_reward_model(done.path)
    config = transformers.AutoConfig.from_pretrained(folder / "model", num_labels=1)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "model", config=config)
    theirs = peft.PeftModel.from_pretrained(base, done.path).eval()
    ids = torch.tensor([small_tokenizer().encode("hello world 苹果")])
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits
    torch.testing.assert_close(logits + values["reward_offset"], scores(done.path), rtol=1e-4, atol=1e-5)


def test_an_encoders_adapter_takes_its_whole_head_along(folder: Path, tmp_path: Path) -> None:
    save(encoder(), tmp_path / "encoder")
    adapter = {"method": "lora", "rank": 2}
    values = {"model": str(tmp_path / "encoder"), "adapter": adapter, "steps": 2, "seed": 5}
    done = produce("reward", stage(folder, **values), tmp_path / "lora")
    told = [json.loads(line)["scores"] for line in (done.path / "scores.jsonl").read_text().splitlines()]
    model = load_reward_model(done.path, device="cpu")
    data = read_reward_data([folder / "test.jsonl"], small_tokenizer(), 128, print)
    again = score(model, data.items, pad_id=small_tokenizer().pad_id)
    assert torch.allclose(torch.tensor(told), torch.tensor(np.stack(again)).float(), atol=1e-3)


def test_a_frozen_base_does_not_move_under_an_adapter(folder: Path, tmp_path: Path) -> None:
    before = (folder / "model/model.safetensors").read_bytes()
    done = produce("reward", stage(folder, steps=2, adapter={"method": "lora", "rank": 2}), tmp_path / "lora")
    assert not (done.path / "model.safetensors").exists()
    assert (folder / "model/model.safetensors").read_bytes() == before


def test_wrong_input_is_said_before_anything_is_trained(folder: Path, tmp_path: Path) -> None:
    steps = tmp_path / "steps.jsonl"
    steps.write_text(json.dumps({"prompt": "q", "completions": ["a"], "labels": [True]}) + "\n")
    for changes, words in (
        ({"length": 1024}, "longer than the model"),
        ({"test": str(steps)}, "different kinds"),
        ({"data": [str(folder / "train.jsonl"), str(steps)]}, "different kinds"),
    ):
        with pytest.raises(LuhuoError, match=words):
            produce("reward", stage(folder, **changes), tmp_path / "wrong")


def test_loss_and_gradients_are_trls(folder: Path, tmp_path: Path) -> None:
    trl, transformers = pytest.importorskip("trl"), pytest.importorskip("transformers")
    from datasets import Dataset

    from luhuo.align.reward_files import save_reward_model
    from luhuo.model.weights import published_tensors

    model = with_head(small_model(), seed=0)
    assert isinstance(model, RewardModel)
    save_reward_model(model, tmp_path)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    data = read_reward_data([folder / "train.jsonl"], small_tokenizer(), 128, print)
    rows = [{"chosen_ids": list(i.ids[0]), "rejected_ids": list(i.ids[1]), "margin": 0.3} for i in data.items[:4]]
    options: dict[str, Any] = {"output_dir": str(tmp_path / "t"), "use_cpu": True, "report_to": "none", "bf16": False}
    options |= {"center_rewards_coefficient": 0.01, "per_device_train_batch_size": 4, "disable_dropout": True}
    peer = trl.RewardTrainer(
        model=theirs,
        args=trl.RewardConfig(**options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    loss = peer.compute_loss(theirs, peer.data_collator(rows))
    loss.backward()
    batch = {
        n: torch.from_numpy(a) for n, a in assemble([data.items[:2], data.items[2:4]], "pairwise", 128, 1).items()
    }
    batch["margin"] = torch.full_like(batch["margin"], 0.3)
    total, weight, _ = PairwiseReward(0.01).loss(model, batch)
    (total / weight).backward()
    assert (total / weight).item() == pytest.approx(loss.item(), abs=1e-5)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    head = gradients.pop("score.weight")
    found = dict(published_tensors(model.config, gradients)) | {"score.weight": head}
    wanted = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


def batch_of(folder: Path) -> Batch:
    data = read_reward_data([folder / "train.jsonl"], small_tokenizer(), 128, print)
    rows = [data.items[i : i + 2] for i in range(0, 8, 2)]
    return {name: torch.from_numpy(array) for name, array in assemble(rows, "pairwise", 128, 1).items()}


def gradients_of(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    made = Gradients(model, PairwiseReward(0.01), Ranks(), 0)
    made.compute(batch, 1)
    made.reduce(0.0)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def one_of_two(rank: int, folder: Path, fsdp: bool, out: Path) -> None:
    model = spread(with_head(small_model(), 0).train(), Parallel(fsdp=2 if fsdp else 1))
    batch = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in batch_of(folder).items()}
    found = gradients_of(model, batch)
    parameters = dict(model.named_parameters())
    whole = {name: gathered(local(gradient), parameters[name]).clone() for name, gradient in found.items()}
    if rank == 0:
        save_file(whole, out)


@pytest.mark.parametrize("fsdp", [False, True])
def test_two_processes_have_the_gradients_of_one(folder: Path, tmp_path: Path, fsdp: bool) -> None:
    expected = gradients_of(with_head(small_model(), 0).train(), batch_of(folder))
    together(2, one_of_two, folder, fsdp, tmp_path / "gradients")
    found = load_file(tmp_path / "gradients")
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
