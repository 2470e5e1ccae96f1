"""Layers that share weights: one set of parameters through training, checkpoint and save; an ordinary directory."""

from __future__ import annotations

import json
import signal
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luhuo.adapter.attach import attach, merge
from luhuo.adapter.config import AdapterConfig
from luhuo.compress.layer_sharing import cycle, distances, neighbours, share, similar
from luhuo.compress.layer_sharing_stage import ShareLayersStage
from luhuo.compress.walk import Walk
from luhuo.core.artifact import Workspace, produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.count import flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.model.quantised import QuantisedLinear, quantise_model
from luhuo.model.save import save
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer
from tests.small_chat import small_model
from tests.test_model_decoder import CONFIG
from tests.test_train_trainer import SMALL, SmallLoader

IDS = torch.arange(20, 60)[None]


def mlp(model: Decoder, layer: int) -> Any:
    """The feed-forward part of a layer."""
    return model.blocks[layer].mlp


def shared(groups: list[list[int]], layers: int = 4, start: str = "mean") -> tuple[Decoder, Decoder]:
    """A small model of so many layers, and the same with groups of shared layers."""
    model = small_model(layers=layers)
    other = deepcopy(model)
    share(other, groups, start)
    return model, other


def test_patterns_say_which_layers_share():
    layers = list(range(6))
    assert neighbours(layers, 3) == [[0, 1], [2, 3], [4, 5]]
    assert neighbours(layers, 4) == [[0, 1], [2], [3], [4, 5]]
    assert cycle(layers, 2) == [[0, 2, 4], [1, 3, 5]]
    near = torch.ones(4, 4)
    near[1, 2] = near[2, 1] = 0.1
    assert similar([0, 1, 2, 3], 3, near) == [[0], [1, 2], [3]]


def test_the_nearest_layers_are_found_by_their_weights():
    model = small_model(layers=4)
    with torch.no_grad():
        for one, other in zip(model.blocks[2].parameters(), model.blocks[1].parameters(), strict=True):
            one.copy_(other + 0.01 * torch.randn_like(other))
    found = distances(model)
    assert found[1, 2] < 0.01 and found[0, 3] > 0.5 and torch.equal(found, found.T)
    assert similar([0, 1, 2, 3], 3, found) == [[0], [1, 2], [3]]


def test_shared_weights_begin_as_the_mean_or_as_the_first():
    model, other = shared([[0, 2], [1, 3]])
    for name, parameter in other.blocks[2].named_parameters():
        parts = [dict(model.blocks[layer].named_parameters())[name] for layer in (0, 2)]
        assert parameter is dict(other.blocks[0].named_parameters())[name]
        torch.testing.assert_close(parameter, (parts[0] + parts[1]) / 2)
    model, other = shared([[0, 1], [2, 3]], start="first")
    for name, parameter in other.blocks[3].named_parameters():
        assert torch.equal(parameter, dict(model.blocks[2].named_parameters())[name])


def test_parameters_are_counted_once_and_operations_for_every_layer():
    model, other = shared([[0, 1], [2, 3]])
    count = sum(p.numel() for p in other.parameters())
    assert sum(parameters(other.config).values()) == count < sum(parameters(model.config).values())
    assert flops_per_token(other.config, 32) == flops_per_token(model.config, 32)


def test_the_directory_is_ordinary_and_comes_back_tied(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    _, other = shared([[0, 1], [2, 3]])
    save(other, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert torch.equal(tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.layers.1.mlp.up_proj.weight"])
    opened = load_decoder(tmp_path, dtype="fp32", device="cpu")
    assert opened.config.shared_layers == (0, 0, 2, 2)
    assert mlp(opened, 1).down.weight is mlp(opened, 0).down.weight
    assert sum(p.numel() for p in opened.parameters()) == sum(p.numel() for p in other.parameters())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(opened(IDS), other(IDS))
        torch.testing.assert_close(theirs(IDS).logits, opened(IDS), atol=1e-4, rtol=1e-4)


def recovery(folder: Path, loader: SmallLoader | None = None) -> Decoder:
    """A short training of a model whose two layers share their weights."""
    folder.mkdir(exist_ok=True, parents=True)
    model = initialise(Decoder(CONFIG), 0)
    share(model, [[0, 1]], "mean")
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    Trainer(model, CausalLM(), loader or SmallLoader(), TrainerConfig(**SMALL), out).run()
    return model


def test_training_keeps_layers_tied_through_checkpoint_and_resume(tmp_path: Path):
    whole = recovery(tmp_path / "whole")
    with pytest.raises(Interrupted):
        recovery(tmp_path / "cut", SmallLoader(signals={4: signal.SIGTERM}))
    resumed = recovery(tmp_path / "cut")
    before = initialise(Decoder(CONFIG), 0)
    share(before, [[0, 1]], "mean")
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, dict(resumed.named_parameters())[name])
    assert mlp(resumed, 1).down.weight is mlp(resumed, 0).down.weight
    assert not torch.equal(mlp(resumed, 0).down.weight, mlp(before, 0).down.weight)


def test_the_gradient_of_a_shared_weight_is_the_sum_of_its_layers():
    model, other = shared([[0, 1]], layers=2, start="first")
    with torch.no_grad():
        for one, first in zip(model.blocks[1].parameters(), model.blocks[0].parameters(), strict=True):
            one.copy_(first)
    for one in (model, other):
        one(IDS).logsumexp(-1).sum().backward()
    both = [mlp(model, layer).down.weight.grad for layer in range(2)]
    torch.testing.assert_close(mlp(other, 0).down.weight.grad, both[0] + both[1], rtol=1e-4, atol=1e-4)


def test_shared_layers_can_be_kept_in_few_bits():
    _, other = shared([[0, 1], [2, 3]])
    quantise_model(other, "int8")
    assert all(isinstance(mlp(other, layer).down, QuantisedLinear) for layer in range(4))


def test_adapters_stay_beside_shared_weights():
    _, other = shared([[0, 1], [2, 3]])
    adapter = attach(other, AdapterConfig(rank=2))
    assert not adapter.mergeable
    with pytest.raises(LuhuoError, match="share weights"):
        merge(other)


def test_what_another_method_makes_of_a_layer_is_that_layers_own(tmp_path: Path):
    _, other = shared([[0, 1], [2, 3]])
    save(other, tmp_path / "model")
    with Walk(tmp_path / "model", None, tmp_path / "scratch") as walk:
        assert walk.config.shared_layers == ()


def test_the_stage_writes_groups_and_counts(tmp_path: Path):
    save(small_model(layers=6), tmp_path / "model")
    values = {"model": str(tmp_path / "model"), "weights": 4, "pattern": "neighbours", "ends": True}
    done = produce("share-layers", ShareLayersStage.parse(values), tmp_path / "out")
    groups = json.loads((done.path / "sharing.json").read_text(encoding="utf-8"))["groups"]
    assert groups == [[0], [1, 2], [3, 4], [5]]
    assert load_decoder(done.path, dtype="fp32", device="cpu").config.shared_layers == (0, 1, 1, 3, 3, 5)
    figures = done.manifest["metrics"]
    assert figures["parameters"] < figures["parameters_before"]
    with pytest.raises(LuhuoError, match="not possible"):
        produce("share-layers", ShareLayersStage.parse(values | {"weights": 6}), tmp_path / "more")


def test_layers_of_different_kinds_do_not_share():
    model = small_model(layers=2)
    mlp(model, 1).down.weight = torch.nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(LuhuoError, match="different kinds"):
        share(model, [[0, 1]], "mean")
    assert torch.isinf(distances(model)[0, 1])
    with pytest.raises(LuhuoError, match="weights of its own"):
        type(CONFIG).parse(CONFIG.model_dump() | {"shared_layers": [1] * CONFIG.layers})
