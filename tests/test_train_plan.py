"""The planner: what it says a run takes is what it takes, and what it advises fits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.cli import parse_pairs
from luhuo.core.errors import LuhuoError
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.recipe.planning import as_json, plan_recipe, plan_stage
from luhuo.train.config import TrainerConfig
from luhuo.train.gradients import Gradients
from luhuo.train.objective import CausalLM
from luhuo.train.plan.activations import kept
from luhuo.train.plan.fit import Fit
from luhuo.train.plan.machine import Machine, available_memory, described
from luhuo.train.plan.memory import Run, memory
from luhuo.train.plan.training import Training, largest_micro_batch, plan
from luhuo.train.ranks import Ranks
from luhuo.train.sizes import derive

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
BENCH = Path(__file__).parents[1] / "bench" / "train_memory.py"
PLAIN: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 128,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "intermediate_size": 320,
}
SHAPES: dict[str, dict[str, Any]] = {
    "norms of queries and keys": {},
    "llama": {"qk_norm": "none"},
    "wide": {"hidden_size": 512, "heads": 8, "head_dim": 64, "qk_norm": "none", "intermediate_size": 1376},
    "experts": {"moe": MoEConfig(experts=8, active=2, intermediate_size=96, shared_size=96)},
    "latent attention": {
        **{"family": "deepseek_v3", "kv_heads": 4, "head_dim": 48, "qk_norm": "none"},
        "mla": MLAConfig(q_rank=None, kv_rank=32, nope_dim=32, rope_dim=16, value_dim=32),
    },
}


def kept_by_autograd(config: ModelConfig, mode: Any, rows: int, length: int, dtype: torch.dtype | None) -> int:
    """Bytes that the forward pass of all blocks keeps, each storage counted once, parameters not."""
    model = initialise(Decoder(config), 0).train().compute_in(dtype)
    model.recompute = mode
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.hidden(torch.randint(0, 64, (rows, length)))
    assert hidden.requires_grad
    return sum(seen.values())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("rows", "length"), [(1, 256), (4, 256), (1, 1024)])
def test_activations_are_what_autograd_keeps(name: str, rows: int, length: int) -> None:
    config = ModelConfig(**{**PLAIN, **SHAPES[name]})
    for dtype, size in ((torch.bfloat16, 2), (None, 4)):
        for mode in ("none", "selective", "full"):
            three, one = (
                kept_by_autograd(config.model_copy(update={"layers": n}), mode, rows, length, dtype) for n in (3, 1)
            )
            said = kept(config, 1, rows=rows, length=length, size=size, kind="cpu").bytes(mode, rows * length)
            assert said == pytest.approx((three - one) / 2, rel=0.06)


def small_machine(memory_bytes: float, count: int = 1) -> Machine:
    return Machine("test", count, memory_bytes, 1e12, 0.4, False, "cpu")


TRAINING = Training(derive("100m", 16384).model, rows=64, length=1024, steps=10)


def test_every_change_that_is_advised_fits() -> None:
    whole = plan(TRAINING, small_machine(1e15))
    assert whole.fits and not whole.changes
    for room in (0.5, 0.2, 0.12, 0.08):
        machine = small_machine(whole.memory.peak * room)
        found = plan(TRAINING, machine, resize=True)
        assert not found.fits and found.changes
        assert all(change.peak <= machine.memory for change in found.changes)


def test_pieces_are_advised_for_several_processes() -> None:
    need = plan(TRAINING, small_machine(1e15, 8)).memory
    found = plan(TRAINING, small_machine(need.process + need.weights + 0.6 * need.gradients, 8))
    assert any(change.settings.get("shard") == 0 for change in found.changes)


def test_the_largest_micro_batch_fits_and_the_next_does_not() -> None:
    machine = small_machine(memory(TRAINING.run(small_machine(1e15))).peak / 3)
    rows = largest_micro_batch(TRAINING, machine)
    assert 0 < rows < 64

    def peak(count: int) -> float:
        return memory(Run(TRAINING.model, count, 1024)).peak

    assert peak(rows) <= machine.memory < peak(2 * rows)


def test_a_table_tells_the_accelerators() -> None:
    eight = described("8xH100")
    assert (eight.name, eight.count, eight.measured) == ("H100", 8, False)
    assert 70e9 < eight.memory < 80e9
    assert described("a100").name == "A100-80"
    assert described("RTX 4090".replace(" ", "-")).name == "4090"
    with pytest.raises(LuhuoError, match="accelerator"):
        described("8xH1000000")


def test_the_memory_that_is_left_is_less_than_all() -> None:
    assert 0 < available_memory() < 2**50


def test_all_stages_of_a_recipe_are_planned_and_pass_their_shape_on(tmp_path: Path) -> None:
    rows = {row.name: row for row in plan_recipe(RECIPE, tmp_path, small_machine(1e12), overrides={})}
    assert {"world", "tokenizer", "base", "assistant", "assistant_scores"} <= rows.keys()
    base, assistant = rows["base"].training, rows["assistant"].training
    assert base is not None and assistant is not None
    assert 2.7e6 < base.parameters == assistant.parameters < 3.3e6
    assert base.seconds is not None and base.seconds > 0
    assert rows["assistant_scores"].peak is not None
    assert rows["world"].seconds is None and "known" in rows["world"].note
    told = json.loads(as_json(small_machine(1e12), list(rows.values())))
    assert len(told["stages"]) == len(rows)


def test_a_stage_alone_is_planned_from_its_fields() -> None:
    (row,) = plan_stage("pretrain", parse_pairs(["size=100m", "tokens=1000000"], ""), small_machine(1e12))
    assert row.training is not None
    assert row.training.parameters == pytest.approx(100e6, rel=0.05)
    assert row.training.tokens == pytest.approx(1e6, rel=0.2)


def test_a_batch_that_does_not_fit_is_split_before_the_first_pass() -> None:
    config = ModelConfig(**PLAIN)
    model = initialise(Decoder(config), 0).train()
    said: list[str] = []

    def rows(free: float, given: int = 0) -> int:
        gradients = Gradients(model, CausalLM(), Ranks(), given, said.append)
        Fit(model, TrainerConfig(steps=1, background=False), lambda: free)(gradients, {"ids": torch.zeros(64, 257)})
        return gradients.rows

    whole = memory(Run(config, 64, 256, half=False, background=False))
    room = whole.peak - whole.process - whole.weights
    assert rows(room * 1.01) == 0 and not said
    assert rows(room * 0.9) == 32 and "64" in said[-1]
    assert rows(0) == 1
    assert rows(0, given=5) == 5


@pytest.mark.parametrize("name", ["3m, 16 x 256", "8.5m, 16 x 512, adamw"])
def test_the_peak_of_a_fresh_process_is_near_the_prediction(name: str) -> None:
    command = [sys.executable, str(BENCH), "plan", "--steps", "2", "--cases", name]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cells = found.splitlines()[2].split("|")
    predicted, measured = (float(cell.replace(",", "")) for cell in cells[2:4])
    assert predicted == pytest.approx(measured, rel=0.25)
