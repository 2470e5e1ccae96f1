"""Training adapters: exact resume, small checkpoints, the right optimiser, the right reference, and a whole stage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from luhuo.adapter.attach import attach, attached
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import load, save
from luhuo.adapter.open import open_decoder
from luhuo.align.policy import PolicyConfig, keep_policy, open_policy, reference
from luhuo.align.stages import SftStage
from luhuo.core.artifact import Workspace, produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save as save_model
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers.groups import group
from luhuo.train.trainer import Trainer
from tests.small_chat import small_model
from tests.test_adapter_methods import METHODS, logits

IN_PLACE: dict[str, dict[str, Any]] = {
    "child-f": {"method": "child-f"},
    "child-d": {"method": "child-d", "fisher_batches": 2},
    "full": {"method": "full", "freeze": ["embedding", r"blocks\.0"]},
}
FISH: dict[str, dict[str, Any]] = {"fishmask": {"method": "fishmask", "share": 0.02, "fisher_batches": 2}}
ALL = METHODS | IN_PLACE | FISH


class Rows:
    """Batches of random tokens by number."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            random = np.random.default_rng(self.place)
            self.place += 1
            yield {"ids": random.integers(20, 60, (4, 17))}

    def state(self) -> dict[str, Any]:
        return {"place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


def trainer(model: Decoder, folder: Path, **changes: Any) -> Trainer:
    settings = {"steps": 6, "learning_rate": 0.002, "dtype": "fp32", "checkpoint_every": 1, "checkpoint_every_s": 0}
    settings |= {"background": False, "optimiser": "muon", "schedule": "constant", "warmup": 0.0}
    folder.mkdir(parents=True, exist_ok=True)
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    return Trainer(model, CausalLM(), Rows(), TrainerConfig(**settings | changes), out)


def adapted(values: dict[str, Any]) -> Decoder:
    model = small_model(opinionated=False)
    attach(model, AdapterConfig.parse(values), 1)
    return model


def trained(model: Decoder) -> dict[str, Tensor]:
    adapter = attached(model)
    assert adapter is not None
    return {name: p.detach().clone() for name, p in adapter.trained().items()}


@pytest.mark.parametrize("name", ALL)
def test_training_moves_what_is_adapted_only_and_goes_on_exactly_where_it_was_cut(name: str, tmp_path: Path):
    base = dict(small_model(opinionated=False).named_parameters())
    whole = adapted(ALL[name])
    trainer(whole, tmp_path / "whole").run()
    mine = trained(whole)
    for key, p in whole.named_parameters():
        if key in base and key not in mine:
            assert torch.equal(p, base[key]), key
    cut = adapted(ALL[name])
    runner = trainer(cut, tmp_path / "cut")
    step = runner._step

    def interrupted(batch: Any) -> Any:
        metrics = step(batch)
        runner.stop.asked = runner.step == 3
        return metrics

    runner._step = interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        runner.run()
    again = adapted(ALL[name])
    trainer(again, tmp_path / "cut").run()
    found = trained(again)
    assert mine.keys() == found.keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in mine.items())
    assert any(not torch.equal(tensor, base[key]) for key, tensor in mine.items() if key in base) or not (
        mine.keys() & base.keys()
    )


@pytest.mark.parametrize("name", ["lora", "prompt", "ia3"])
def test_a_checkpoint_holds_what_is_trained_and_names_the_base(name: str, tmp_path: Path):
    save_model(small_model(opinionated=False), tmp_path / "base")
    model = load_decoder(tmp_path / "base", dtype="fp32", device="cpu")
    adapter = attach(model, AdapterConfig.parse(METHODS[name]), 1)
    adapter.base = str(tmp_path / "base")
    trainer(model, tmp_path / "run", steps=2).run()
    newest = sorted((tmp_path / "run" / ".checkpoint").glob("step-*"))[-1]
    index = json.loads((newest / "index.json").read_text())
    assert set(index["tensors"]["model"]) == set(adapter.trained())
    assert index["values"]["base"]["reference"] == str(tmp_path / "base")
    with torch.no_grad():
        other = small_model(opinionated=False)
        other.embedding += 0.01
    save_model(other, tmp_path / "base")
    changed = load_decoder(tmp_path / "base", dtype="fp32", device="cpu")
    attach(changed, AdapterConfig.parse(METHODS[name]), 1).base = str(tmp_path / "base")
    with pytest.raises(LuhuoError, match="another model"):
        trainer(changed, tmp_path / "run", steps=4).run()


@pytest.mark.parametrize("optimiser", ["muon", "adamw", "lion", "adafactor", "adamw8"])
def test_muon_never_moves_an_adapter(optimiser: str):
    config = TrainerConfig(steps=1, learning_rate=1e-3, optimiser=optimiser)  # type: ignore[arg-type]
    for name, values in ALL.items():
        groups = group(adapted(values), config)
        placed = [key for each in groups for key in each.parameters]
        model = adapted(values)
        assert sorted(placed) == sorted(key for key, p in model.named_parameters() if p.requires_grad)
        if name != "full":
            assert all(each.rule != "muon" for each in groups)


def test_rates_are_relative_to_those_of_full_fine_tuning():
    config = TrainerConfig(steps=1, learning_rate=1e-3, optimiser="adamw")
    rates = {each.name: each.rate for each in group(adapted({"method": "lora", "lora_plus": 16.0}), config)}
    assert rates == pytest.approx({"adapter": 1e-2, "adapter_out": 0.16})
    rates = {each.name: each.rate for each in group(adapted({"method": "lora", "rate": 2.0}), config)}
    assert rates == pytest.approx({"adapter": 2e-3})


def test_micro_batches_do_not_change_what_an_adapter_learns(tmp_path: Path):
    for name in ("adalora", "dylora", "child-d"):
        found = []
        for rows in (0, 1):
            model = adapted(ALL[name])
            trainer(model, tmp_path / f"{name}-{rows}", micro_batch=rows, steps=3, checkpoint_every=0).run()
            found.append(trained(model))
        for other in found[1:]:
            assert all(torch.allclose(tensor, other[key], atol=1e-4) for key, tensor in found[0].items()), name


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(small_model(opinionated=False), tmp_path / "base")
    return tmp_path / "base"


def policy(base: Path, adapter: dict[str, Any] | None) -> Decoder:
    return open_policy(PolicyConfig.parse({"model": str(base), "steps": 3, "adapter": adapter}), seed=1)


def shaken(model: Decoder) -> None:
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += torch.randn(p.shape, generator=torch.Generator().manual_seed(9)) * 0.05


@pytest.mark.parametrize(
    "name", ["lora", "dora", "prefix", "fishmask", "child-f", "full", "bitfit", "lora with norms"]
)
def test_the_reference_of_a_fresh_adapter_is_the_model_before_training(name: str, base: Path):
    model = policy(base, ALL[name])
    adapter = attached(model)
    assert adapter is not None
    adapter.begin(3, lambda count: gradients(model, count))
    before = logits(load_decoder(base, dtype="fp32", device="cpu"))
    shaken(model)
    now = logits(model)
    with reference(model):
        if name == "fishmask":  # what does not move in training was shaken here too
            masks = adapter.masks  # type: ignore[attr-defined]
            kept = adapter.kept  # type: ignore[attr-defined]
            assert all(torch.equal(p[masks[key]], kept[key][masks[key]]) for key, p in adapter.extra.items())
        else:
            assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), now)


def gradients(model: Decoder, count: int) -> Iterator[None]:
    for _ in range(count):
        model(torch.arange(20, 40)[None]).square().mean().backward()
        yield
        model.zero_grad()


@pytest.mark.parametrize("name", ["lora", "dora", "vera", "prompt"])
def test_the_reference_of_a_trained_adapter_is_that_adapter_as_it_was(name: str, base: Path, tmp_path: Path):
    model = policy(base, METHODS[name])
    shaken(model)
    keep_policy(model, tmp_path / "first")
    before = logits(model)
    again = policy(base, {"path": str(tmp_path / "first")})
    assert torch.allclose(logits(again), before, atol=1e-5)
    shaken(again)
    assert not torch.allclose(logits(again), before, atol=1e-3)
    with reference(again):
        assert torch.allclose(logits(again), before, atol=1e-5)


def test_an_adapter_of_other_weights_is_refused(base: Path, tmp_path: Path):
    keep_policy(policy(base, METHODS["lora"]), tmp_path / "adapter")
    other = small_model()
    save_model(other, tmp_path / "other")
    model = load_decoder(tmp_path / "other", dtype="fp32", device="cpu")
    with pytest.raises(LuhuoError, match="another model"):
        load(model, tmp_path / "adapter", base=str(tmp_path / "other"))


PAIRS = [("hello", "world, hello"), ("你好", "你好，世界。"), ("how are you", "很好"), ("苹果", "the answer is 42")]


def answers(model: Decoder) -> list[str]:
    questions = [[{"role": "user", "content": question}] for question, _ in PAIRS]
    return [out.text for out in Engine(model).chat(questions, Sampling(temperature=0, max_tokens=24))]


@pytest.mark.parametrize("number", ["fp32", "int4"])
def test_a_stage_trains_an_adapter_that_chats_attached_and_merged(number: str, tmp_path: Path):
    from luhuo.merge import merge

    save_model(small_model(), tmp_path / "base")
    data = tmp_path / "x.jsonl"
    rows = [{"prompt": question, "completion": answer} for question, answer in PAIRS]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    adapter = {"method": "lora", "rank": 16, "base": number}
    settings = {
        "threads": 1,
        "steps": 40,
        "batch": 128,
        "log_every": 40,
        "length": 128,
        "learning_rate": 0.002,
        "dtype": "fp32",
        "device": "cpu",
    }
    stage = SftStage.parse({"model": str(tmp_path / "base"), "data": str(data), "adapter": adapter} | settings)
    done = produce("sft", stage, tmp_path / "tuned")
    names = {file.name for file in done.path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    wanted = [answer for _, answer in PAIRS]
    opened = open_decoder(done.path, dtype="fp32" if number == "fp32" else number, device="cpu")
    assert (attached(opened) is None) == (number == "fp32")
    assert answers(opened) == wanted
    if number == "fp32":
        merge([str(done.path)], tmp_path / "merged")
        assert answers(load_decoder(tmp_path / "merged", dtype="fp32", device="cpu")) == wanted


def test_what_was_trained_on_few_bits_is_merged_into_what_they_stand_for(base: Path, tmp_path: Path):
    from luhuo.merge import merge

    model = policy(base, METHODS["lora"] | {"base": "int4"})
    shaken(model)
    keep_policy(model, tmp_path / "adapter")
    opened = open_decoder(tmp_path / "adapter", device="cpu")
    assert attached(opened) is not None and not isinstance(opened.embedding, torch.nn.Parameter)
    merge([str(tmp_path / "adapter")], tmp_path / "merged")
    found = logits(load_decoder(tmp_path / "merged", dtype="fp32", device="cpu"))
    expected = logits(model.compute_in(torch.float32))
    plain = load_decoder(base, dtype="fp32", device="cpu")
    load(plain, tmp_path / "adapter", base=str(base))
    gap, other = ((each - expected).norm() for each in (found, logits(plain)))
    assert gap < 0.1 * other


def test_a_saved_config_is_read_as_the_config_it_was(tmp_path: Path):
    from luhuo.adapter.files import read_config

    for name in ("lora", "rslora", "dora", "vera", "ia3", "houlsby", "pfeiffer", "p-tuning-v2", "prompt", "adalora"):
        model = adapted(METHODS[name])
        save(model, tmp_path / name)
        found = read_config(tmp_path / name)
        again = small_model(opinionated=False)
        adapter = attach(again, found)
        assert found.method == METHODS[name]["method"]
        assert {key: p.shape for key, p in adapter.own().items()} == {
            key: p.shape
            for key, p in attached(model).own().items()  # type: ignore[union-attr]
        }
