"""Packed rows in blocks: the lists of blocks that are computed, and the same result as with a mask of all numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from luhuo.model import flex
from luhuo.model.attention import attend
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.masks import CausalMasks, causal_mask

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 32,
}


def documents(time: int) -> Tensor:
    """Segments (2, time): documents of various lengths, and padding at the end of the second row."""
    generator = torch.Generator().manual_seed(time)
    segments = (torch.rand(2, time, generator=generator) < 4 / time).cumsum(1).int() + 1
    segments[1, -time // 5 :] = 0
    return segments


def masks(segments: Tensor | None, time: int, *, blocks: bool, window: int = 0) -> CausalMasks:
    slots = torch.arange(time)[None]
    return CausalMasks(slots, time, torch.float32, segments=segments, windows=(window,), plain=False, blocks=blocks)


@pytest.mark.parametrize("time", [128, 300, 640])
@pytest.mark.parametrize("window", [0, 70])
def test_attention_in_blocks_is_that_of_the_whole_mask(time: int, window: int) -> None:
    segments, generator = documents(time), torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, time, 16, generator=generator) for heads in (4, 2, 2))
    block = masks(segments, time, blocks=True, window=window)[window]
    whole = causal_mask(torch.arange(time)[None], time, torch.float32, segments=segments, window=window)
    assert isinstance(block, BlockMask)
    found = attend(query, key, value, block, softcap=5.0)
    torch.testing.assert_close(found, attend(query, key, value, whole, softcap=5.0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0, 200])
def test_blocks_that_no_query_sees_are_left_out_and_no_other(window: int) -> None:
    time = 1000
    segments = documents(time)
    block = masks(segments, time, blocks=True, window=window)[window]
    assert isinstance(block, BlockMask)
    whole = causal_mask(torch.arange(time)[None], time, torch.float32, segments=segments, window=window) == 0
    padded = torch.nn.functional.pad(whole[:, 0], (0, 24, 0, 24)).view(2, 8, 128, 8, 128).transpose(2, 3)
    assert torch.equal(block.to_dense()[:, 0].bool(), padded.flatten(3).any(-1))


def test_blocks_between_documents_cost_nothing() -> None:
    segments = torch.arange(2048)[None] // 256 + 1
    block = masks(segments, 2048, blocks=True)[0]
    assert isinstance(block, BlockMask)
    assert (
        int(block.to_dense().sum()) == 8 * 3
    )  # of each document the diagonal and one below, of 136 without documents


def test_a_block_all_of_whose_queries_see_all_of_its_keys_needs_no_mask() -> None:
    block = masks(torch.ones(1, 512, dtype=torch.int32), 512, blocks=True)[0]
    assert isinstance(block, BlockMask) and block.full_kv_num_blocks is not None
    assert block.full_kv_num_blocks.flatten().tolist() == [0, 1, 2, 3]
    assert block.kv_num_blocks.flatten().tolist() == [1, 1, 1, 1]


def test_all_layers_of_a_window_share_one_mask() -> None:
    made = masks(documents(256), 256, blocks=True, window=64)
    assert made[0] is made[0] and made[64] is made[64] and made[0] is not made[64]


def test_masks_that_are_more_than_a_first_slot_stay_whole() -> None:
    slots = torch.arange(8)[None]
    steep = CausalMasks(slots, 8, torch.float32, segments=documents(8), slopes=(0.5,), blocks=True)
    prefix = torch.zeros(2, 8, dtype=torch.bool)
    seen = CausalMasks(slots, 8, torch.float32, segments=documents(8), prefix=prefix, blocks=True)
    cached = CausalMasks(slots[:, -2:], 8, torch.float32, plain=True, windows=(4,), blocks=True)
    assert all(isinstance(mask, Tensor) for mask in (steep[0], seen[0], cached[4]))


@pytest.mark.parametrize("changes", [{}, {"windows": (0, 40)}, {"attention_softcap": 20.0}])
def test_a_model_gives_the_same_states_in_blocks(changes: dict[str, Any]) -> None:
    model = initialise(Decoder(ModelConfig(**SMALL | changes)), 0).train()
    segments = documents(200)
    ids = torch.randint(0, 61, segments.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model.hidden(ids, segments=segments)
        model.in_blocks = True
        found = model.hidden(ids, segments=segments)
        model.eval()
        torch.testing.assert_close(model.hidden(ids, segments=segments), expected)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", [{"attention_sinks": True}, {"linear_layers": (0,), "kv_heads": 4}])
def test_models_that_need_whole_masks_get_them(changes: dict[str, Any]) -> None:
    model = initialise(Decoder(ModelConfig(**SMALL | changes)), 0).train()
    segments = documents(64)
    ids = torch.randint(0, 61, segments.shape)
    expected = model.hidden(ids, segments=segments)
    model.in_blocks = True
    assert torch.equal(model.hidden(ids, segments=segments), expected)


def test_a_cpu_never_uses_it_by_itself() -> None:
    assert not flex.usable(torch.device("cpu"))
