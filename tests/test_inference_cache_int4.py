"""The key-value cache in 4 bits: its rounding is bounded, half a byte a feature, and answers need no company."""

from __future__ import annotations

import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.inference.decode_step import DecodeStep
from luhuo.inference.engine import Engine
from luhuo.inference.prefix_cache import PrefixCache
from luhuo.inference.sampling import Sampling
from luhuo.kernels.native import library
from luhuo.model.cache import KVCache, bytes_per_token
from luhuo.model.cache_formats import INT4, KEYS, VALUES, group_of, quantise, widened
from tests.small_chat import random_prompts, small_config, small_model

GREEDY = Sampling(max_tokens=12, temperature=0, ignore_eos=True)


@pytest.mark.parametrize("width", [2, 12, 16, 64, 96, 256])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("most", [KEYS, VALUES])
def test_a_number_errs_by_half_a_step_of_its_group_at_most(width: int, size: float, most: int) -> None:
    generator = torch.Generator().manual_seed(width)
    x = size * (torch.randn(3, 2, 5, width, generator=generator) + 4)  # far off zero, as keys are
    numbers, scales = quantise(x, INT4, most)
    assert numbers.dtype == torch.uint8 and numbers.shape[-1] == width // 2
    found = widened(numbers, scales, INT4, torch.float32)
    grouped = x.unflatten(-1, (-1, group_of(width, most)))
    step = (grouped.amax(-1) - grouped.amin(-1)) / 15
    error = (found - x).abs().unflatten(-1, (-1, group_of(width, most))).amax(-1)
    slack = 2e-3 * grouped.abs().amax(-1) + 1e-6  # scales and lows are fp16
    assert bool((error <= 0.51 * step + slack).all())


def test_vectors_of_equal_numbers_come_back() -> None:
    for value in (0.0, 1.5, -3.0):
        x = torch.full((1, 1, 2, 32), value)
        assert torch.equal(widened(*quantise(x, INT4, VALUES), INT4, torch.float32), x)


def test_a_low_of_its_own_loses_less_than_one_scale_where_numbers_lie_off_zero() -> None:
    x = torch.randn(1, 4, 50, 64, generator=torch.Generator().manual_seed(0)) + 3
    ours = (widened(*quantise(x, INT4, VALUES), INT4, torch.float32) - x).square().mean()
    step = x.unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True) / 8
    symmetric = ((x.unflatten(-1, (-1, 32)) / step).round().clamp(-8, 7) * step).flatten(-2)
    assert ours < 0.5 * (symmetric - x).square().mean()


def test_a_token_takes_six_bits_a_feature_of_its_keys_and_five_of_its_values() -> None:
    config = small_config()
    cache = KVCache(config, 1, 128, stored=INT4)
    held = sum(tensor.nbytes for tensors in cache.lists for tensor in tensors)
    assert held == 128 * bytes_per_token(config, INT4)
    wide = small_config(head_dim=64)
    features = sum(heads * size for widths in wide.layer_widths for heads, size in widths)
    assert bytes_per_token(wide, INT4) * 8 == 5.5 * features


def test_a_width_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(LuhuoError, match="int8"):
        quantise(torch.randn(1, 1, 2, 7), INT4, KEYS)


def test_answers_stay_close_and_are_the_same_in_any_company() -> None:
    model, prompts = small_model(), random_prompts(6, 50)
    engine = Engine(model, max_batch=6, cache_dtype="int4", step_tokens=40, cache_tokens=400)
    together = [out.token_ids for out in engine.generate(prompts, GREEDY)]
    for prompt, found in zip(prompts, together, strict=True):
        alone = Engine(model, prefix_cache=False, cache_dtype="int4", step_tokens=10**6, speculate="never")
        assert alone.generate([prompt], GREEDY)[0].token_ids == found
    logits = []
    for stored in (None, torch.int8, INT4):
        cache = KVCache(model.config, 1, 64, stored=stored)
        with torch.no_grad():
            model(torch.tensor([prompts[3]]), cache=cache)
            logits.append(model(torch.tensor([[33]]), cache=cache)[0, -1].log_softmax(-1))
    eight, four = (float((logits[0].exp() * (logits[0] - other)).sum().abs()) for other in logits[1:])
    assert eight < four < 0.1  # Kullback-Leibler divergence, in nats


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
@pytest.mark.parametrize("stored", [torch.int8, INT4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [16, 64, 48])
def test_the_compiled_step_keeps_and_reads_what_the_modules_do(
    stored: torch.dtype, dtype: torch.dtype, head_dim: int
) -> None:
    model = small_model(head_dim=head_dim).to(dtype)
    step, ids = DecodeStep.of(model), torch.randint(60, (3, 9), generator=torch.Generator().manual_seed(3))
    assert step is not None
    segments = (torch.arange(9) < torch.tensor([9, 4, 6])[:, None]).int()
    caches = [KVCache(model.config, 3, 9, dtype, stored=stored) for _ in range(2)]
    with torch.inference_mode():
        for cache in caches:
            model(ids, segments=segments, cache=cache)
        found = expected = torch.empty(0)
        for turn in range(5):
            assert step.fits(caches[1])
            expected = model(ids[:, turn : turn + 1], cache=caches[0])[:, 0].float()
            found = step(ids[:, turn], caches[1])
    # A sum in another order may cross the middle between two numbers, and is then a whole step off.
    tolerance = 0.08 if dtype == torch.bfloat16 else 3e-3 if stored == torch.int8 else 0.02
    torch.testing.assert_close(found, expected, atol=tolerance * float(expected.abs().max()), rtol=0)
    if dtype == torch.float32:
        for ours, theirs in zip(caches[1].lists[:2], caches[0].lists[:2], strict=True):
            same = torch.cat([(mine == kept).flatten() for mine, kept in zip(ours, theirs, strict=True)])
            assert same.float().mean() > 0.99


def test_rows_move_and_beginnings_are_kept_in_four_bits() -> None:
    config = small_config()
    cache = KVCache(config, 2, 128, stored=INT4)
    for tensors in cache.lists:
        for tensor in tensors:
            tensor.copy_(torch.randint(0, 99, tensor.shape))
    kept, ids = PrefixCache(), list(range(100))
    kept.save(cache, [(1, ids)], 1000, adapter=None)
    fresh = KVCache(config, 3, 128, stored=INT4)
    kept.load(kept.match([*ids, 1]), fresh, 2)
    cache.lengths = [0, 96]
    cache.resize([None, 1], 256)
    for ours, theirs in zip(fresh.lists, cache.lists, strict=True):
        for mine, moved in zip(ours, theirs, strict=True):
            assert torch.equal(mine[2, :, :96], moved[1, :, :96])
