"""Multi-head latent attention: its two forms are one function, and little is cached."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.model.cache import KVCache
from luhuo.model.config import MLAConfig, ModelConfig, RopeConfig
from luhuo.model.count import cache_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.mla import LatentAttention, attention_scale
from luhuo.train.config import TrainerConfig
from luhuo.train.optimisers import Optimiser

MLA = MLAConfig(q_rank=12, kv_rank=16, nope_dim=6, rope_dim=4, value_dim=5)
CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=24,
    layers=2,
    heads=4,
    kv_heads=4,
    head_dim=10,
    intermediate_size=32,
    qk_norm="none",
    mla=MLA,
    rope=RopeConfig(interleaved=True),
)


def random_model(config: ModelConfig = CONFIG) -> Decoder:
    model = initialise(Decoder(config), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(2))


def attention_of(model: Decoder) -> LatentAttention:
    attention = model.blocks[0].attention
    assert isinstance(attention, LatentAttention)
    return attention


def test_both_forms_are_the_same_function_with_the_same_gradients() -> None:
    attention, heads = attention_of(random_model()), CONFIG.heads
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 7, heads, MLA.nope_dim), (2, 7, heads, MLA.rope_dim), (2, 1, 7, MLA.kv_rank + MLA.rope_dim)]
    plain, turned, memory = (torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes)
    leaves = [plain, turned, memory]
    weight = attention.kv_up.weight
    naive, absorbed = (form(plain, turned, memory, None) for form in (attention._naive, attention._absorbed))
    torch.testing.assert_close(naive, absorbed, rtol=1e-4, atol=1e-5)
    slope = torch.randn(naive.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad(naive, [*leaves, weight], slope),
        torch.autograd.grad(absorbed, [*leaves, weight], slope),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_each_form_is_taken_where_it_needs_fewer_operations() -> None:
    attention = attention_of(random_model())
    assert attention._absorbs(1, 50)
    assert not attention._absorbs(50, 50)  # a whole pass: training, prefill
    assert not attention._absorbs(1, 1)
    assert not attention._absorbs(40, 50)  # a long chunk behind a short past


def test_decoding_never_expands_the_past() -> None:
    model, ids = random_model(), random_ids(1, 20)
    cache, rows = KVCache(CONFIG, 1), []
    with torch.no_grad():
        model(ids[:, :12], cache=cache)
        attention_of(model).kv_up.register_forward_hook(lambda module, inputs, result: rows.append(inputs[0].shape[1]))
        model(ids[:, 12:13], cache=cache)
    assert rows == []


@pytest.mark.parametrize("chunks", [[1] * 30, [9, 1, 1, 12, 1, 6], [3, 2, 20, 5]])
def test_a_cached_pass_in_any_chunks_gives_the_logits_of_a_whole_pass(chunks: list[int]) -> None:
    model, ids = random_model(), random_ids(2, 30)
    cache = KVCache(CONFIG, 2, 4)
    with torch.no_grad():
        found = torch.cat([model(part, cache=cache) for part in ids.split(chunks, 1)], 1)
        torch.testing.assert_close(found, model(ids), rtol=1e-4, atol=1e-5)


def test_a_token_costs_one_latent_and_one_rotary_key_per_layer() -> None:
    cache = KVCache(CONFIG, 3, 128)
    numbers = sum(tensor.numel() for tensor in [*cache.keys, *cache.values])
    assert numbers == 3 * 128 * 2 * (16 + 4)
    assert cache_per_token(CONFIG) == 2 * (16 + 4)
    deepseek = MLAConfig(q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, value_dim=128)
    v3 = CONFIG.model_copy(update={"mla": deepseek, "layers": 61, "heads": 128, "kv_heads": 128, "head_dim": 192})
    assert cache_per_token(v3) == 61 * 576
    full = v3.model_copy(update={"mla": None, "head_dim": 128})
    assert cache_per_token(full) / cache_per_token(v3) > 56


def test_a_stretched_context_sharpens_the_scores_by_mscale_squared() -> None:
    yarn = RopeConfig(kind="yarn", factor=40, original_positions=64, mscale=1.0, mscale_all_dim=0.7)
    plain, sharper = attention_scale(CONFIG), attention_scale(CONFIG.model_copy(update={"rope": yarn}))
    assert plain == pytest.approx(10**-0.5)
    assert sharper / plain == pytest.approx((1 + 0.07 * math.log(40)) ** 2)


def test_bf16_decoding_stays_near_fp32() -> None:
    model, ids = random_model(), random_ids(1, 40)
    with torch.no_grad():
        exact = model(ids)
        model.compute_in(torch.bfloat16)
        cache = KVCache(CONFIG, 1, 64, torch.bfloat16)
        found = torch.cat([model(part, cache=cache) for part in ids.split([30, *[1] * 10], 1)], 1)
    assert (found.float() - exact).std() < 0.05 * exact.std()


def test_the_size_of_a_head_is_that_of_its_two_parts() -> None:
    with pytest.raises(LuhuoError, match="nope_dim"):
        ModelConfig.parse({**CONFIG.model_dump(), "head_dim": 8})


@pytest.mark.parametrize("q_rank", [None, 12])
@pytest.mark.parametrize("bias", [False, True])
def test_parameters_are_those_counted(q_rank: int | None, bias: bool) -> None:
    mla = MLA.model_copy(update={"q_rank": q_rank})
    config = CONFIG.model_copy(update={"mla": mla, "qkv_bias": bias, "out_bias": bias})
    assert sum(parameters(config).values()) == sum(p.numel() for p in Decoder(config).parameters())


def test_muon_treats_the_latent_and_the_rotary_key_as_matrices_of_their_own() -> None:
    model = random_model()
    weight = attention_of(model).kv_down.weight
    before = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    Optimiser(model, TrainerConfig(steps=1, learning_rate=0.1, weight_decay=0.0)).step(1.0)
    for part in (before - weight).detach().split([MLA.kv_rank, MLA.rope_dim]):
        values = torch.linalg.svdvals(part / (0.1 * 0.2 * max(part.shape) ** 0.5))
        assert values.min() > 0.4
        assert values.max() < 1.35
