"""Training with rounded matrices: what is written computes what was trained, in every way of training."""

from __future__ import annotations

import copy
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing

from luhuo.adapter.attach import attach
from luhuo.adapter.config import AdapterConfig
from luhuo.align.policy import keep_policy, reference
from luhuo.align.rollout_weights import as_computed
from luhuo.core.artifact import Workspace
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.decoder import Decoder
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.quantised import QuantisedLinear, quantise_model
from luhuo.model.save import save
from luhuo.train.compiling import Compiler
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers.groups import group
from luhuo.train.parallel import spread, whole
from luhuo.train.parallel_config import Parallel
from luhuo.train.quantisation.config import Quantisation
from luhuo.train.quantisation.rounding import roundings
from luhuo.train.quantisation.training import QuantisedTraining, settle, unrounded
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer
from tests.test_model_decoder import CONFIG
from tests.test_train_trainer import SMALL, SmallLoader, losses

KINDS: dict[str, dict[str, Any]] = {
    "4 bits": {"bits": 4, "group": 8},
    "2 bits, whole rows": {"bits": 2, "group": None},
    "3 bits, learned": {"bits": 3, "group": 8, "method": "lsq"},
    "8 bits, asymmetric": {"bits": 8, "group": 8, "symmetric": False},
    "4 bits, asymmetric, no search": {"bits": 4, "group": None, "symmetric": False, "search": False},
}
IDS = torch.arange(20).view(2, 10)


def fresh() -> Decoder:
    return initialise(Decoder(CONFIG.model_copy(update={"intermediate_size": 48})), 0)


def run(folder: Path, model: Decoder | None = None, loader: SmallLoader | None = None, **settings: Any) -> Decoder:
    """A small run in `folder`; the trained model, which still rounds."""
    folder.mkdir(exist_ok=True, parents=True)
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    model = model or fresh()
    given = {"optimiser": "adamw", "steps": 6, "quantisation": KINDS["3 bits, learned"], **settings}
    Trainer(model, CausalLM(), loader or SmallLoader(), TrainerConfig(**{**SMALL, **given}), out).run()
    return model


def same(one: Decoder, other: Decoder, tolerance: float = 0.0) -> bool:
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(a[0] == b[0] and torch.allclose(a[1], b[1], rtol=0, atol=tolerance) for a, b in pairs)


def logits(model: Decoder) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_written_directory_computes_exactly_what_was_trained(tmp_path: Path, kind: str) -> None:
    model = run(tmp_path / "run", quantisation=KINDS[kind])
    trained = logits(model)
    with unrounded(model):
        assert not torch.equal(logits(model), trained)
    keep_policy(model, tmp_path / "result")
    assert all(isinstance(block.attention.qkv, QuantisedLinear) for block in model.blocks)  # type: ignore[union-attr]
    written = load(tmp_path / "result", dtype="fp32", device="cpu")
    assert isinstance(written, Decoder)
    assert torch.equal(logits(written), trained)
    kept = load(tmp_path / "result", device="cpu")  # embedding in 8 bits, products of the compiled kernels
    assert isinstance(kept, Decoder) and isinstance(kept.blocks[0].mlp.down, QuantisedLinear)  # type: ignore[union-attr]
    torch.testing.assert_close(logits(kept).float(), trained, rtol=0, atol=0.06 * trained.abs().max().item())
    settings = json.loads((tmp_path / "result" / "config.json").read_text())["quantization_config"]
    weights = settings["config_groups"]["group_0"]["weights"]
    assert weights["num_bits"] == KINDS[kind]["bits"]


@pytest.mark.parametrize("method", ["ste", "lsq"])
def test_with_rounded_inputs_the_kept_directory_computes_what_was_trained(tmp_path: Path, method: str) -> None:
    settings = {"bits": 8, "group": None, "activations": 8, "method": method}
    model = run(tmp_path / "run", quantisation=settings)
    trained = logits(model)
    keep_policy(model, tmp_path / "result")
    assert isinstance(model.blocks[0].attention.qkv, EightBitLinear)  # type: ignore[union-attr]
    torch.testing.assert_close(logits(model), trained, rtol=0, atol=2e-5)
    kept = load(tmp_path / "result", device="cpu")
    assert isinstance(kept, Decoder) and isinstance(kept.blocks[0].mlp.down, EightBitLinear)  # type: ignore[union-attr]
    torch.testing.assert_close(logits(kept).float(), trained, rtol=0, atol=0.06 * trained.abs().max().item())


def test_saving_what_was_loaded_gives_the_same_files(tmp_path: Path) -> None:
    keep_policy(run(tmp_path / "run"), tmp_path / "one")
    again = load(tmp_path / "one", device="cpu")
    again.embedding = torch.nn.Parameter(load(tmp_path / "one", dtype="fp32").embedding.detach())
    save(again, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one if "packed" in name or "scale" in name)


@pytest.mark.parametrize("kind", ["4 bits", "3 bits, learned"])
def test_stopped_and_resumed_weights_and_steps_are_identical(tmp_path: Path, kind: str) -> None:
    settings = {"quantisation": KINDS[kind] | {"start_step": 2}, "checkpoint_every": 2, "ema": 0.9}
    straight = run(tmp_path / "straight", **settings)
    for number, step in enumerate((1, 2, 4)):  # before rounding begins, just then, and behind it
        loader = SmallLoader(signals={step: signal.SIGTERM})
        with pytest.raises(Interrupted):
            run(tmp_path / str(number), loader=loader, **settings)
        assert same(straight, run(tmp_path / str(number), **settings))
        assert losses(tmp_path / str(number)) == losses(tmp_path / "straight")


@pytest.mark.parametrize("kind", ["4 bits", "3 bits, learned"])
def test_the_result_is_equal_for_any_micro_batch_split(tmp_path: Path, kind: str) -> None:
    whole_batch = run(tmp_path / "whole", quantisation=KINDS[kind])
    split = run(tmp_path / "split", quantisation=KINDS[kind], micro_batch=1)
    # A sum in another order may put a weight on the other side of a step: its loss shows how little that is.
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "split"), rel=2e-3)
    assert same(whole_batch, split, 2e-2)


def test_before_its_first_step_training_is_the_plain_one(tmp_path: Path) -> None:
    run(tmp_path / "plain", quantisation=None)
    run(tmp_path / "late", quantisation=KINDS["3 bits, learned"] | {"start_step": 3})
    plain, late = losses(tmp_path / "plain"), losses(tmp_path / "late")
    assert plain[:3] == late[:3]
    assert plain[3] != late[3]


def test_steps_begin_with_the_weights_of_the_step_they_begin_at(tmp_path: Path) -> None:
    model = fresh()
    rounding = QuantisedTraining(model, Quantisation(bits=3, group=8, method="lsq", start_step=2), 4)
    matrix, one = next(iter(rounding.matrices.values()))
    rounding.begin(0)
    assert not one.on
    matrix.weight.data *= 3
    rounding.begin(2)
    began = one.steps().detach().clone()
    matrix.weight.data *= 3
    rounding.begin(3)
    assert one.on and torch.equal(one.steps(), began)


def test_names_of_the_models_own_parameters_stay_and_steps_have_a_group_of_their_own() -> None:
    model = fresh()
    before = [name for name, _ in model.named_parameters()]
    QuantisedTraining(model, Quantisation(bits=4, group=8), 1)
    assert [name for name, _ in model.named_parameters()] == before
    model = fresh()
    config = TrainerConfig(steps=1, quantisation=Quantisation(bits=4, group=8, method="lsq", step_rate=0.5))
    assert config.quantisation is not None
    QuantisedTraining(model, config.quantisation, 1)
    added = {name for name, _ in model.named_parameters()} - set(before)
    groups = {each.name: each for each in group(model, config)}
    assert added == groups["steps"].parameters.keys() and len(added) == 2 * 4
    assert all(name.endswith(".rounding.step") for name in added)
    assert (groups["steps"].rule, groups["steps"].decay) == ("adamw", 0.0)
    assert groups["steps"].rate == 0.5 * groups["matrices"].rate


def test_trained_at_two_bits_it_loses_less_than_rounded_afterwards(tmp_path: Path) -> None:
    class Same(SmallLoader):
        def __iter__(self) -> Any:
            batch = next(super().__iter__())
            while True:
                yield batch

    plain = run(tmp_path / "plain", loader=Same(), quantisation=None, steps=30, learning_rate=0.01)
    trained = copy.deepcopy(plain)
    QuantisedTraining(plain, Quantisation(bits=2, group=8), 1).begin(0)
    batch = {name: torch.from_numpy(array) for name, array in next(iter(Same())).items()}
    with torch.no_grad():
        rounded = (CausalLM().loss(plain.eval(), batch)[0] / CausalLM().weight(batch)).item()
    for method in ("ste", "lsq"):
        settings = {"bits": 2, "group": 8, "method": method}
        model = copy.deepcopy(trained)
        run(tmp_path / method, model, Same(), quantisation=settings, steps=20, learning_rate=0.003)
        assert losses(tmp_path / method)[0] == pytest.approx(rounded, rel=0.01)
        assert losses(tmp_path / method)[-1] < 0.7 * rounded


def test_held_out_scores_and_averaged_weights_are_those_of_the_rounded_model(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def score(model: Decoder) -> dict[str, float]:
        seen.append(logits(model))
        return {"valid_loss": 1.0}

    out = Workspace(tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))
    model = fresh()
    config = TrainerConfig(**{**SMALL, "steps": 4, "ema": 0.9, "quantisation": KINDS["4 bits"]})
    Trainer(model, CausalLM(), SmallLoader(), config, out, evaluate=score).run()
    assert torch.equal(seen[-1], logits(model))
    torch.testing.assert_close(logits(settle(model)), seen[-1], rtol=0, atol=0.02)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_of_an_adapter_the_merged_weights_are_what_is_rounded(tmp_path: Path, method: str) -> None:
    model = fresh()
    attach(model, AdapterConfig(method=method, rank=2), 0)  # type: ignore[arg-type]
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    run(tmp_path / "run", model, learning_rate=0.02)
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    trained = logits(model)
    with reference(model):
        assert torch.allclose(logits(model), logits(fresh()), atol=1e-5)
    assert torch.equal(logits(model), trained)
    matrix = model.blocks[0].attention.out  # type: ignore[union-attr]
    assert torch.equal(matrix.effective(torch.float32), roundings(model)["blocks.0.attention.out"][1].values(
        matrix.adapter.merged(matrix, matrix.weight)))  # fmt: skip
    keep_policy(model, tmp_path / "result")
    assert (tmp_path / "result" / "config.json").is_file()
    torch.testing.assert_close(logits(load(tmp_path / "result", dtype="fp32", device="cpu")), trained)  # type: ignore[arg-type]


def test_what_cannot_be_merged_or_is_rounded_already_is_refused() -> None:
    config = Quantisation(bits=4, group=8)
    model = fresh()
    attach(model, AdapterConfig(method="prefix", tokens=2), 0)
    with pytest.raises(LuhuoError, match="cannot be merged"):
        QuantisedTraining(model, config, 1)
    model = fresh()
    quantise_model(model, "int4")
    with pytest.raises(LuhuoError, match="no matrices of floats"):
        QuantisedTraining(model, config, 1)


def test_bad_settings_are_told_with_their_place() -> None:
    with pytest.raises(LuhuoError) as refused:
        QuantisedTraining(fresh(), Quantisation(bits=4, group=32), 1)
    assert refused.value.where == "blocks.0.attention.qkv.weight" and refused.value.fix == "group=8"
    with pytest.raises(LuhuoError, match="end before rounding begins"):
        QuantisedTraining(fresh(), Quantisation(bits=4, group=8, start_step=5), 5)
    for values, told in (
        ({"method": "lsq", "symmetric": False}, "symmetric grids only"),
        ({"step_rate": 2.0}, "does not read step_rate"),
        ({"bits": 5}, "Input should be"),
        ({"group": 12}, "multiple of 8"),
        ({"activations": 8, "bits": 4}, "activations"),
    ):
        with pytest.raises(ValidationError, match=told):
            Quantisation(**values)
    for values, told in (({"fp8": True}, "fp8"), ({"parallel": {"tp": 2}}, "tp")):
        with pytest.raises(ValidationError, match=f"quantisation does not go with .*{told}"):
            TrainerConfig(steps=1, quantisation=Quantisation(), **values)


def test_a_sampler_reads_the_rounded_model_and_not_a_copy_of_its_weights() -> None:
    model = fresh().compute_in(torch.bfloat16)
    assert as_computed(model) is not model
    QuantisedTraining(model, Quantisation(bits=4, group=8), 1).begin(0)
    assert as_computed(model) is model


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_compiled_blocks_have_the_gradients_of_eager_ones(recompute: str) -> None:
    model = fresh().train()
    model.recompute = recompute  # type: ignore[assignment]
    QuantisedTraining(model, Quantisation(bits=3, group=8, method="lsq"), 1).begin(0)
    batch = {name: torch.from_numpy(array) for name, array in next(iter(SmallLoader())).items()}

    def gradients(compiler: Compiler | None) -> dict[str, Tensor]:
        model.zero_grad()
        if compiler is not None:
            compiler.begin(batch)
        CausalLM().loss(model, batch)[0].backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradients(None)
    with Compiler(model, "default", backend="aot_eager") as compiler:
        found = gradients(compiler)
        assert compiler.graphs > 0
    assert any(name.endswith("rounding.step") for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def _process(rank: int, port: int, folder: Path, parallel: dict[str, int]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = spread(fresh(), Parallel(**parallel))
    ranks = Ranks()
    run(folder / "run", model, SmallLoader(ranks.rank, ranks.count), optimiser="adamw")
    found = whole(model)
    if found is not None:
        save_file({name: p.detach().clone() for name, p in found.named_parameters()}, folder / "parts.safetensors")
        keep_policy(found, folder / "result")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("parallel", [{"dp": 2}, {"fsdp": 2}])
def test_two_processes_give_the_result_of_one(tmp_path: Path, parallel: dict[str, int]) -> None:
    alone = run(tmp_path / "alone", optimiser="adamw")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(_process, (port, tmp_path, parallel), nprocs=2, start_method="forkserver")
    parts = load_file(tmp_path / "parts.safetensors")
    assert parts.keys() == {name for name, _ in alone.named_parameters()}
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=2e-3)
    trained = logits(alone)
    written = load(tmp_path / "result", dtype="fp32", device="cpu")
    assert isinstance(written, Decoder)
    torch.testing.assert_close(logits(written), trained, rtol=0, atol=0.05)
