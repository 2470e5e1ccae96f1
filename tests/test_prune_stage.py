"""The stage `prune`: a model directory with zeros, or a smaller one, and training that brings it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import luhuo.compress.prune.run as run_module
from luhuo.compress.prune.stages import PruneStage
from luhuo.core.artifact import Done, produce
from luhuo.core.errors import LuhuoError
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.model.quantised import quantise_model
from luhuo.model.save import save
from luhuo.recipe.runner import run
from luhuo.recipe.schema import load_recipe
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.plan import machine
from luhuo.train.sparsity import cubic
from tests.objective_runs import TEXTS, material

RECIPE = Path(__file__).parents[1] / "recipes" / "compression-prune.yaml"
SMALL: dict[str, Any] = {"sequences": 6, "length": 32, "threads": 1}
SHAPE = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "intermediate_size": 48}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A random model, a tokenizer and shards."""
    root = tmp_path_factory.mktemp("prune")
    found = material(root)
    tokenizer = Tokenizer.load(found["tokenizer"])
    model = initialise(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **SHAPE)), 0).eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.15, generator=generator)
    model.tokenizer = tokenizer
    save(model, root / "model")
    return {**found, "model": str(root / "model")}


def pruned(given: dict[str, str], folder: Path, **values: Any) -> Done:
    data = {} if values.get("method") == "magnitude" else {"data": given["shards"]}
    return produce("prune", PruneStage.parse({"model": given["model"], **SMALL, **data, **values}), folder)


def matrices(folder: Path | str) -> dict[str, Tensor]:
    """The published matrices of the blocks."""
    tensors = load_file(Path(folder) / "model.safetensors")
    return {name: tensor for name, tensor in tensors.items() if ".layers." in name and tensor.dim() == 2}


def zeros(tensor: Tensor) -> float:
    return float((tensor == 0).float().mean())


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_half_of_each_matrix_becomes_zero_and_nothing_else_changes(
    method: str, given: dict[str, str], tmp_path: Path
) -> None:
    done = pruned(given, tmp_path / "out", method=method)
    before, after = load_file(Path(given["model"]) / "model.safetensors"), matrices(done.path)
    for name, tensor in after.items():
        assert zeros(tensor) == pytest.approx(0.5, abs=0.03), name
        if method != "sparsegpt":
            assert torch.equal(tensor[tensor != 0], before[name][tensor != 0])
    for name, tensor in load_file(done.path / "model.safetensors").items():
        assert name in after or torch.equal(tensor, before[name]), name
    report = json.loads((done.path / "report.json").read_text())
    assert [row["name"] for row in report][:2] == ["blocks.0.attention.qkv", "blocks.0.attention.out"]
    assert done.manifest["metrics"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert load_decoder(done.path, dtype="fp32")(torch.tensor([[5, 6, 7]])).isfinite().all()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_two_of_every_four_stay(method: str, given: dict[str, str], tmp_path: Path) -> None:
    done = pruned(given, tmp_path / "out", method=method, pattern="2:4")
    for tensor in matrices(done.path).values():
        assert bool(((tensor == 0).unflatten(1, (-1, 4)).sum(-1) == 2).all())


def test_magnitude_over_the_whole_model_has_one_border(given: dict[str, str], tmp_path: Path) -> None:
    done = pruned(given, tmp_path / "out", method="magnitude", scope="global", sparsity=0.4)
    before = matrices(given["model"])
    kept = [before[name][tensor != 0].abs() for name, tensor in matrices(done.path).items()]
    gone = [before[name][tensor == 0].abs() for name, tensor in matrices(done.path).items()]
    assert torch.cat(gone).max() < torch.cat(kept).min()
    assert done.manifest["metrics"]["sparsity"] == pytest.approx(0.4, abs=1e-3)


def test_owl_gives_blocks_their_own_share_and_the_whole_its(given: dict[str, str], tmp_path: Path) -> None:
    done = pruned(given, tmp_path / "out", sparsity=0.6, allocation="owl")
    shares = [zeros(t) for name, t in matrices(done.path).items() if name.endswith("down_proj.weight")]
    assert abs(shares[0] - shares[1]) > 0.02
    assert done.manifest["metrics"]["sparsity"] == pytest.approx(0.6, abs=0.02)


def test_sparsegpt_rounds_what_stays_in_the_same_pass(given: dict[str, str], tmp_path: Path) -> None:
    done = pruned(given, tmp_path / "out", method="sparsegpt", bits=4, group=16)
    config = json.loads((done.path / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    model = load_decoder(done.path, dtype="fp32")
    assert zeros(model.get_parameter("blocks.1.mlp.down.weight")) >= 0.5


def test_rounds_reach_their_share_along_the_cubic_curve(given: dict[str, str], tmp_path: Path) -> None:
    found, model = [], given["model"]
    for number in (1, 2, 3):
        done = pruned({**given, "model": model}, tmp_path / str(number), sparsity=0.7, round=number, rounds=3)
        found.append(done.manifest["metrics"]["sparsity"])
        model = str(done.path)
    assert found == pytest.approx([0.7 * cubic(n / 3) for n in (1, 2, 3)], abs=0.02)


def test_a_run_that_was_cut_off_goes_on_and_gives_the_same(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pruned(given, tmp_path / "whole", method="sparsegpt")
    real, seen = run_module.sparsegpt, []

    def failing(*arguments: Any, **values: Any) -> Any:
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real(*arguments, **values)

    monkeypatch.setattr(run_module, "sparsegpt", failing)
    with pytest.raises(KeyboardInterrupt):
        pruned(given, tmp_path / "cut", method="sparsegpt")
    seen.clear()
    again = pruned(given, tmp_path / "cut", method="sparsegpt")
    assert len(seen) == 4  # the first block is not pruned again
    assert (again.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("depth", ["influence", "contiguous", "loss"])
def test_layers_features_heads_and_channels_go_in_one_run(depth: str, given: dict[str, str], tmp_path: Path) -> None:
    sizes = {"layers": 1, "hidden_size": 24, "heads": 2, "intermediate_size": 20}
    done = pruned(given, tmp_path / "out", method="structured", depth=depth, **sizes)
    model = load_decoder(done.path, dtype="fp32")
    config = model.config
    assert {name: getattr(config, name) for name in sizes} == sizes
    assert config.kv_heads == 2
    report = json.loads((done.path / "report.json").read_text())
    assert [len(report[name]) for name in ("layers", "features")] == [1, 24]
    assert len(report["heads"][0]) == 2
    assert len(report["channels"][0]) == 20
    figures = done.manifest["metrics"]
    assert figures["parameters"] == sum(p.numel() for p in model.parameters()) < 0.5 * figures["parameters_before"]
    assert model.tokenizer is not None
    assert not list(done.path.glob(".*"))


def test_refitting_keeps_the_output_closer_to_the_whole_models(given: dict[str, str], tmp_path: Path) -> None:
    whole = load_decoder(given["model"], dtype="fp32")
    assert whole.tokenizer is not None
    ids = torch.tensor([whole.tokenizer.encode(text)[:20] for text in TEXTS[:40:3]])
    away, sizes = {}, {"heads": 2, "intermediate_size": 24, "sequences": 40}
    for refit in (True, False):
        done = pruned(given, tmp_path / str(refit), method="structured", refit=refit, **sizes)
        with torch.no_grad():
            away[refit] = float((load_decoder(done.path, dtype="fp32")(ids) - whole(ids)).square().mean())
    assert away[True] < 0.9 * away[False]


def test_the_recipe_prunes_three_ways_and_trains_what_is_left(given: dict[str, str], tmp_path: Path) -> None:
    """The shipped recipe at test size: zeros survive training, the smaller model learns from the whole one."""
    training = {"steps": 3, "tokens": None, "length": 32, "batch": 128, "dtype": "fp32", "threads": 1}
    changes: dict[str, Any] = {"smaller.heads": 2, "smaller.intermediate_size": 24}
    for name, values in load_recipe(RECIPE).stages.items():
        own = SMALL if values["stage"] == "prune" else {**training, "tokenizer": given["tokenizer"]}
        places = {
            "model": given["model"],
            "teacher": given["model"],
            "data": given["shards"],
            "shards": given["shards"],
        }
        moved = {key: places[key] for key in values if key in places and "${" not in values[key]}
        changes |= {f"{name}.{key}": value for key, value in (own | moved).items()}
    run(RECIPE, out=tmp_path, overrides=changes)
    assert load_decoder(tmp_path / "taught", dtype="fp32").config.intermediate_size == 24
    for before, after in (("two_of_four", "two_of_four_taught"), ("second_round", "second_trained")):
        for name, tensor in matrices(tmp_path / after).items():
            was = matrices(tmp_path / before)[name]
            assert torch.equal(tensor == 0, was == 0), name
            assert not torch.equal(tensor, was), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": 0.0}, "sparsity"),
        ({"pattern": "2to4"}, "N:M"),
        ({"pattern": "2:4", "sparsity": 0.5}, "pattern says itself"),
        ({"scope": "global"}, "scope is for"),
        ({"bits": 4}, "bits is for"),
        ({"round": 3, "rounds": 2}, "round 3 of 2"),
        ({"pattern": "2:4", "round": 1, "rounds": 2}, "rounds need"),
        ({"layers": 1}, "at least one size"),
        ({"method": "structured"}, "at least one size"),
        ({"data": None}, "needs calibration text"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LuhuoError) as raised:
        PruneStage.parse({"model": "m", "data": "d", **values})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pattern": "3:7"}, "do not divide the matrix"),
        ({"pattern": "4:4"}, "no pattern"),
        ({"length": 1_000_000}, "shorter than one sequence"),
        ({"method": "sparsegpt", "bits": 4, "group": 20}, "do not divide the width"),
        ({"method": "structured", "heads": 3, "kv_heads": 2}, "evenly"),
        ({"method": "structured", "layers": 9}, "smaller, not larger"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_model_is_refused_in_words(
    values: dict[str, Any], message: str, given: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(LuhuoError, match=message):
        pruned(given, tmp_path / "out", **values)


def test_a_quantised_model_is_refused(given: dict[str, str], tmp_path: Path) -> None:
    model = load_decoder(given["model"], dtype="fp32")
    quantise_model(model, "int8", 16)
    save(model, tmp_path / "int8")
    with pytest.raises(LuhuoError, match="quantised already"):
        pruned({**given, "model": str(tmp_path / "int8")}, tmp_path / "out")


@pytest.mark.parametrize(
    "values", [{"method": "sparsegpt"}, {"method": "structured", "layers": 1, "depth": "loss"}], ids=str
)
def test_too_little_memory_is_told_before_anything_is_done(
    values: dict[str, Any], given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 100_000)
    with pytest.raises(LuhuoError, match="not enough memory"):
        pruned(given, tmp_path / "out", **values)
