"""Compiled blocks: the gradients of eager ones, few graphs, and a run that goes on where nothing compiles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.compiling import SHAPES, USUAL, Compiler, _compiled, chosen
from luhuo.train.config import TrainerConfig
from luhuo.train.gradients import Gradients
from luhuo.train.objective import CausalLM
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer
from tests.test_train_trainer import CONFIG, SmallLoader

PLAIN: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
}
EXPERTS: dict[str, Any] = {
    **PLAIN,
    **{"family": "deepseek_v3", "layers": 2, "kv_heads": 4, "head_dim": 12, "qk_norm": "none"},
    "mla": MLAConfig(q_rank=16, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=8),
    "moe": MoEConfig(experts=4, active=2, intermediate_size=32, score="sigmoid", correction=True, balance=0.1),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def model(values: dict[str, Any], recompute: Any = "none") -> Decoder:
    made = initialise(Decoder(ModelConfig(**values)), 0).train()
    for name, p in made.named_parameters():
        if name.endswith(("out.weight", "down.weight", "experts.down")):
            torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(1))
    made.recompute = recompute
    return made


def batch(rows: int = 3, length: int = 25) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(0, 97, (rows, length), generator=generator)
    return {"ids": ids, "segments": (torch.rand(ids.shape, generator=generator) < 0.1).cumsum(1).int() + 1}


def gradients(made: Decoder, compiler: Compiler | None, given: dict[str, Tensor], rows: int = 0) -> dict[str, Tensor]:
    work = Gradients(made, CausalLM(), Ranks(), rows)
    work.compiler = compiler
    weight, total = work.compute(given, 1)
    found = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    load = made.expert_load()
    made.update_balance(0.0)
    made.zero_grad(set_to_none=True)
    return found | {"loss": total["loss"] / weight} | ({} if load is None else {"load": load})


def agree(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_gradients_are_those_of_eager_blocks_and_all_layers_share_a_graph(recompute: str) -> None:
    made = model(PLAIN, recompute)
    expected = gradients(made, None, batch())
    with Compiler(made, "default", backend="aot_eager") as compiler:
        agree(gradients(made, compiler, batch()), expected)
        agree(gradients(made, compiler, batch()), expected)
        assert 1 <= compiler.metrics()["compile_graphs"] <= 2  # forward and backward of four layers
        assert compiler.metrics()["compile_s"] > 0


def test_experts_count_their_tokens_once() -> None:
    made = model(EXPERTS, "selective")
    expected = gradients(made, None, batch())
    with Compiler(made, "default", backend="aot_eager") as compiler:
        agree(gradients(made, compiler, batch()), expected)


def test_names_of_parameters_and_forward_stay_as_they_were() -> None:
    made = model(PLAIN)
    names = list(made.state_dict())
    with Compiler(made, "default", backend="aot_eager"):
        assert list(made.state_dict()) == names
    assert not any("forward" in vars(module) for module in made.modules())


def test_ragged_parts_and_growing_batches_are_not_compiled() -> None:
    made = model(PLAIN)
    with Compiler(made, "default", backend="aot_eager") as compiler:
        gradients(made, compiler, batch(4), rows=3)  # parts of 3 and 1 rows
        graphs = compiler.graphs
        for rows in (1, 2, 4, 5):
            agree(gradients(made, compiler, batch(rows)), gradients(made, None, batch(rows)))
        assert compiler.graphs == graphs


def test_a_shape_that_comes_again_and_again_is_compiled_but_only_so_many() -> None:
    with Compiler(model(PLAIN), "default", backend="aot_eager") as compiler:
        for rows in range(1, SHAPES + 3):
            for _ in range(USUAL + 1):
                compiler.begin(batch(rows))
            assert compiler.active == (rows <= SHAPES)


def test_evaluation_is_never_compiled() -> None:
    made = model(PLAIN)
    with Compiler(made, "default", backend="aot_eager") as compiler, torch.no_grad():
        compiler.begin(batch())
        made.eval().hidden(batch()["ids"])
        assert compiler.graphs == 0


def test_auto_compiles_on_cuda_only() -> None:
    assert chosen("auto", torch.device("cuda")) == "default"
    assert chosen("auto", torch.device("cpu")) == "none"
    assert chosen("max-autotune", torch.device("cpu")) == "max-autotune"


def train(folder: Path, **values: Any) -> tuple[dict[str, float], str]:
    folder.mkdir()
    out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
    config = TrainerConfig(steps=2, dtype="fp32", checkpoint_every_s=0, prefetch=0, **values)
    trainer = Trainer(initialise(Decoder(CONFIG), 0), CausalLM(), SmallLoader(), config, out)
    last = trainer.run()
    return last, (folder / "train.log").read_text(encoding="utf-8")


def test_without_a_compiler_one_line_says_so_and_the_result_is_the_eager_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(inductor, "fx_graph_cache", False)
    eager, _ = train(tmp_path / "eager", compile="none")
    found, log = train(tmp_path / "broken", compile="default")
    assert found["loss"] == eager["loss"] and found["grad_norm"] == eager["grad_norm"]
    assert log.count("could not be compiled") == 1


def test_an_error_of_the_model_is_not_taken_for_one_of_the_compiler() -> None:
    with Compiler(model(PLAIN), "default", backend="aot_eager") as compiler:
        assert not compiler.failed(RuntimeError("sizes do not match"))
        assert not compiler.failed(torch.OutOfMemoryError("out of memory"))
        assert compiler.on


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_really_compiled_gradients_are_the_same() -> None:
    made = model(PLAIN)
    expected = gradients(made, None, batch())
    with Compiler(made, "default") as compiler:
        agree(gradients(made, compiler, batch()), expected)
        assert compiler.on


def test_blocks_of_packed_rows_are_traced_and_other_documents_need_no_other_graph() -> None:
    made = model(PLAIN | {"head_dim": 16})
    made.in_blocks = True  # as on CUDA; a CPU has no gradient of it, so the block is called without one
    function, graphs = _compiled("default", "aot_eager"), []
    for seed in (1, 2):
        segments = (torch.rand(2, 200, generator=torch.Generator().manual_seed(seed)) < 0.02).cumsum(1).int() + 1
        with torch.no_grad():
            _, context = made._context(torch.zeros(2, 200, dtype=torch.long), segments, None)
            x = torch.randn(2, 200, 32, generator=torch.Generator().manual_seed(seed))
            found = function(made.blocks[0].forward, x, replace(context, masks=dict(context.masks)))
            torch.testing.assert_close(found, made.blocks[0](x, context), atol=1e-5, rtol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[1] == graphs[0]
