"""Parameters are counted from the config alone, and the count is the module's for every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from luhuo.model.config import ModelConfig
from luhuo.model.count import active_parameters, flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.families import read_config
from luhuo.model.initialise import initialise
from luhuo.train.optimisers.groups import sort_parameters
from tests.family_cases import CASES
from tests.family_checks import publish, reference


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decoder]:
    """An empty decoder of each case."""
    folder, found = tmp_path_factory.mktemp("cases"), {}
    for name, case in CASES.items():
        publish(case, reference(case), folder / name)
        values = json.loads(Path(folder, name, "config.json").read_text(encoding="utf-8"))
        config = read_config(values)
        if isinstance(config, ModelConfig):
            with torch.device("meta"):
                found[name] = Decoder(config)
    return found


def test_the_parts_add_up_to_the_module_s_parameters_for_every_family(models: dict[str, Decoder]) -> None:
    wrong = {
        name: (sum(parameters(model.config).values()), sum(p.numel() for p in model.parameters()))
        for name, model in models.items()
        if sum(parameters(model.config).values()) != sum(p.numel() for p in model.parameters())
    }
    assert len(models) > 80
    assert not wrong


def test_only_experts_and_predictions_are_ever_idle(models: dict[str, Decoder]) -> None:
    for name, model in models.items():
        parts = parameters(model.config)
        idle = sum(parts.values()) - active_parameters(model.config)
        assert (idle > 0) == (model.config.moe is not None or model.config.mtp_layers > 0), name
        assert idle < parts.get("experts", 0) + parts.get("mtp", 0) + 1, name


def test_every_parameter_of_every_family_is_initialised_and_has_an_optimiser(models: dict[str, Decoder]) -> None:
    for name, model in models.items():
        fresh = Decoder(model.config)
        for parameter in fresh.parameters():
            parameter.data.fill_(torch.nan)
        initialise(fresh, 0)
        assert not any(p.isnan().any() for p in fresh.parameters()), name
        groups = sort_parameters(fresh)
        trained = {key for key, p in fresh.named_parameters() if p.requires_grad}
        assert {key for members in groups.values() for key in members} == trained, name
        strange = {
            key for key in groups["matrices"] if key.endswith(("bias", "sinks")) or "norm" in key or "router" in key
        }
        assert not strange, name


def test_multi_token_prediction_costs_a_layer_a_merge_and_the_output_layer_again() -> None:
    config = ModelConfig(
        family="deepseek_v3", vocab_size=100, hidden_size=32, layers=2, heads=2, kv_heads=2, head_dim=16,
        intermediate_size=64, qk_norm="none",
    )  # fmt: skip
    deeper = config.model_copy(update={"layers": 3})
    predicting = config.model_copy(update={"mtp_layers": 1})
    more = flops_per_token(predicting, 10) - flops_per_token(deeper, 10)
    assert more == 6 * (2 * 32 * 32 + 100 * 32)
