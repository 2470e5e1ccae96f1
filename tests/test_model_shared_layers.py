"""Layers that share keys and values, and layers with linear attention: what they cache and how they are counted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.model import linear_attention
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.count import cache_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.linear_attention import LinearAttention, decays
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser

PLAIN = ModelConfig(
    vocab_size=61,
    hidden_size=24,
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=8,
    intermediate_size=32,
    qk_norm_after_rope=True,
)
SHARED = PLAIN.model_copy(update={"kv_share": 2})
LINEAR = PLAIN.model_copy(update={"linear_layers": (0, 1, 3)})


def random_model(config: ModelConfig) -> Decoder:
    model = initialise(Decoder(config), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("config", [SHARED, LINEAR], ids=["shared", "linear"])
def test_parameters_and_cache_are_those_counted(config: ModelConfig) -> None:
    assert sum(parameters(config).values()) == sum(p.numel() for p in Decoder(config).parameters())
    cache = KVCache(config, 1, 128)
    assert sum(tensor.numel() for tensor in [*cache.keys, *cache.values]) == 128 * cache_per_token(config)


def test_pairs_of_layers_cache_half() -> None:
    assert 2 * cache_per_token(SHARED) == cache_per_token(PLAIN)


@torch.no_grad()
@pytest.mark.parametrize("config", [SHARED, LINEAR], ids=["shared", "linear"])
def test_a_ragged_cache_that_forgets_gives_the_logits_of_a_whole_pass(config: ModelConfig) -> None:
    model, ids = random_model(config), random_ids(2, 30)
    full, cache = model(ids), KVCache(config, 2, 4)
    real = (torch.arange(12) < torch.tensor([12, 7])[:, None]).int()
    model(ids[:, :12], segments=real, cache=cache)
    cache.truncate([9, 5])
    for step in (1, 6, 1):
        at = torch.tensor(cache.lengths)[:, None] + torch.arange(step)
        found = model(ids.gather(1, at), cache=cache)
        expected = full.gather(1, at[..., None].expand(-1, -1, 61))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_linear_attention_in_pieces_equals_the_sum_it_is_defined_by(monkeypatch: pytest.MonkeyPatch) -> None:
    model, generator = random_model(LINEAR), torch.Generator().manual_seed(0)
    layer = model.blocks[1].attention
    assert isinstance(layer, LinearAttention)
    query, key, value = (torch.randn(1, 4, 23, 8, generator=generator) for _ in range(3))
    expected = torch.zeros(1, 4, 23, 8)
    for head, rate in enumerate(layer.decays):
        for i in range(23):
            for j in range(i + 1):
                weight = math.exp(-rate * (i - j)) * query[0, head, i] @ key[0, head, j]
                expected[0, head, i] += weight * value[0, head, j]
    monkeypatch.setattr(linear_attention, "QUERIES", 10)
    found = layer._mix(query, key, value, torch.arange(23)[None], None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_decay_shrinks_by_head_and_towards_the_last_layer() -> None:
    first, last = decays(8, 0, 10), decays(8, 9, 10)
    assert first == sorted(first, reverse=True)
    assert first[0] == pytest.approx(0.5, rel=1e-4)
    assert all(0 < late < 1e-4 * early for early, late in zip(first, last, strict=True))


@pytest.mark.parametrize("config", [SHARED, LINEAR], ids=["shared", "linear"])
def test_training_moves_every_parameter(config: ModelConfig) -> None:
    model = initialise(Decoder(config), 0).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = Optimiser(model, TrainerConfig(steps=3, learning_rate=1e-2))
    losses = []
    for _ in range(3):
        loss, weight, _ = CausalLM().loss(model, {"ids": random_ids(4, 20)})
        (loss / weight).backward()
        optimiser.step(1.0)
        model.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(LuhuoError, match="kv_share"):
        ModelConfig.parse({**SHARED.model_dump(), "qk_norm_after_rope": False})
    with pytest.raises(LuhuoError, match="kv_share"):
        ModelConfig.parse({**SHARED.model_dump(), "linear_layers": (1,)})
