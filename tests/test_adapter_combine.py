"""Several adapters become one, on whole updates: linear, TIES, DARE and the best of low rank; and the verb `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from luhuo.adapter.attach import attach, attached, merged
from luhuo.adapter.combine import combine
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import load, save
from luhuo.adapter.open import open_decoder
from luhuo.core.errors import LuhuoError
from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save as save_model
from tests.small_chat import small_model
from tests.test_adapter_methods import logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(small_model(), tmp_path / "base")
    return tmp_path / "base"


def make(base: Path, folder: Path, seed: int, values: dict[str, Any] | None = None) -> Path:
    model = load_decoder(base, dtype="fp32", device="cpu")
    adapter = attach(model, AdapterConfig.parse({"rank": 3} | (values or {})), seed)
    adapter.base = str(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in adapter.own().values():
            p += torch.randn(p.shape, generator=generator) * 0.05
    save(model, folder)
    return folder


def matrices(model: Decoder) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if ".adapter." not in name}


def update(base: Path, folder: Path) -> dict[str, Tensor]:
    """What an adapter adds to every parameter."""
    model = load_decoder(base, dtype="fp32", device="cpu")
    before = matrices(model)
    load(model, folder)
    with merged(model):
        return {name: p - before[name] for name, p in matrices(model).items()}


def combined(base: Path, folders: list[Path], *arguments: Any, **options: Any) -> dict[str, Tensor]:
    model = load_decoder(base, dtype="fp32", device="cpu")
    before = matrices(model)
    combine(model, folders, *arguments, **options)
    with merged(model):
        return {name: p - before[name] for name, p in matrices(model).items()}


def test_the_linear_sum_is_that_of_the_updates(base: Path, tmp_path: Path):
    folders = [make(base, tmp_path / "a", 1), make(base, tmp_path / "b", 2, {"method": "dora"})]
    one, two = (update(base, folder) for folder in folders)
    found = combined(base, folders, "linear", weights=[0.7, -0.2])
    assert all(torch.allclose(found[name], 0.7 * one[name] - 0.2 * two[name], atol=1e-5) for name in one)


def test_adapters_on_different_matrices_lie_beside_one_another(base: Path, tmp_path: Path):
    folders = [
        make(base, tmp_path / "a", 1, {"targets": ["q_proj"]}),
        make(base, tmp_path / "b", 2, {"targets": ["down_proj", "q_proj"]}),
    ]
    one, two = (update(base, folder) for folder in folders)
    found = combined(base, folders, "linear", weights=[1.0, 1.0])
    assert all(torch.allclose(found[name], one[name] + two[name], atol=1e-5) for name in one)


def test_the_best_of_low_rank_is_the_nearest_of_that_rank(base: Path, tmp_path: Path):
    folders = [make(base, tmp_path / name, seed, {"targets": ["o_proj"]}) for seed, name in ((1, "a"), (2, "b"))]
    whole = combined(base, folders, "linear")["blocks.0.attention.out.weight"]
    cut = combined(base, folders, "svd", rank=2)["blocks.0.attention.out.weight"]
    values = torch.linalg.svdvals(whole)
    assert int((torch.linalg.svdvals(cut) > 1e-5).sum()) == 2
    assert (whole - cut).norm() == pytest.approx(values[2:].norm().item(), rel=1e-3)


def test_ties_trims_elects_signs_and_averages_those_that_agree(base: Path, tmp_path: Path):
    folders = [make(base, tmp_path / name, seed, {"targets": ["o_proj"]}) for seed, name in ((1, "a"), (2, "b"))]
    name = "blocks.1.attention.out.weight"
    parts = []
    for folder in folders:
        delta = update(base, folder)[name]
        least = delta.abs().flatten().sort(descending=True).values[round(0.4 * delta.numel()) - 1]
        parts.append(torch.where(delta.abs() >= least * (1 - 1e-5), delta, 0.0))
    expected = torch.zeros_like(parts[0])
    for row in range(len(expected)):
        for column in range(expected.shape[1]):
            numbers = [0.5 * part[row, column].item() for part in parts]
            sign = (sum(numbers) > 0) - (sum(numbers) < 0)
            agree = [n for n in numbers if n * sign > 0]
            expected[row, column] = sum(agree) / (0.5 * len(agree)) if agree else 0.0
    found = combined(base, folders, "ties", density=0.4, rank=64)[name]
    assert torch.allclose(found, expected, atol=1e-5)


def test_dare_drops_at_random_and_keeps_the_mean(base: Path, tmp_path: Path):
    folders = [make(base, tmp_path / "a", 1, {"targets": ["o_proj"]})]
    name = "blocks.0.attention.out.weight"
    delta = update(base, folders[0])[name]
    found = combined(base, folders, "dare", density=0.25, rank=64, seed=3)[name]
    kept = found.abs() > 1e-5
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.allclose(found[kept], delta[kept] * 4, atol=1e-5)
    assert torch.equal(found, combined(base, folders, "dare", density=0.25, rank=64, seed=3)[name])


def test_what_is_no_update_of_matrices_is_refused(base: Path, tmp_path: Path):
    folders = [make(base, tmp_path / "a", 1)]
    model = load_decoder(base, dtype="fp32", device="cpu")
    prompt = load_decoder(base, dtype="fp32", device="cpu")
    attach(prompt, AdapterConfig.parse({"method": "prompt", "tokens": 3}))
    save(prompt, tmp_path / "prompt")
    with pytest.raises(LuhuoError, match="Only updates"):
        combine(model, [*folders, tmp_path / "prompt"])
    for wrong in ({"how": "sum"}, {"weights": [1.0, 2.0]}, {"density": 0.0}):
        with pytest.raises(LuhuoError):
            combine(load_decoder(base, dtype="fp32", device="cpu"), folders, **wrong)  # type: ignore[arg-type]


def test_the_verb_writes_a_model_or_an_adapter(base: Path, tmp_path: Path):
    from luhuo.cli import app

    folders = [str(make(base, tmp_path / name, seed)) for seed, name in ((1, "a"), (2, "b"))]
    one = CliRunner().invoke(app, ["merge", folders[0], "--out", str(tmp_path / "model")])
    assert one.exit_code == 0, one.output
    expected = logits(open_decoder(folders[0], dtype="fp32", device="cpu"))
    assert torch.allclose(logits(load_decoder(tmp_path / "model", dtype="fp32", device="cpu")), expected, atol=1e-5)
    both = ["merge", *folders, "--how", "ties", "--weight", "1", "--weight", "1", "--adapter", "--rank", "4"]
    two = CliRunner().invoke(app, [*both, "--out", str(tmp_path / "both")])
    assert two.exit_code == 0, two.output
    found = load_decoder(base, dtype="fp32", device="cpu")
    load(found, tmp_path / "both", base=str(base))
    adapter = attached(found)
    assert adapter is not None and adapter.config.rank == 4
