"""The reference architectures: each recipe goes from text to a model that transformers opens with equal logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.model.load import load_decoder
from luhuo.train.sizes import Shape, derive
from tests.command_line import ROOT, luhuo

EXPERTS = {"experts": 12, "active": 3, "shared": 1, "intermediate_size": 128}


@pytest.mark.parametrize(
    ("name", "family"),
    [("dense", "Qwen3ForCausalLM"), ("moe", "Glm4MoeForCausalLM"), ("deepseek", "DeepseekV3ForCausalLM")],
)
def test_a_reference_recipe_ends_in_a_model_that_transformers_opens(name: str, family: str, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    recipe = str(ROOT / "recipes" / f"{name}.yaml")
    done = luhuo("run", recipe, "--variant", "test", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-4000:]
    base = tmp_path / "run" / "base"
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    assert type(theirs).__name__ == family
    ids = torch.randint(0, 1024, (2, 33), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs(ids).logits, load_decoder(base, dtype="fp32", device="cpu").eval()(ids)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_experts_at_work_are_as_wide_as_the_dense_mlp():
    plain = derive("3m", 4096, shape=Shape(layers=5, hidden_size=192)).model
    moe = derive("3m", 4096, shape=Shape.model_validate({"layers": 5, "hidden_size": 192, "moe": EXPERTS})).model.moe
    assert moe is not None
    assert moe.active * moe.intermediate_size + moe.shared_size == plain.intermediate_size
    assert moe.dense_layers == (0,)


@pytest.mark.parametrize(
    "shape",
    [
        {"mtp_layers": 1},
        {"mla": {"kv_rank": 8, "nope_dim": 8, "rope_dim": 4, "value_dim": 8}},
        {"moe": {**EXPERTS, "active": 13}},
        {"moe": EXPERTS, "head_dim": 8, "mla": {"kv_rank": 8, "nope_dim": 8, "rope_dim": 4, "value_dim": 8}},
    ],
)
def test_a_shape_that_no_published_layout_has_is_refused(shape: dict[str, object]):
    with pytest.raises(LuhuoError):
        Shape.parse(shape, where="shape")
