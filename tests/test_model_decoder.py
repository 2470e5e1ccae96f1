"""The decoder: its parts, document masks and cache."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.model import fused
from luhuo.model.attention import attend
from luhuo.model.cache import BLOCK, KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.masks import causal_mask, document_positions

CONFIG = ModelConfig(
    vocab_size=97, hidden_size=24, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate_size=40, max_positions=512
)


def random_model(config: ModelConfig = CONFIG) -> Decoder:
    """Like a trained model: no matrix is zero."""
    model = initialise(Decoder(config), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(2))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, again, other = (initialise(Decoder(CONFIG), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["embedding"], other["embedding"])


def test_a_new_model_expects_every_token_about_equally() -> None:
    logits = initialise(Decoder(CONFIG), 0)(random_ids(2, 30))
    assert logits.std() < 0.5


def test_kv_heads_must_divide_heads() -> None:
    with pytest.raises(LuhuoError, match="kv_heads"):
        ModelConfig.parse({**CONFIG.model_dump(), "kv_heads": 3})


def test_later_tokens_do_not_change_earlier_logits() -> None:
    model, ids = random_model(), random_ids(1, 150)
    changed = ids.clone()
    changed[0, 100:] = (ids[0, 100:] + 1) % CONFIG.vocab_size
    before, after = model(ids), model(changed)
    assert torch.equal(before[0, :64], after[0, :64])
    torch.testing.assert_close(before[0, :100], after[0, :100])
    assert not torch.allclose(before[0, 100:], after[0, 100:])


def test_a_document_is_blind_to_the_documents_before_it_in_its_row() -> None:
    model, ids = random_model(), random_ids(1, 140)
    segments = torch.tensor([[1] * 50 + [2] * 70 + [0] * 20], dtype=torch.int32)
    changed = ids.clone()
    changed[0, :50] = (ids[0, :50] + 1) % CONFIG.vocab_size
    before, after = model(ids, segments=segments), model(changed, segments=segments)
    torch.testing.assert_close(before[0, 50:120], after[0, 50:120], rtol=0, atol=0)
    assert not torch.allclose(before[0, :50], after[0, :50])


def test_packed_documents_have_the_logits_they_have_alone() -> None:
    model, ids = random_model(), random_ids(1, 140)
    segments = torch.tensor([[3] * 50 + [4] * 90], dtype=torch.int32)
    packed = model(ids, segments=segments)
    torch.testing.assert_close(packed[:, :50], model(ids[:, :50]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[:, 50:], model(ids[:, 50:]), rtol=1e-4, atol=1e-5)


def test_positions_restart_in_each_document() -> None:
    segments = torch.tensor([[1, 1, 1, 2, 2, 0], [5, 6, 6, 6, 6, 6]])
    assert document_positions(segments).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]


@pytest.mark.parametrize("masked", [False, True])
def test_blocked_attention_equals_the_plain_formula_with_its_gradients(masked: bool) -> None:
    batch, heads, kv_heads, time, size = 2, 4, 2, 150, 8
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(batch, n, time, size, generator=generator, requires_grad=True) for n in (heads, kv_heads, kv_heads)
    ]
    segments = (torch.rand(batch, time, generator=generator) < 0.05).cumsum(1)
    segments = segments if masked else torch.ones_like(segments)
    mask = causal_mask(torch.arange(time)[None], time, torch.float32, segments=segments)
    query, key, value = leaves
    scores = query @ key.repeat_interleave(2, 1).mT / size**0.5 + mask
    expected = scores.softmax(-1) @ value.repeat_interleave(2, 1)
    found = attend(query, key, value, mask if masked else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    slope = torch.randn(expected.shape, generator=generator)
    for mine, theirs in zip(
        torch.autograd.grad(found, leaves, slope), torch.autograd.grad(expected, leaves, slope), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def _plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def _plain_rotate(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    normed = _plain_norm(x, weight)
    first, second = normed.chunk(2, -1)
    return normed * cos + torch.cat([second, first], -1) * sin


def test_hand_written_gradients_equal_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, 8, generator=generator, requires_grad=True)
    weight = torch.randn(3, 8, generator=generator, requires_grad=True)
    cos, sin = torch.randn(2, 1, 5, 1, 8, generator=generator)
    gate, up = x.chunk(2, -1)
    pairs = [
        (fused.rms_norm(x, weight[0], 1e-6), _plain_norm(x, weight[0])),
        (fused.norm_rotate(x, weight, cos, sin, 1e-6), _plain_rotate(x, weight, cos, sin)),
        (fused.swiglu(x), F.silu(gate) * up),
    ]
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs)
        slope = torch.randn(mine.shape, generator=generator)
        for a, b in zip(
            torch.autograd.grad(mine, [x, weight], slope, allow_unused=True, retain_graph=True),
            torch.autograd.grad(theirs, [x, weight], slope, allow_unused=True, retain_graph=True),
            strict=True,
        ):
            if a is not None or b is not None:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_ragged_batch_decodes_from_the_cache_as_each_row_does_alone() -> None:
    model, ids = random_model(), random_ids(3, 40)
    full = model(ids)
    lengths = [5, 19, 1]
    segments = (torch.arange(19) < torch.tensor(lengths)[:, None]).int()
    cache = KVCache(CONFIG, 3, capacity=1)
    prefill = model(ids[:, :19], segments=segments, cache=cache)
    assert cache.lengths == lengths
    for row, length in enumerate(lengths):
        torch.testing.assert_close(prefill[row, :length], full[row, :length], rtol=1e-4, atol=1e-5)
    for step in range(10):
        new = torch.stack([ids[row, length + step] for row, length in enumerate(lengths)])[:, None]
        logits = model(new, cache=cache)
        for row, length in enumerate(lengths):
            torch.testing.assert_close(logits[row, 0], full[row, length + step], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_several_tokens_may_follow_a_filled_cache() -> None:
    model, ids = random_model(), random_ids(2, 40)
    cache = KVCache(CONFIG, 2)
    model(ids[:, :9], segments=torch.tensor([[1] * 9, [1] * 4 + [0] * 5]), cache=cache)
    new = torch.stack([ids[0, 9:15], ids[1, 4:10]])
    logits, full = model(new, cache=cache), model(ids)
    torch.testing.assert_close(logits[0], full[0, 9:15], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[1], full[1, 4:10], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_cache_grows_and_keeps_what_it_holds() -> None:
    model, ids = random_model(), random_ids(1, BLOCK + 20)
    cache = KVCache(CONFIG, 1, capacity=8)
    model(ids[:, : BLOCK - 1], cache=cache)
    last = [model(ids[:, i : i + 1], cache=cache)[0, 0] for i in range(BLOCK - 1, BLOCK + 20)]
    assert cache.capacity > BLOCK
    torch.testing.assert_close(torch.stack(last), model(ids)[0, BLOCK - 1 :], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rows_of_a_cache_can_be_dropped_reordered_and_repeated() -> None:
    model, ids = random_model(), random_ids(3, 20)
    cache = KVCache(CONFIG, 3)
    model(ids[:, :10], segments=(torch.arange(10) < torch.tensor([[10], [6], [8]])).int(), cache=cache)
    cache.select([2, 0, 2])
    logits = model(torch.stack([ids[2, 8:9], ids[0, 10:11], ids[2, 8:9]]), cache=cache)
    full = model(ids)
    assert cache.lengths == [9, 11, 9]
    torch.testing.assert_close(logits[:, 0], full[[2, 0, 2], [8, 10, 8]], rtol=1e-4, atol=1e-5)


def test_bf16_arithmetic_on_fp32_weights_stays_near_fp32() -> None:
    model, ids = random_model(), random_ids(2, 70)
    exact = model(ids)
    model.compute_in(torch.bfloat16)
    rough = model(ids)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).std() < 0.04 * exact.std()
    assert all(p.dtype == torch.float32 for p in model.parameters())
