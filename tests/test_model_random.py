"""What holds for every decoder, whatever its options: shown on random combinations of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.count import parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.layers import ACTIVATIONS
from luhuo.model.masks import alibi_slopes

VOCABULARY, END, GAP = 61, 3, 4
SEEDS = range(36)


def random_config(seed: int) -> ModelConfig:
    """A valid combination of options, most of them away from their defaults about every second time."""
    draw = random.Random(seed)
    heads, layers, size = draw.choice([2, 4, 6]), draw.choice([2, 3]), draw.choice([8, 16])
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": draw.choice([24, 32]),
        "layers": layers,
        "heads": heads,
        "kv_heads": draw.choice([k for k in range(1, heads + 1) if heads % k == 0]),
        "head_dim": size,
        "intermediate_size": 40,
        "max_positions": 64,
    }
    fields |= _norms(draw) | _ends(draw) | _positions(draw, layers, heads, size) | _attention(draw)
    fields |= {
        "activation": draw.choice(list(ACTIVATIONS)),
        "gated": draw.random() < 0.6,
        "mlp_bias": draw.random() < 0.3,
    }
    if fields["gated"] and draw.random() < 0.3:
        fields["moe"] = _experts(draw)
    if fields["block"] == "pre" and draw.random() < 0.3:
        fields |= {"query_block": True, "final_norm": False}
    return ModelConfig.parse(fields)


def _norms(draw: random.Random) -> dict[str, Any]:
    block = draw.choice(["pre", "post", "output", "sandwich", "parallel", "parallel_two"])
    return {
        "norm": draw.choice(["rms", "layer"]),
        "norm_bias": draw.random() < 0.5,
        "norm_plus_one": draw.random() < 0.3,
        "norm_affine": draw.random() < 0.8,
        "norm_eps": 1e-5,
        "block": block,
        "carry_normed": block in ("pre", "sandwich") and draw.random() < 0.3,
        "carry_scale": draw.choice([1.0, 1.7]),
        "branch_scale": draw.choice([1.0, 0.4]),
    }


def _ends(draw: random.Random) -> dict[str, Any]:
    return {
        "embedding_size": draw.choice([None, None, 20]),
        "embedding_scale": draw.choice([1.0, 5.0]),
        "embedding_norm": draw.random() < 0.3,
        "final_norm": draw.random() < 0.8,
        "tie_embeddings": draw.random() < 0.5,
        "head_bias": draw.random() < 0.3,
        "head_normed": draw.random() < 0.2,
        "logit_scale": draw.choice([1.0, 0.3]),
        "logit_softcap": draw.choice([0.0, 0.0, 3.0]),
    }


def _positions(draw: random.Random, layers: int, heads: int, size: int) -> dict[str, Any]:
    positions = draw.choice(["rope", "rope", "rope", "rope", "learned", "sinusoidal", "none"])
    windows = tuple(draw.choice([0, 5, 11]) for _ in range(layers)) if draw.random() < 0.4 else ()
    fields: dict[str, Any] = {"positions": positions, "windows": windows}
    if positions == "none":
        fields["alibi_slopes"] = alibi_slopes(heads)
    if positions in ("learned", "sinusoidal"):
        fields["position_offset"] = draw.choice([0, 2])
    if draw.random() < 0.3:
        fields["prefix_end"] = END
    if positions == "rope":
        fields["rope"] = _rope(draw, size, "prefix_end" in fields)
        fields["unrotated"] = tuple(layer for layer in range(layers) if draw.random() < 0.2)
        if fields["rope"].get("axes") == 2:
            fields["gap_ids"] = (GAP,)
        elif windows and draw.random() < 0.5:
            fields["local_rope"] = {"theta": 70.0}
    return fields


def _rope(draw: random.Random, size: int, prompts: bool) -> dict[str, Any]:
    if prompts and draw.random() < 0.5:
        return {"axes": 2, "theta": 100.0}
    kind = draw.choice(["plain", "linear", "dynamic", "yarn", "llama3", "longrope"])
    dim = draw.choice([None, size // 2])
    fields: dict[str, Any] = {"kind": kind, "dim": dim, "interleaved": draw.random() < 0.4, "theta": 300.0}
    if kind != "plain":
        fields |= {"factor": 4.0, "original_positions": 16}
    if kind == "longrope":
        pairs = (dim or size) // 2
        fields |= {
            "short_factors": [1.0 + i / 9 for i in range(pairs)],
            "long_factors": [2.0 + i for i in range(pairs)],
        }
    return fields


def _attention(draw: random.Random) -> dict[str, Any]:
    return {
        "qkv_bias": draw.random() < 0.4,
        "out_bias": draw.random() < 0.3,
        "qk_norm": draw.choice(["none", "head", "heads", "full"]),
        "qk_norm_bias": draw.random() < 0.5,
        "qk_norm_after_rope": draw.random() < 0.3,
        "qkv_clip": draw.choice([0.0, 0.0, 1.5]),
        "attention_scale": draw.choice([None, 0.2]),
        "attention_softcap": draw.choice([0.0, 0.0, 2.0]),
        "attention_sinks": draw.random() < 0.3,
    }


def _experts(draw: random.Random) -> dict[str, Any]:
    return {
        "experts": 4,
        "active": 2,
        "intermediate_size": 12,
        "shared_size": draw.choice([0, 16]),
        "score": draw.choice(["softmax", "sigmoid"]),
        "correction": draw.random() < 0.5,
        "dense_layers": (0,),
    }


def random_model(seed: int) -> Decoder:
    """Like a trained model: no matrix is zero, no norm and no bias is without effect."""
    model = initialise(Decoder(random_config(seed)), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def random_ids(*shape: int) -> Tensor:
    """Tokens with some prompts' ends and gaps among them."""
    return torch.randint(2, VOCABULARY, shape, generator=torch.Generator().manual_seed(7)).clamp(min=GAP - 1)


def assert_close(found: Tensor, expected: Tensor) -> None:
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_cached_passes_of_ragged_rows_equal_whole_ones(seed: int) -> None:
    model = random_model(seed)
    ids, starts = random_ids(2, 40), [13, 6]
    ids[0, 9] = ids[1, 4] = END
    cache = KVCache(model.config, 2, 4)
    real = torch.arange(13)[None] < torch.tensor(starts)[:, None]
    first = model(ids[:, :13], segments=real.int(), cache=cache)
    for row in (0, 1):
        assert_close(first[row, : starts[row]], model(ids[row : row + 1, : starts[row]])[0])
    for step in (1, 1, 4, 1, 7, 1):
        part = torch.stack([ids[row, cache.lengths[row] : cache.lengths[row] + step] for row in (0, 1)])
        logits = model(part, cache=cache)
        for row in (0, 1):
            assert_close(logits[row], model(ids[row : row + 1, : cache.lengths[row]])[0, -step:])


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_packed_and_padded_documents_equal_those_alone(seed: int) -> None:
    model = random_model(seed)
    sizes = [6, 17, 1, 9]
    ids = random_ids(1, sum(sizes))
    segments = torch.repeat_interleave(torch.tensor([0, 1, 2, 3]), torch.tensor(sizes))[None]
    packed = model(ids, segments=segments)
    expected = torch.cat([model(part) for part in ids.split(sizes, 1)], 1)
    assert_close(packed[:, sizes[0] :], expected[:, sizes[0] :])


@pytest.mark.parametrize("seed", SEEDS)
def test_parameters_are_as_many_as_counted_and_each_has_an_effect(seed: int) -> None:
    model = random_model(seed).train()
    assert sum(parameters(model.config).values()) == sum(parameter.numel() for parameter in model.parameters())
    ids = random_ids(3, 30)
    logits = model(ids)
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        if name.endswith("correction"):
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_combinations_reach_every_option() -> None:
    configs = [random_config(seed) for seed in SEEDS]
    for name in ("norm", "block", "positions", "qk_norm", "activation"):
        found = {getattr(config, name) for config in configs}
        declared = ModelConfig.model_fields[name].annotation.__args__  # type: ignore[union-attr]
        assert found >= set(declared), name
    assert {config.rope.kind for config in configs} == {"plain", "linear", "dynamic", "yarn", "llama3", "longrope"}
    assert {config.rope.axes for config in configs} == {1, 2}
    for name in (
        "windows",
        "local_rope",
        "alibi_slopes",
        "attention_sinks",
        "attention_softcap",
        "moe",
        "prefix_end",
        "query_block",
    ):
        assert any(getattr(config, name) for config in configs), name
