"""Prompts in bf16 on a CPU fill a cache by compiled attention, from its beginning and behind what it holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.evaluation.shared_prefix import SharedPrefixCache
from luhuo.model import fused_attention
from luhuo.model.cache import KVCache
from luhuo.model.decoder import Decoder
from tests.compiled_cases import VARIANTS, needs_compiler, small

WINDOWS = {"windows": (0, 40)}


@needs_compiler
@pytest.mark.parametrize("changes", VARIANTS)
def test_prompts_in_bf16_fill_a_cache_as_the_modules_fill_it(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = (
        small(torch.bfloat16, **changes),
        torch.randint(96, (3, 300), generator=torch.Generator().manual_seed(4)),
    )
    segments = (torch.arange(300) < torch.tensor([300, 7, 140])[:, None]).int()
    real = segments.bool()

    def run() -> tuple[Tensor, KVCache]:
        cache = KVCache(model.config, 3, 300, torch.bfloat16)
        with torch.inference_mode():
            return model(ids, segments=segments, cache=cache).float()[real], cache

    found, cache = run()
    monkeypatch.setattr(fused_attention, "usable", lambda *_: False)
    expected, other = run()
    torch.testing.assert_close(found, expected, atol=0.05 * float(expected.abs().max()), rtol=0)
    assert cache.lengths == other.lengths == [300, 7, 140]
    for kept, wanted in zip([*cache.keys, *cache.values], [*other.keys, *other.values], strict=True):
        kept, wanted = (part[:, :, :300].transpose(1, 2)[real].float() for part in (kept, wanted))
        torch.testing.assert_close(kept, wanted, atol=0.05 * float(wanted.abs().max()), rtol=0)


def in_pieces(model: Decoder, ids: Tensor, sizes: list[int]) -> tuple[Tensor, KVCache]:
    """Hidden states of a text that is read in pieces, and the cache."""
    cache, found, start = KVCache(model.config, len(ids), ids.shape[1], torch.bfloat16), [], 0
    with torch.inference_mode():
        for size in sizes:
            found.append(model.hidden(ids[:, start : start + size], cache=cache))
            start += size
    return torch.cat(found, 1).float(), cache


@needs_compiler
@pytest.mark.parametrize("changes", [*VARIANTS, WINDOWS])
def test_a_text_in_pieces_is_the_same_as_in_one(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """300 tokens reach over three blocks of queries; of the windowed layer only the first pieces are compiled."""
    model = small(torch.bfloat16, **changes)
    ids = torch.randint(96, (2, 300), generator=torch.Generator().manual_seed(5))
    whole, _ = in_pieces(model, ids, [300])
    taken: list[int] = []
    compiled = fused_attention.attention_behind

    def counted(projected: Tensor, *given: Any) -> Tensor:
        taken.append(projected.shape[1])
        return compiled(projected, *given)

    monkeypatch.setattr(fused_attention, "attention_behind", counted)
    for sizes in ([20, 15, 140, 125], [7, 1, 292], [64, 236]):
        taken.clear()
        found, cache = in_pieces(model, ids, sizes)
        torch.testing.assert_close(found, whole, atol=0.04 * float(whole.abs().max()), rtol=0)
        assert cache.lengths == [300, 300]
        both = [size for size in sizes if size > 1 for _ in range(2)]
        assert taken == both if changes != WINDOWS else set(taken) == {size for size in sizes if size > 1}


@needs_compiler
def test_rows_of_different_lengths_and_rounded_caches_go_on_by_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(torch.bfloat16)
    ids = torch.randint(96, (2, 60), generator=torch.Generator().manual_seed(6))
    ragged, rounded = (
        KVCache(model.config, 2, 60, torch.bfloat16),
        KVCache(model.config, 2, 60, torch.bfloat16, stored=torch.int8),
    )
    with torch.inference_mode():
        whole = model.hidden(ids).float()
        model.hidden(ids[:, :20], segments=(torch.arange(20) < torch.tensor([20, 9])[:, None]).int(), cache=ragged)
        model.hidden(ids[:, :20], cache=rounded)
        monkeypatch.setattr(fused_attention, "attention_behind", None)
        behind = torch.stack([ids[0, 20:50], ids[1, 9:39]])
        first = model.hidden(behind, cache=ragged).float()
        second = model.hidden(ids[:, 20:], cache=rounded).float()
    close = {"atol": 0.05 * float(whole.abs().max()), "rtol": 0}
    torch.testing.assert_close(first[0], whole[0, 20:50], **close)
    torch.testing.assert_close(first[1], whole[1, 9:39], **close)
    torch.testing.assert_close(second, whole[:, 20:], **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_behind_a_shared_text_are_as_if_each_had_read_it(dtype: torch.dtype) -> None:
    model = small(dtype)
    ids = torch.randint(96, (3, 50), generator=torch.Generator().manual_seed(7))
    ids[:, :30] = ids[0, :30]
    with torch.inference_mode():
        whole = model.hidden(ids).float()[:, 30:]
        front = KVCache(model.config, 1, 30, dtype)
        model.hidden(ids[:1, :30], cache=front)
        cache = SharedPrefixCache(model.config, front, 3, 20)
        assert cache.even
        found = model.hidden(ids[:, 30:], cache=cache).float()
    share = 1e-4 if dtype == torch.float32 else 0.04
    torch.testing.assert_close(found, whole, atol=share * float(whole.abs().max()), rtol=0)
    assert cache.lengths == [20, 20, 20]
