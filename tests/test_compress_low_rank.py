"""Low rank: the papers' identities in float64, ranks within their budget, and directories that compute the same."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.adapter.open import open_decoder
from luhuo.cli import parse_pairs
from luhuo.compress.layer_sharing_stage import ShareLayersStage
from luhuo.compress.low_rank.asvd import root_of_magnitudes
from luhuo.compress.low_rank.lqer import residual
from luhuo.compress.low_rank.lqer_stage import LqerStage
from luhuo.compress.low_rank.ranks import by_energy, most, size, uniform
from luhuo.compress.low_rank.stage import FactoriseStage
from luhuo.compress.low_rank.svd import decompose, refitted
from luhuo.compress.low_rank.svd_llm import root_of_moment
from luhuo.compress.quantise_stage import QuantizeStage
from luhuo.compress.rtn import rtn
from luhuo.compress.vocabulary_stage import TrimVocabularyStage
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.export import export
from luhuo.inference.decode_step import DecodeStep
from luhuo.kernels.native import library
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder
from luhuo.model.factorised import FactorisedLinear, densify, factorised
from luhuo.model.grid import Grid, dense
from luhuo.model.load import load_decoder
from luhuo.model.quantised import round_like
from luhuo.model.save import save
from luhuo.stages import configured
from tests.docs_cases import unexplained
from tests.small_chat import TEXTS, small_model

RANDOM = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(24, 40, generator=RANDOM)
INPUTS = torch.randn(300, 40, generator=RANDOM) @ torch.randn(40, 40, generator=RANDOM) * torch.logspace(-1, 1, 40)
MOMENT = (2 / len(INPUTS)) * INPUTS.T @ INPUTS
IDS = torch.arange(20, 60)[None]


def seen(error: Tensor, inputs: Tensor = INPUTS) -> float:
    """The squared error of the outputs over the inputs, in float64."""
    return float((inputs.double() @ error.double().T).square().sum())


@pytest.mark.parametrize("rank", [1, 7, 23])
def test_the_error_of_truncation_is_the_sum_of_the_squared_dropped_singular_values(rank: int):
    for root in (None, root_of_magnitudes(INPUTS.abs().mean(0)), root_of_moment(MOMENT)[0]):
        decomposition = decompose(WEIGHT, root)
        error = WEIGHT.double() - decomposition.factors(rank).dense().double()
        scaled = error if root is None else error * root if root.ndim == 1 else error @ root
        dropped = float(decomposition.values[rank:].square().sum())
        assert float(scaled.square().sum()) == pytest.approx(dropped, rel=1e-4)
        assert decomposition.loss(rank) == pytest.approx(dropped / float(decomposition.values.square().sum()))


def test_svd_llm_loses_what_the_outputs_lose():
    decomposition = decompose(WEIGHT, root_of_moment(MOMENT)[0])
    for rank in (3, 12):
        outputs = 2 / len(INPUTS) * seen(WEIGHT - decomposition.factors(rank).dense())
        assert outputs == pytest.approx(float(decomposition.values[rank:].square().sum()), rel=1e-4)


def test_it_is_the_whitening_of_the_paper():
    """W S = U Σ Vᵀ, W' = U_r Σ_r V_rᵀ S⁻¹ with the Cholesky factor S of X Xᵀ (algorithm 1 there)."""
    moment = MOMENT.double()
    root = torch.linalg.cholesky(moment)
    u, s, vh = torch.linalg.svd(WEIGHT.double() @ root)
    theirs = u[:, :9] @ torch.diag(s[:9]) @ vh[:9] @ torch.linalg.inv(root)
    ours = decompose(WEIGHT, root_of_moment(MOMENT)[0]).factors(9).dense()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)


def test_no_competitor_of_the_same_rank_does_better():
    best = decompose(WEIGHT, root_of_moment(MOMENT)[0]).factors(8)
    least = seen(WEIGHT - best.dense())
    rivals = [decompose(WEIGHT).factors(8), decompose(WEIGHT, root_of_magnitudes(INPUTS.abs().mean(0))).factors(8)]
    assert all(seen(WEIGHT - rival.dense()) > least for rival in rivals)
    for step in range(200):
        size = 10.0 ** -(step % 5)
        a = best.a + size * best.a.std() * torch.randn(best.a.shape, generator=RANDOM)
        b = best.b + size * best.b.std() * torch.randn(best.b.shape, generator=RANDOM)
        assert seen(WEIGHT - b @ a) >= least * (1 - 1e-6)


def test_refitting_is_least_squares_and_leaves_svd_llm_as_it_is():
    plain = decompose(WEIGHT).factors(8)
    fitted = refitted(WEIGHT, plain, MOMENT)
    assert seen(WEIGHT - fitted.dense()) < seen(WEIGHT - plain.dense())
    reference = torch.linalg.lstsq((INPUTS @ plain.a.T).double(), (INPUTS @ WEIGHT.T).double()).solution.T
    torch.testing.assert_close(fitted.b.double(), reference, rtol=1e-2, atol=1e-3)
    whitened = decompose(WEIGHT, root_of_moment(MOMENT)[0]).factors(8)
    again = refitted(WEIGHT, whitened, MOMENT)
    torch.testing.assert_close(again.dense(), whitened.dense(), rtol=1e-2, atol=1e-3)


def test_inputs_without_some_directions_are_no_obstacle():
    inputs = INPUTS.clone()
    inputs[:, 5:20] = 0
    root, damping = root_of_moment(inputs.T @ inputs)
    factors = decompose(WEIGHT, root).factors(10)
    assert damping < 1e-3 and bool(factors.a.isfinite().all() and factors.b.isfinite().all())
    assert seen(WEIGHT - factors.dense(), inputs) <= seen(WEIGHT - decompose(WEIGHT).factors(10).dense(), inputs)
    zero = decompose(torch.zeros(6, 6)).factors(2)
    assert bool((zero.dense() == 0).all())
    for bad in (torch.zeros(4, 4), torch.full((4, 4), torch.nan)):
        with pytest.raises(LuhuoError, match="finite"):
            root_of_moment(bad)


SHAPES = {"a": (64, 64), "b": (256, 64), "c": (64, 256)}


def test_uniform_ranks_keep_the_ratio_and_never_more_than_the_matrix():
    for ratio in (0.3, 0.5, 0.9):
        ranks = uniform(SHAPES, ratio)
        used = sum(size(SHAPES[name], rank) for name, rank in ranks.items())
        assert 0.4 * ratio < used / sum(size(shape, None) for shape in SHAPES.values()) <= ratio
        assert all(rank is None or (rank % 8 == 0 and size(SHAPES[n], rank) < size(SHAPES[n], None))
                   for n, rank in ranks.items())  # fmt: skip
    assert most((64, 64), 8) == 24 and most((4, 4), 8) == 0
    with pytest.raises(LuhuoError, match="smallest ranks"):
        uniform(SHAPES, 0.01)


def test_energy_gives_ranks_to_those_that_lose_most_and_is_optimal_for_small_cases():
    values = {"a": 0.5 ** torch.arange(64.0), "b": 0.95 ** torch.arange(64.0), "c": torch.ones(64)}
    ranks = by_energy(values, SHAPES, 0.5)
    even = uniform(SHAPES, 0.5)
    lost = [sum(float(values[n][r:].sum() / values[n].sum()) for n, r in found.items()) for found in (ranks, even)]
    assert lost[0] < lost[1]
    used = sum(size(SHAPES[name], rank) for name, rank in ranks.items())
    assert used <= 0.5 * sum(size(shape, None) for shape in SHAPES.values())
    shapes = {"x": (32, 32), "y": (32, 32)}
    energies = {"x": torch.tensor([9.0, 5, 4, 1] + [0.1] * 28), "y": torch.tensor([9.0, 8, 7, 6] + [0.1] * 28)}
    found = by_energy(energies, shapes, 0.2, multiple=1)

    def both(x: int, y: int) -> float:
        return float(energies["x"][x:].sum() / energies["x"].sum() + energies["y"][y:].sum() / energies["y"].sum())

    room = int(0.2 * 2048 / 64)
    best = min(both(x, room - x) for x in range(1, room))
    assert both(found["x"] or 0, found["y"] or 0) == pytest.approx(best)


def test_a_weight_on_a_matrix_moves_rank_to_it():
    values = {"a": torch.ones(64), "b": torch.ones(64), "c": torch.ones(64)}
    plain = by_energy(values, SHAPES, 0.4)
    heavy = by_energy(values, SHAPES, 0.4, weights={"c": 100.0})
    assert (heavy["c"] or 999) > (plain["c"] or 999)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, text, and what the stages make of it."""
    root = tmp_path_factory.mktemp("low_rank")
    save(small_model(), root / "model")
    (root / "text.txt").write_text("\n".join(TEXTS * 40), encoding="utf-8")
    return root


def run(root: Path, name: str, **values: Any) -> Path:
    """The stage `factorise` on the small model."""
    common = {"model": str(root / "model"), "data": str(root / "text.txt"), "sequences": 8, "length": 32}
    return produce("factorise", FactoriseStage.parse(common | values), root / name).path


def logits(model: Decoder) -> Tensor:
    with torch.no_grad():
        return model(IDS)


@pytest.mark.parametrize(
    ("method", "allocation"), [("svd", "uniform"), ("asvd", "energy"), ("svd-llm", "energy"), ("svd-llm", "outputs")]
)
def test_the_stage_keeps_its_share_and_says_what_was_lost(made: Path, method: str, allocation: str):
    path = run(made, f"{method}-{allocation}", method=method, allocation=allocation, ratio=0.6)
    figures = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["metrics"]
    assert 0.4 < figures["share_kept"] <= 0.6
    rows = json.loads((path / "report.json").read_text(encoding="utf-8"))
    assert len(rows) == 8 and all(0 <= row.get("error", 0) < 1 for row in rows)
    model = load_decoder(path, dtype="fp32", device="cpu")
    ranks = {name: one.rank for name, one in factorised(model).items()}
    assert ranks == {row["name"]: row["rank"] for row in rows if row["rank"] is not None}
    whole = load_decoder(made / "model", dtype="fp32", device="cpu")
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in whole.parameters())


def test_svd_llm_loses_less_of_the_outputs_than_asvd_and_svd(made: Path):
    errors = {}
    for method in ("svd", "asvd", "svd-llm"):
        path = run(made, f"plain-{method}", method=method, allocation="uniform", ratio=0.5, refit=False)
        rows = json.loads((path / "report.json").read_text(encoding="utf-8"))
        errors[method] = rows[0]["error"]  # the first matrix has the same inputs whatever the method
    assert errors["svd-llm"] < errors["asvd"] < errors["svd"]


def test_a_factorised_directory_is_written_again_with_the_same_bytes_of_logits(made: Path, tmp_path: Path):
    model = load_decoder(run(made, "some", ratio=0.6), dtype="fp32", device="cpu")
    save(model, tmp_path / "copy")
    copy = load_decoder(tmp_path / "copy", dtype="fp32", device="cpu")
    assert torch.equal(logits(copy), logits(model)) and len(factorised(copy)) == len(factorised(model)) > 0


def test_other_programs_refuse_the_layout_and_load_the_export(made: Path, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    path = run(made, "some", ratio=0.6)
    with pytest.raises((ValueError, KeyError), match="luhuo-low-rank"):
        AutoModelForCausalLM.from_pretrained(path)
    export(str(path), "hf", None, tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    model = load_decoder(path, dtype="fp32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, logits(model), atol=1e-3, rtol=1e-3)
    before = logits(model)
    densify(model)
    assert not factorised(model)
    torch.testing.assert_close(logits(model), before, atol=1e-3, rtol=1e-3)


def test_factors_can_be_trained_and_kept_in_few_bits(made: Path):
    path = run(made, "some", ratio=0.6)
    model = load_decoder(path, dtype="fp32", device="cpu")
    model(IDS).logsumexp(-1).sum().backward()
    part = next(iter(factorised(model).values()))
    assert isinstance(part, FactorisedLinear)
    assert all(parameter.grad is not None for parameter in part.parameters())
    few = load_decoder(path, dtype="int8", device="cpu")
    round_like(model, few)
    change = (logits(few) - logits(model)).norm() / logits(model).norm()
    assert 0 < change < 0.05
    with pytest.raises(LuhuoError, match="few bits"):
        save(few, made / "few")


@pytest.mark.skipif(library() is None, reason="the compiled step needs a C++ compiler")
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_the_compiled_step_decodes_from_the_factors(made: Path, dtype: str):
    model = load_decoder(run(made, "some", ratio=0.6), dtype=dtype, device="cpu")
    step = DecodeStep.of(model)
    assert step is not None
    caches = [KVCache(model.config, 3, 16, model.dtype, model.device) for _ in range(2)]
    before, after = torch.arange(20, 38).view(3, 6), torch.tensor([30, 40, 50])
    with torch.no_grad():
        for cache in caches:
            model(before, cache=cache)
        assert step.fits(caches[0])
        found, expected = step(after, caches[0]), model(after[:, None], cache=caches[1])[:, 0].float()
    close = 1e-5 if dtype == "fp32" else 0.05
    assert float((found - expected).norm() / expected.norm()) < close


def test_what_does_not_fit_is_said(made: Path, tmp_path: Path):
    path = run(made, "some", ratio=0.6)
    with pytest.raises(LuhuoError, match="factorised"):
        produce(
            "factorise", FactoriseStage.parse({"model": str(path), "data": str(made / "text.txt")}), tmp_path / "x"
        )
    with pytest.raises(LuhuoError, match="calibration text"):
        FactoriseStage.parse({"model": "m", "method": "svd-llm"})
    values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    values["quantization_config"]["ranks"]["blocks.0.mlp.down"] = 5
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps(values), encoding="utf-8")
    (broken / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    with pytest.raises(LuhuoError, match="do not fit"):
        load_decoder(broken)


def test_lqer_takes_most_of_the_error_with_the_largest_directions():
    rounded = dense(rtn(WEIGHT, Grid(3, 8)))
    plain = residual(WEIGHT, rounded, 6)
    values = torch.linalg.svdvals((WEIGHT - rounded).double())
    left = float((WEIGHT - rounded - plain.dense()).double().square().sum())
    assert left == pytest.approx(float(values[6:].square().sum()), rel=1e-4)
    scaled = residual(WEIGHT, rounded, 6, root_of_magnitudes(INPUTS.abs().mean(0), 1.0))
    exact = residual(WEIGHT, rounded, 6, root_of_moment(MOMENT)[0])
    errors = [seen(WEIGHT - rounded - pair.dense()) for pair in (exact, scaled, plain)]
    assert errors == sorted(errors) and errors[2] < seen(WEIGHT - rounded)


@pytest.mark.parametrize("scaling", ["none", "activation", "moment"])
def test_lqer_is_an_adapter_that_ours_and_peft_load_on_the_quantised_model(made: Path, scaling: str):
    quantised = made / "rtn"
    stage = QuantizeStage.parse({"model": str(made / "model"), "method": "rtn", "bits": 4, "group": 32})
    produce("quantize", stage, quantised)
    values = {"model": str(made / "model"), "quantised": str(quantised), "rank": 8, "scaling": scaling}
    values |= {"data": str(made / "text.txt"), "sequences": 8, "length": 32}
    done = produce("lqer", LqerStage.parse(values), made / f"lqer-{scaling}")
    assert done.manifest["metrics"]["error"] < done.manifest["metrics"]["error_before"]
    original = logits(load_decoder(made / "model", dtype="fp32", device="cpu"))
    few, mended = (logits(open_decoder(path, device="cpu")).float() for path in (quantised, done.path))
    assert (mended - original).norm() < (few - original).norm()
    peft = pytest.importorskip("peft", reason="peft is not in the test extra")
    from transformers import AutoModelForCausalLM

    base = load_decoder(quantised, dtype="fp32", device="cpu")
    save(base, made / "dense")
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(made / "dense"), done.path).eval()
    ours = open_decoder(done.path, dtype="fp32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, logits(ours), atol=1e-3, rtol=1e-3)


def test_lqer_wants_a_quantised_model(made: Path, tmp_path: Path):
    values = {"model": str(made / "model"), "quantised": str(made / "model"), "data": str(made / "text.txt")}
    with pytest.raises(LuhuoError, match="not quantised"):
        produce("lqer", LqerStage.parse(values | {"sequences": 2, "length": 16}), tmp_path / "out")


PAGES = [Path(__file__).parent.parent / "docs" / f"compression-{name}" for name in ("low-rank", "vocabulary")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_pages_is_understood_and_both_languages_show_the_same(page: Path):
    found = []
    for ending in (".md", ".zh.md"):
        text = page.with_name(page.name + ending).read_text(encoding="utf-8")
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        found.append([shlex.split(line) for block in blocks for line in block.splitlines()])
    assert found[0] == found[1] and found[0]
    for program, stage, *words in found[0]:
        assert program == "luhuo"
        configured(stage, parse_pairs(words[: words.index("--out")], "command line"))


def test_settings_are_described_in_both_languages_and_named_on_the_pages():
    for kind, page in ((FactoriseStage, 0), (LqerStage, 0), (ShareLayersStage, 0), (TrimVocabularyStage, 1)):
        assert not unexplained(kind)
        for name in kind.model_fields:
            if name in ("seed", "model", "quantised", "threads", "sequences", "length", "rank", "weights", "data"):
                continue
            for ending in (".md", ".zh.md"):
                text = PAGES[page].with_name(PAGES[page].name + ending).read_text(encoding="utf-8")
                assert f"`{name}" in text, name
