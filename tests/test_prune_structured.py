"""Smaller models compute what the whole one would with zeros in place of what goes, and load anywhere."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.compress.prune.config import SmallerShape
from luhuo.compress.prune.depth import Influence, by_influence, by_loss, contiguous
from luhuo.compress.prune.heads import choose_heads, columns_of, key_heads
from luhuo.compress.prune.parts import Parts
from luhuo.compress.prune.refit import damped, refit, worth
from luhuo.compress.prune.shape import wanted
from luhuo.compress.prune.width import Features, choose_channels
from luhuo.compress.prune.write import write_smaller
from luhuo.compress.walk import Walk
from luhuo.core.errors import LuhuoError
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 6,
    "intermediate_size": 20,
    "max_positions": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"family": "qwen3"},
    "llama, biases everywhere, own head": {
        "family": "llama",
        "qk_norm": "none",
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "tie_embeddings": False,
    },
    "qwen2": {"family": "qwen2", "qk_norm": "none", "qkv_bias": True},
}
IDS = torch.randint(0, 61, (3, 17), generator=torch.Generator().manual_seed(5))


def random_model(**changes: Any) -> Decoder:
    """A model of random weights, norms and biases included, so that nothing cancels by chance."""
    model = Decoder(ModelConfig.parse(SIZES | changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3, generator=generator)
            if name.endswith("norm.weight"):
                parameter.abs_().add_(0.5)
    return model


def random_parts(config: ModelConfig, what: str) -> Parts:
    """Some of everything, other heads and channels in each layer."""
    every = range(config.layers)
    order = [torch.randperm(32, generator=torch.Generator().manual_seed(layer)) for layer in every]
    channels = {n: order[n][order[n] < config.intermediate_size][:11].sort().values for n in every}
    in_groups = {n: torch.tensor([[0, 2], [1, 3], [0, 3]][n % 3]) for n in every}
    return {
        "layers": Parts([0, 2]),
        "features": Parts(every, torch.tensor([0, 1, 3, 4, 7, 8, 9, 11, 12, 13, 17, 18, 20, 21, 22, 23])),
        "heads in groups": Parts(every, None, in_groups),
        "groups": Parts(every, None, {n: torch.tensor([2, 3]) - 2 * (n % 2) for n in every}),
        "channels": Parts(every, None, {}, channels),
        "all": Parts([1, 2], torch.arange(2, 20), in_groups, channels),
    }[what]


@torch.no_grad()
def masked(model: Decoder, parts: Parts) -> Decoder:
    """The whole model with zeros where something goes, and without the layers that go."""
    config, gone = model.config, torch.zeros(model.config.hidden_size, dtype=torch.bool)
    if parts.features is not None:
        gone.fill_(True)
        gone[parts.features] = False
        model.embedding[:, gone] = 0
    for layer, block in enumerate(model.blocks):
        heads = parts.heads.get(layer)
        stay = {"attention.out": None if heads is None else columns_of(heads, config.head_dim)}
        stay["mlp.down"] = parts.channels.get(layer)
        for name, columns in stay.items():
            matrix: Any = block.get_submodule(name)
            if columns is not None:
                mask = torch.zeros(matrix.weight.shape[1])
                mask[columns] = 1
                matrix.weight.mul_(mask)
            matrix.weight[gone] = 0
            if matrix.bias is not None:
                matrix.bias[gone] = 0
    model.blocks = torch.nn.ModuleList(model.blocks[layer] for layer in parts.layers)
    return model


def written(model: Decoder, folder: Path, parts: Parts, dtype: torch.dtype = torch.float32) -> Path:
    save(model, folder / "whole", dtype=dtype)
    with Walk(folder / "whole", None, folder / "scratch") as walk:
        write_smaller(walk, parts, folder / "smaller", {})
    return folder / "smaller"


@pytest.mark.parametrize("what", ["layers", "features", "heads in groups", "groups", "channels", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_smaller_model_computes_what_the_whole_would_with_zeros(family: str, what: str, tmp_path: Path) -> None:
    model = random_model(**FAMILIES[family])
    parts = random_parts(model.config, what)
    size = sum(p.numel() for p in model.parameters())
    smaller = load_decoder(written(model, tmp_path, parts), dtype="fp32", device="cpu")
    with torch.no_grad():
        expected, found = masked(model, parts)(IDS), smaller(IDS)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    assert sum(p.numel() for p in smaller.parameters()) < 0.95 * size


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_opens_the_smaller_model_with_equal_logits(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = written(random_model(**FAMILIES[family]), tmp_path, random_parts(ModelConfig.parse(SIZES), "all"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(IDS).logits
        found = load_decoder(folder, dtype="fp32", device="cpu")(IDS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_model_with_layer_norms_and_learned_positions_loses_channels_and_layers(tmp_path: Path) -> None:
    plain = {"norm": "layer", "norm_bias": True, "norm_eps": 1e-5, "positions": "learned", "qk_norm": "none"}
    biases = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
    gpt2 = {"family": "gpt2", "kv_heads": 4, "gated": False, "activation": "gelu_tanh", **plain, **biases}
    model = random_model(**gpt2)
    parts = Parts([0, 2], None, {}, {n: torch.arange(n, 20, 2)[:9] for n in range(3)})
    smaller = load_decoder(written(model, tmp_path, parts), dtype="fp32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(smaller(IDS), masked(model, parts)(IDS), rtol=2e-4, atol=2e-4)


def test_numbers_stay_in_the_format_they_are_stored_in(tmp_path: Path) -> None:
    folder = written(random_model(), tmp_path, random_parts(ModelConfig.parse(SIZES), "all"), torch.bfloat16)
    values = json.loads((folder / "config.json").read_text())
    assert (values["dtype"], values["num_hidden_layers"], values["hidden_size"]) == ("bfloat16", 2, 18)
    size = (folder / "model.safetensors").stat().st_size
    parameters = sum(p.numel() for p in load_decoder(folder, dtype="fp32", device="cpu").parameters())
    assert 2 * parameters < size < 2 * parameters + 8000


def test_a_shape_that_config_json_cannot_say_is_refused(tmp_path: Path) -> None:
    """GPT-2's head size is the width over the heads: without some heads it would be another one."""
    changes = {"norm": "layer", "norm_bias": True, "norm_eps": 1e-5, "positions": "learned", "qk_norm": "none"}
    biases = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
    model = random_model(family="gpt2", kv_heads=4, gated=False, activation="gelu_tanh", **changes, **biases)
    with pytest.raises(LuhuoError, match="cannot describe"):
        written(model, tmp_path, Parts(range(3), None, {n: torch.tensor([0, 2]) for n in range(3)}))
    assert not (tmp_path / "smaller").exists()


def test_windows_and_unrotated_layers_follow_their_layers() -> None:
    config = ModelConfig.parse(SIZES | {"family": "cohere2", "windows": (8, 8, 0), "unrotated": (2,), "layers": 3})
    parts = Parts([0, 2])
    changes = {"windows": tuple(config.windows[n] for n in parts.layers), "unrotated": (1,), "layers": 2}
    try:
        assert parts.config(config).model_dump() == {**config.model_dump(), **changes}
    except LuhuoError as error:  # the family spaces its windows evenly: then it says so
        assert "cannot describe" in error.problem


def layer(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix, and the second moment of inputs that hang together."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(400, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator), 2 / 400 * inputs.T @ inputs


def energy(error: Tensor, moment: Tensor) -> float:
    return float((error.double() @ moment.double() * error.double()).sum())


def test_refitted_weights_are_the_least_squares_solution() -> None:
    weight, moment = layer(7, 12)
    kept = torch.tensor([0, 2, 3, 7, 8, 11])
    found = refit(weight, moment, kept, damping=1e-9)
    exact = torch.linalg.solve(moment[kept][:, kept].double(), moment[kept].double() @ weight.double().T).T
    torch.testing.assert_close(found[:, kept].double(), exact, rtol=1e-3, atol=1e-4)
    gone = [n for n in range(12) if n not in kept.tolist()]
    assert not bool(found[:, gone].any())
    plain = torch.zeros_like(weight)
    plain[:, kept] = weight[:, kept]
    assert energy(weight - found, moment) < 0.9 * energy(weight - plain, moment)


@pytest.mark.parametrize("size", [1, 3])
def test_the_worth_of_columns_is_what_is_lost_without_them_and_with_the_others_refitted(size: int) -> None:
    weight, moment = layer(5, 12)
    groups = list(torch.arange(12).view(-1, size))
    found, full = worth(weight, moment, groups), damped(moment, 0.01)
    for value, group in zip(found, groups, strict=True):
        rest = torch.tensor([n for n in range(12) if n not in group.tolist()])
        lost = energy(weight - refit(weight.double(), moment, rest), full)
        assert float(value) == pytest.approx(lost, rel=1e-6)


def test_heads_are_chosen_evenly_in_their_groups_and_bring_their_keys() -> None:
    out, moment = layer(10, 8 * 3)
    heads = choose_heads(out, moment, heads=8, kv_heads=2, wanted=4, wanted_kv=2)
    assert [int((heads // 4 == group).sum()) for group in range(2)] == [2, 2]
    assert key_heads(heads, 4).tolist() == [0, 1]
    groups = choose_heads(out, moment, heads=8, kv_heads=4, wanted=4, wanted_kv=2)
    assert groups.view(2, 2).diff(dim=1).tolist() == [[1], [1]]
    assert len(key_heads(groups, 2)) == 2


def test_a_head_whose_output_another_repeats_goes_first() -> None:
    """Its norm is the largest, but the others make up for it: only one of the twins has to stay."""
    out, _ = layer(6, 8)
    inputs = torch.randn(500, 8, generator=torch.Generator().manual_seed(2))
    inputs[:, :2] *= 5
    inputs[:, 2:4] = inputs[:, :2]  # heads of two features: the second says what the first says
    moment = 2 / 500 * inputs.T @ inputs
    heads = choose_heads(out, moment, heads=4, kv_heads=4, wanted=3, wanted_kv=3)
    assert {2, 3} <= set(heads.tolist())


def test_channels_that_carry_most_stay() -> None:
    down, moment = layer(9, 16)
    down[:, 5], down[:, 9] = 0, 0
    kept = choose_channels(down, moment, 14)
    assert sorted(set(range(16)) - set(kept.tolist())) == [5, 9]


def test_features_count_by_what_they_contribute_to_the_matrices_that_read_them() -> None:
    features = Features(4)
    features.add(torch.tensor([[1.0, 1.0, 0.0, 1.0]]), torch.tensor([4.0, 1.0, 9.0, 2.0]))
    features.add(torch.tensor([[0.0, 0.0, 0.0, 100.0]]), torch.ones(4))
    assert features.choose(2).tolist() == [0, 3]


def test_a_layer_that_changes_nothing_goes_first() -> None:
    torch.manual_seed(0)
    states = [torch.randn(50, 8)]
    for turn in (1.0, 0.01, 0.8, 1.5):
        states.append(states[-1] + turn * torch.randn(50, 8))
    influence = []
    for before, after in itertools.pairwise(states):
        one = Influence()
        one.add(before, after)
        influence.append(one.value)
    assert by_influence(influence, 3) == [0, 2, 3]
    assert contiguous(states, 3) == [0, 2, 3]
    assert by_loss(lambda layers: sum(abs(n - 1) * (n not in layers) for n in range(4)), 4, 3) == [0, 2, 3]


def test_a_run_of_layers_goes_together_and_the_last_stays() -> None:
    torch.manual_seed(1)
    start, other = torch.randn(50, 8), torch.randn(50, 8)
    states = [start, 3 * start + other, start + 4 * other, 3 * start + 1.1 * other, -other]
    assert contiguous(states, 2) == [0, 3]  # two layers that undo each other
    assert contiguous(states, 1) == [3]


@pytest.mark.parametrize(
    ("sizes", "changes", "message"),
    [
        ({"heads": 3}, {}, "evenly"),
        ({"heads": 3, "kv_heads": 2}, {}, "evenly"),
        ({"heads": 4, "kv_heads": 1}, {}, "evenly"),
        ({"layers": 4}, {}, "smaller, not larger"),
        ({"layers": 3, "intermediate_size": 20}, {}, "nothing"),
        ({"heads": 2}, {"family": "olmo2", "qk_norm": "full", "block": "output"}, "cannot be pruned"),
        ({"intermediate_size": 8}, {"moe": MoEConfig(experts=4, active=2, intermediate_size=8)}, "cannot be pruned"),
        (
            {"hidden_size": 16},
            {
                "kv_heads": 4,
                "qk_norm": "none",
                "mla": MLAConfig(q_rank=None, kv_rank=8, nope_dim=4, rope_dim=2, value_dim=6),
            },
            "cannot be pruned",
        ),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LuhuoError, match=message):
        wanted(SmallerShape(**sizes), ModelConfig.parse(SIZES | changes))


def test_kv_heads_follow_from_heads_where_they_are_not_given() -> None:
    config = ModelConfig.parse(SIZES | {"heads": 8, "kv_heads": 4})
    assert [(w.heads, w.kv_heads) for w in (wanted(SmallerShape(heads=n), config) for n in (4, 2, 6))] == [
        (4, 4),
        (2, 2),
        (6, 3),
    ]
    assert wanted(SmallerShape(kv_heads=2), config).heads == 4
