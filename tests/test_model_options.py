"""Attention's options against their formulas; gradients and half precision of random combinations of all options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.model.attention import attend
from luhuo.model.decoder import Decoder
from luhuo.model.masks import alibi_slopes, causal_mask
from tests.test_model_random import random_config, random_ids, random_model

EXACT: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
STEP = 1e-6


def random_parts(time: int, slots: int, batch: int = 2, heads: int = 4, kv_heads: int = 2) -> tuple[Tensor, ...]:
    """Query (B, H, T, 8), key (B, K, S, 8), value (B, K, S, 6)."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(batch, heads, time, 8), (batch, kv_heads, slots, 8), (batch, kv_heads, slots, 6)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def formula(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float = 8**-0.5) -> Tensor:
    """softmax(q · k · scale + bias) · v with the key heads repeated."""
    group = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(group, 1) for part in (key, value))
    return torch.softmax(query @ key.mT * scale + bias, -1) @ value


def causal(time: int) -> Tensor:
    return torch.full((time, time), -torch.inf).triu(1)


@pytest.mark.parametrize("time", [1, 5, 64, 65, 150])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("heads", [1, 4])
def test_a_mask_may_be_one_for_all_rows_and_heads_or_one_for_each(time: int, batch: int, heads: int) -> None:
    query, key, value = random_parts(time, time)
    bias = torch.randn(batch, heads, time, time, generator=torch.Generator().manual_seed(4)) + causal(time)
    torch.testing.assert_close(attend(query, key, value, bias), formula(query, key, value, bias), **EXACT)


@pytest.mark.parametrize("slots", [5, 9])
def test_without_causality_the_mask_alone_decides(slots: int) -> None:
    query, key, value = random_parts(5, slots)
    bias = torch.randn(2, 1, 5, slots, generator=torch.Generator().manual_seed(4))
    for found in (
        attend(query, key, value, bias, causal=False),
        attend(query, key, value, bias, causal=False, softcap=1e9),
    ):
        torch.testing.assert_close(found, formula(query, key, value, bias), **EXACT)


def test_a_sink_is_a_key_without_value() -> None:
    query, key, value = random_parts(7, 7)
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0])
    scores = query @ key.repeat_interleave(2, 1).mT * 8**-0.5 + causal(7)
    share = torch.softmax(torch.cat([scores, sinks[None, :, None, None].expand(2, 4, 7, 1)], -1), -1)[..., :7]
    expected = share @ value.repeat_interleave(2, 1)
    torch.testing.assert_close(attend(query, key, value, None, sinks=sinks), expected, **EXACT)


def test_soft_capped_scores_stay_within_the_cap() -> None:
    query, key, value = random_parts(7, 7)
    scores = 1.5 * torch.tanh(9 * query @ key.repeat_interleave(2, 1).mT * 8**-0.5 / 1.5)
    expected = torch.softmax(scores + causal(7), -1) @ value.repeat_interleave(2, 1)
    torch.testing.assert_close(attend(9 * query, key, value, None, softcap=1.5), expected, **EXACT)


def test_long_rows_written_out_in_parts_equal_the_formula() -> None:
    query, key, value = random_parts(700, 700, batch=1)
    found = attend(query, key, value, None, softcap=1e9)
    torch.testing.assert_close(found, formula(query, key, value, causal(700)), **EXACT)


@pytest.mark.parametrize("heads", [1, 2, 4, 6, 12])
def test_alibi_slopes_are_the_series_of_the_paper(heads: int) -> None:
    slopes = alibi_slopes(heads)
    assert len(slopes) == heads
    power = 2 ** math.floor(math.log2(heads))
    assert slopes[:power] == pytest.approx([2 ** (-8 * i / power) for i in range(1, power + 1)])
    between = [2 ** (-8 * i / (2 * power)) for i in range(1, 2 * power + 1, 2)]
    assert slopes[power:] == pytest.approx(between[: heads - power])


def test_alibi_takes_off_the_distance_times_the_slope() -> None:
    mask = causal_mask(torch.arange(6)[None], 6, torch.float32, slopes=(0.5, 0.25))
    assert mask.shape == (1, 2, 6, 6)
    assert mask[0, 0, 5].tolist() == [-2.5, -2.0, -1.5, -1.0, -0.5, 0.0]
    assert mask[0, 1, 3].tolist() == [-0.75, -0.5, -0.25, 0.0, -torch.inf, -torch.inf]


def test_a_window_shows_the_token_itself_and_those_just_before_it() -> None:
    mask = causal_mask(torch.tensor([[7], [2]]), 10, torch.float32, window=3)
    visible = [[int(slot) for slot in (row[0, 0] == 0).nonzero()] for row in mask]
    assert visible == [[5, 6, 7], [0, 1, 2]]


def loss(model: Decoder, ids: Tensor) -> Tensor:
    return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize("seed", range(10))
def test_gradients_are_the_slopes_of_the_loss(seed: int) -> None:
    """Each parameter's gradient along a random direction, against a difference of two losses, in double precision."""
    config = random_config(seed).model_copy(update={"qkv_clip": 0.0, "moe": None})
    model = Decoder(config).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            start = 1.0 if parameter.dim() == 1 else 0.0
            parameter.copy_(start + 0.3 * torch.randn(parameter.shape, generator=generator))
    ids = random_ids(2, 12)
    loss(model, ids).backward()
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator).double()
        assert parameter.grad is not None, name
        slope = (parameter.grad * direction).sum()
        with torch.no_grad():
            parameter += STEP * direction
            above = loss(model, ids)
            parameter -= 2 * STEP * direction
            below = loss(model, ids)
            parameter += STEP * direction
        torch.testing.assert_close(
            slope, (above - below) / (2 * STEP), rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("seed", range(24))
@torch.no_grad()
def test_half_precision_stays_close(seed: int) -> None:
    model = random_model(seed)
    if model.config.moe is not None:
        pytest.skip("a token near the border between two experts may go to the other one")
    ids = random_ids(2, 30)
    expected = model(ids)
    found = model.compute_in(torch.bfloat16)(ids)
    assert found.dtype == torch.bfloat16
    error = (found.float() - expected).norm() / expected.norm()
    assert error < 0.05
