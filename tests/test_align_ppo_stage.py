"""The stage `ppo` on a tiny model: it learns and its control does not, it resumes exactly, processes change nothing,
the reference stays, adapters share one base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from luhuo.align.ppo_run import model_scores, open_run
from luhuo.align.ppo_stage import PpoStage
from luhuo.align.prompts import Prompt
from luhuo.align.reward_files import save_reward_model
from luhuo.align.reward_model import with_head
from luhuo.align.rollout import Sample
from luhuo.core.artifact import Done, Workspace, produce
from luhuo.core.digest import value_digest
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.trainer import Trainer
from tests.parallel_cases import together
from tests.small_chat import small_model, small_tokenizer, with_template

REWARD = """
def reward(item, text, info):
    return sum(ord(letter) % 2 == 0 for letter in text) / max(1, len(text))
"""
"""How many letters are even in Unicode: about half by chance, and any policy can learn it."""

CPU = {"device": "cpu", "dtype": "fp32", "threads": 1}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a model, eight prompts and a rule."""
    save(small_model(opinionated=False), tmp_path / "model")
    rows = [{"messages": [{"role": "user", "content": f"hello {n}"}], "id": n} for n in range(8)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "rule.py").write_text(REWARD, encoding="utf-8")
    return tmp_path


def stage_of(base: Path, **changes: Any) -> PpoStage:
    settings: dict[str, Any] = {
        "model": str(base / "model"),
        "prompts": str(base / "prompts.jsonl"),
        "rewards": [{"kind": "function", "file": str(base / "rule.py")}],
        "prompts_per_round": 8,
        "minibatches": 2,
        "epochs": 2,
        "max_tokens": 6,
        "steps": 6,
        "learning_rate": 1e-3,
        "missing_eos_penalty": 0.0,
    }
    return PpoStage.parse(settings | CPU | changes)


def metrics_of(done: Done) -> list[dict[str, Any]]:
    return MetricsLog(done.path / "metrics.jsonl").read()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def reward_model(base: Path, seed: int = 3) -> Path:
    """A reward model over the starting model, with a head of large scores."""
    model = with_head(small_model(opinionated=False), seed)
    model.normalise(0.0, 0.1)
    save_reward_model(model, base / "reward")
    return base / "reward"


def test_a_round_begins_with_a_ratio_of_exactly_one_and_tells_what_a_reader_needs(base: Path):
    done = produce("ppo", stage_of(base, steps=8, valid=str(base / "prompts.jsonl"), eval_every=4), base / "out")
    rows = [row for row in metrics_of(done) if "loss" in row]
    first = [row for row in rows if "kl" in row]
    assert [row["step"] for row in first] == [1, 5]
    assert all(row["ratio"] == pytest.approx(1.0, abs=1e-6) and row["ratio_variance"] < 1e-10 for row in first)
    assert first[0]["kl"] == pytest.approx(0.0, abs=1e-4) and first[1]["kl"] != 0
    assert max(row["ratio_variance"] for row in rows) > 1e-7
    assert all(row["sampler_gap"] < 1e-4 for row in first)
    told = {"reward", "kl", "kl_coefficient", "objective", "explained_variance", "eos", "length", "truncated"}
    assert told <= first[0].keys() and "zero_variance" not in first[0]
    assert {"entropy", "approx_kl", "clip_share", "ratio", "value_loss", "policy_loss"} <= rows[3].keys()
    assert {"time.generate", "time.score", "time.log_probs", "time.update"} <= first[0].keys()
    assert "valid.reward" in done.manifest["metrics"]
    assert small_tokenizer().fingerprint and (done.path / "tokenizer.json").is_file()


@pytest.mark.parametrize("extra", [{"kl_target": 0.01, "kl_horizon": 40.0, "normalise_scores": True}])
def test_an_interrupted_run_continues_within_a_round_to_the_very_same_weights(
    base: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]
):
    stage = stage_of(base, steps=10, checkpoint_every=1, checkpoint_every_s=0, **extra)
    whole = produce("ppo", stage, base / "whole")
    step = Trainer._step

    def interrupted(self: Trainer, *args: Any) -> dict[str, float] | None:
        metrics = step(self, *args)
        self.stop.asked = self.step == 6
        return metrics

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(Interrupted):
        produce("ppo", stage, base / "cut")
    monkeypatch.undo()
    cut = produce("ppo", stage, base / "cut")
    assert equal(weights(whole.path), weights(cut.path))
    ours, theirs = ([row for row in metrics_of(done) if "kl" in row] for done in (whole, cut))
    names = ("reward", "kl", "kl_coefficient", "objective", "explained_variance")
    assert [[row[name] for name in names] for row in ours] == [[row[name] for name in names] for row in theirs]
    assert ours[2]["kl_coefficient"] != ours[0]["kl_coefficient"]
    assert not list(cut.path.glob(".checkpoint*"))


def test_the_reference_is_what_the_model_was_and_stays_it(base: Path, tmp_path: Path):
    model, loader, _ = open_run(stage_of(base), tmp_path / "rounds", torch.device("cpu"))
    with loader.value.reference() as reference:
        before = digest(reference)
    assert before == digest(small_model(opinionated=False))
    out = Workspace(tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))
    config = stage_of(base, steps=4).trainer_config(prefetch=0)
    Trainer(model, stage_of(base).objective(), loader, config, out).run()
    with loader.value.reference() as reference:
        assert digest(reference) == before != digest(model.policy)


def digest(model: Decoder) -> str:
    return value_digest({name: p.detach().flatten().tolist() for name, p in model.named_parameters()})


def test_with_adapters_four_roles_share_one_frozen_base(base: Path, tmp_path: Path):
    reward_model(base)
    stage = stage_of(base, reward_model=str(base / "reward"), adapter={"method": "lora", "rank": 4}, steps=4)
    model, _, _ = open_run(stage, tmp_path, torch.device("cpu"))
    assert model.critic.embedding is model.policy.embedding
    assert model.critic.blocks[0].mlp.down.weight is model.policy.blocks[0].mlp.down.weight
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen == sum(p.numel() for p in small_model().parameters())
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"policy", "critic"} and model.critic.score.weight.requires_grad
    done = produce("ppo", stage, base / "out")
    assert (done.path / "adapter_model.safetensors").is_file() and not (done.path / "model.safetensors").exists()
    first = next(row for row in metrics_of(done) if "kl" in row)
    assert first["ratio"] == pytest.approx(1.0, abs=1e-6) and first["kl"] == pytest.approx(0.0, abs=1e-4)
    moved = load_file(done.path / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in moved.items() if "lora_B" in name)


def test_the_critic_begins_as_the_reward_model_and_learns_at_a_rate_of_its_own(base: Path, tmp_path: Path):
    reward_model(base)
    stage = stage_of(base, reward_model=str(base / "reward"), critic_rate=5.0, epsilon=1e-5)
    model, loader, _ = open_run(stage, tmp_path, torch.device("cpu"))
    assert torch.equal(model.critic.score.weight.detach(), weights(base / "reward")["score.weight"])
    out = Workspace(tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))
    trainer = Trainer(model, stage.objective(), loader, stage.trainer_config(prefetch=0), out)
    rates = {group.name: group.rate for group in trainer.state.optimiser.groups}
    assert rates["critic.matrices"] == pytest.approx(5e-3) and rates["matrices"] == pytest.approx(1e-3)
    assert all(rule.inner.defaults["eps"] == 1e-5 for rule in trainer.state.optimiser.rules)  # type: ignore[attr-defined]


def test_a_reward_model_scores_the_tokens_that_were_sampled(base: Path):
    model = with_head(small_model(), 0)
    texts = [list(range(30, 30 + n)) for n in (5, 9, 3)]
    samples = [Sample(Prompt({}, (), ()), ids, [1] * len(ids), [0.0] * len(ids), []) for ids in texts]
    found = model_scores(model, samples, small_tokenizer().pad_id)
    alone = [model.scores({"ids": torch.tensor([ids])}).item() for ids in texts]
    assert found == pytest.approx(alone, abs=1e-5)


def test_a_reward_model_of_another_tokenizer_is_refused(base: Path, tmp_path: Path):
    model = with_head(small_model(), 0)
    model.tokenizer = with_template("{{ messages[0].content }}")
    save_reward_model(model, base / "reward")
    with pytest.raises(LuhuoError, match="different tokenizers"):
        open_run(stage_of(base, reward_model=str(base / "reward")), tmp_path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rewards": []}, "reward_model, rewards or both"),
        ({"parallel": {"fsdp": 2}}, "parallel.fsdp"),
        ({"batch_warmup": 0.1}, "batch_warmup"),
        ({"clip_ratio": 1.5}, "clip_ratio"),
    ],
)
def test_settings_that_cannot_work_are_refused(base: Path, changes: dict[str, Any], told: str):
    with pytest.raises(LuhuoError) as caught:
        stage_of(base, **changes)
    assert told in str(caught.value)


def test_text_rows_stand_beside_the_samples_and_their_place_is_kept(base: Path, tmp_path: Path):
    shards = text_shards(base)
    stage = stage_of(base, pretraining=str(shards), pretraining_length=16)
    _, loader, _ = open_run(stage, tmp_path / "a", torch.device("cpu"))
    batches = iter(loader)
    seen = [next(batches) for _ in range(2)]
    assert all(len(batch["text_ids"]) == len(batch["ids"]) for batch in seen)
    place = json.loads(json.dumps(loader.state()))
    expected = next(batches)
    _, other, _ = open_run(stage, tmp_path / "a", torch.device("cpu"))
    other.restore(place)
    found = next(iter(other))
    assert all((found[name] == expected[name]).all() for name in expected)
    done = produce("ppo", stage.model_copy(update={"steps": 2}), base / "out")
    assert all(row["text_loss"] > 0 for row in metrics_of(done) if "policy_loss" in row)


def test_text_of_another_tokenizer_is_refused(base: Path, tmp_path: Path):
    shards = text_shards(base, with_template("{{ messages[0].content }}"))
    with pytest.raises(LuhuoError):
        open_run(stage_of(base, pretraining=str(shards)), tmp_path, torch.device("cpu"))


def text_shards(base: Path, tokenizer: Tokenizer | None = None) -> Path:
    """Shards of a few sentences in the model's tokenizer."""
    from luhuo.corpus.shards import ShardWriter

    writer = ShardWriter(base / "shards" / "train", tokenizer or small_tokenizer(), 1_000_000)
    for number in range(20):
        ids = small_tokenizer().encode("hello world, how are you today")
        writer.add({"id": str(number), "source": "x", "lang": "en", "text": "hello"}, ids)
    writer.close()
    return base / "shards"


def _process(rank: int, base: Path, out: Path) -> None:
    stage = stage_of(base, steps=4, kl_target=0.01, kl_horizon=40.0)
    out.mkdir(exist_ok=True)
    model, loader, _ = open_run(stage, out / ".checkpoint", torch.device("cpu"))
    work = Workspace(out, MetricsLog(out / "metrics.jsonl"))
    Trainer(model, stage.objective(), loader, stage.trainer_config(prefetch=0), work).run()  # type: ignore[arg-type]
    if rank == 0:
        save_file({name: p.detach().clone() for name, p in model.named_parameters()}, out / "result.safetensors")


def test_two_processes_reach_what_one_reaches(base: Path, tmp_path: Path):
    _process(0, base, tmp_path / "one")
    together(2, _process, base, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "result.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 2e-5
    ours, theirs = (MetricsLog(tmp_path / name / "metrics.jsonl").read() for name in ("one", "two"))
    for row, other in zip(ours, theirs, strict=True):
        for name in ("loss", "value_loss", "grad_norm", "kl", "objective", "explained_variance", "kl_coefficient"):
            if name in row:
                assert other[name] == pytest.approx(row[name], rel=1e-3, abs=1e-6), (row["step"], name)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_the_reward_rises_and_with_shuffled_rewards_it_does_not(base: Path, seed: int):
    gain = {}
    for shuffle in (False, True):
        changes = {"steps": 48, "prompts_per_round": 32, "minibatches": 1, "learning_rate": 1e-2, "kl": 0.0}
        stage = stage_of(base, **changes, seed=seed, shuffle_rewards=shuffle)
        done = produce("ppo", stage, base / f"out{shuffle}")
        rewards = [row["reward"] for row in metrics_of(done) if "reward" in row]
        gain[shuffle] = sum(rewards[-5:]) / 5 - sum(rewards[:3]) / 3
    assert gain[False] > 0.2 and gain[True] < 0.1
