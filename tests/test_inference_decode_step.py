"""The compiled step gives what the modules give, and knows when it may not be taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from luhuo.inference import decode_step
from luhuo.inference.decode_step import DecodeStep
from luhuo.model.cache import KVCache
from luhuo.model.quantised import quantise_model
from tests.compiled_cases import LLAMA, VARIANTS, needs_compiler, small


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("scheme", [None, "int8", "int4"])
def test_the_compiled_step_gives_what_the_modules_give(
    dtype: torch.dtype, changes: dict[str, Any], scheme: str | None
) -> None:
    model = small(dtype, **changes)
    if scheme:
        quantise_model(model, scheme)
    step = DecodeStep.of(model)
    assert step is not None
    ids = torch.randint(96, (3, 9), generator=torch.Generator().manual_seed(3))
    segments = (torch.arange(9) < torch.tensor([9, 4, 6])[:, None]).int()
    with torch.inference_mode():
        caches = [KVCache(model.config, 3, 9, dtype) for _ in range(2)]
        for cache in caches:
            model(ids, segments=segments, cache=cache)
        for turn in range(130):  # beyond the cache's first block
            counts = [1, turn % 2, 1]
            token = torch.randint(96, (3,), generator=torch.Generator().manual_seed(turn))
            assert step.fits(caches[1])
            real = torch.tensor(counts)[:, None]
            expected = model(token[:, None], segments=real, cache=caches[0])[:, 0].float()
            rows = [row for row in range(3) if counts[row]]
            found = step.read(rows, [[int(token[row])] for row in rows], caches[1])
            assert caches[0].lengths == caches[1].lengths
    tolerance = 2e-4 if dtype == torch.float32 and scheme is None else 0.05  # few bits: activations in bf16
    torch.testing.assert_close(found, expected[rows], atol=tolerance * float(expected.abs().max()), rtol=0)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", VARIANTS)
def test_prompts_and_single_tokens_in_one_call_give_what_the_modules_give(
    dtype: torch.dtype, changes: dict[str, Any]
) -> None:
    model = small(dtype, **changes)
    step = DecodeStep.of(model)
    assert step is not None
    ids = torch.randint(96, (4, 40), generator=torch.Generator().manual_seed(3))
    known, new = [20, 0, 7, 3], [1, 40, 17, 1]  # an answer, a new prompt, the end of one, an answer in front of others
    with torch.inference_mode():
        caches = [KVCache(model.config, 4, 64, dtype) for _ in range(2)]
        segments = (torch.arange(40) < torch.tensor(known)[:, None]).int()
        for cache in caches:
            model(ids, segments=segments, cache=cache)
        real = (torch.arange(40) < torch.tensor(new)[:, None]).int()
        expected = model(ids, segments=real, cache=caches[0]).float()[range(4), [count - 1 for count in new]]
        order = [3, 1, 0, 2]
        assert step.fits(caches[1], sum(new), 40) == (sum(new) <= decode_step.MOST_TOKENS[dtype])
        assert step.fits(caches[1], 16, 40)
        found = step.read(order, [ids[row, : new[row]].tolist() for row in order], caches[1])
        after = [model(ids[:, :1], cache=cache)[:, 0].float() for cache in caches]
    assert caches[0].lengths == caches[1].lengths
    atol = (2e-4 if dtype == torch.float32 else 0.05) * float(expected.abs().max())
    torch.testing.assert_close(found, expected[order], atol=atol, rtol=0)
    torch.testing.assert_close(after[1], after[0], atol=atol, rtol=0)


@needs_compiler
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 32), (6, 2, 96), (7, 1, 64), (2, 1, 256), (2, 1, 48)])
def test_sixteen_rows_of_unequal_lengths_look_at_a_cache_in_bf16(heads: int, kv_heads: int, size: int) -> None:
    model = small(**LLAMA | {"heads": heads, "kv_heads": kv_heads, "head_dim": size})
    step = DecodeStep.of(model)
    assert step is not None
    lengths = torch.tensor([1, 2, 15, 16, 17, 31, 32, 33, 48, 3, 5, 7, 9, 11, 13, 40])
    ids = torch.randint(96, (16, 50), generator=torch.Generator().manual_seed(3))
    exact, halved = KVCache(model.config, 16, 64), KVCache(model.config, 16, 64, torch.bfloat16)
    with torch.inference_mode():
        for cache in (exact, halved):
            model(ids, segments=(torch.arange(50) < lengths[:, None]).int(), cache=cache)
        assert step.fits(exact) and step.fits(halved)
        expected, found = step(ids[:, 0], exact), step(ids[:, 0], halved)
    # Keys, values and queries have eight bits each; were a slot left out or one too many, this would be far off.
    torch.testing.assert_close(found, expected, atol=0.01 * float(expected.abs().max()), rtol=0)


@needs_compiler
def test_the_step_sees_weights_that_change_and_leaves_models_it_does_not_know_alone() -> None:
    model = small()
    step, cache = DecodeStep.of(model), KVCache(model.config, 1, 8)
    assert step is not None and step.fits(cache)
    before = step(torch.tensor([5]), cache)
    with torch.no_grad():
        model.blocks[0].mlp.down.weight.mul_(3)  # type: ignore[union-attr]
    cache.truncate([0])
    changed = step(torch.tensor([5]), cache)
    assert not torch.equal(before, changed)
    torch.testing.assert_close(changed, model(torch.tensor([[5]]))[:, 0], atol=1e-4, rtol=1e-4)
    model.blocks[0].mlp.down = torch.nn.Linear(96, 64)  # type: ignore[assignment]
    assert not step.fits(cache)
    for changes in ({"windows": (3, 0)}, {"norm": "layer"}, {"logit_softcap": 3.0}, {"activation": "gelu"}):
        assert DecodeStep.of(small(**changes)) is None
    assert not step.fits(KVCache(model.config, 17, 8))
    assert not step.fits(KVCache(model.config, 1, 8, stored=torch.float16))


@needs_compiler
@pytest.mark.parametrize("scheme", [None, "int8"])
def test_a_request_that_goes_on_sees_tensors_that_were_replaced(scheme: str | None) -> None:
    model = small()
    if scheme:
        quantise_model(model, scheme)
    step, cache, token = DecodeStep.of(model), KVCache(model.config, 1, 128), torch.tensor([5])
    assert step is not None and step.fits(cache)
    before = step(token, cache)
    norm = model.blocks[0].mlp_norm.weight  # type: ignore[union-attr]
    norm.data = norm.data * 3  # type: ignore[union-attr, operator]
    expected = model(token[None])[:, 0]
    for _ in range(decode_step.EVERY):  # in the middle of a model: seen after some steps at the latest
        assert step.fits(cache, going_on=True)
        cache.truncate([0])
        found = step(token, cache)
        assert torch.equal(found, before) or torch.allclose(found, expected, atol=0.05 * float(expected.abs().max()))
    assert not torch.equal(found, before)
    model.norm.weight.data = model.norm.weight.data * 2  # type: ignore[union-attr, operator]
    assert step.fits(cache, going_on=True)  # at its end: at once
    cache.truncate([0])
    torch.testing.assert_close(step(token, cache), 2 * found)


@needs_compiler
@pytest.mark.parametrize("token", [-1, 96])
def test_a_token_that_the_model_does_not_have_is_an_error(token: int) -> None:
    model = small()
    step, cache = DecodeStep.of(model), KVCache(model.config, 1, 8)
    assert step is not None and step.fits(cache)
    with pytest.raises(IndexError, match="does not have"):
        step.read([0], [[5, token]], cache)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_behind_every_token_are_those_of_the_modules(dtype: torch.dtype) -> None:
    """As guesses at next tokens are checked: some tokens of each row at once."""
    model = small(dtype)
    step = DecodeStep.of(model)
    assert step is not None
    ids = torch.randint(96, (3, 40), generator=torch.Generator().manual_seed(9))
    texts = [ids[0, 20:25].tolist(), ids[1, 20:21].tolist(), ids[2, 20:29].tolist()]
    cache = KVCache(model.config, 3, 40, dtype)
    with torch.inference_mode():
        expected = model(ids).float()
        model(ids[:, :20], cache=cache)
        assert step.fits(cache, 15, 29)
        found = step.read([0, 1, 2], texts, cache, every=True)
    assert cache.lengths == [25, 21, 29]
    wanted = torch.cat([expected[row, 20 : 20 + len(text)] for row, text in enumerate(texts)])
    share = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, wanted, atol=share * float(wanted.abs().max()), rtol=0)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_s_logits_have_the_same_bits_in_any_company(dtype: torch.dtype) -> None:
    """Alone, as one of several guesses, and beside other texts: so no answer depends on who else asks."""
    model = small(dtype, hidden_size=200, intermediate_size=300)
    step = DecodeStep.of(model)
    assert step is not None
    ids = torch.randint(96, (13,), generator=torch.Generator().manual_seed(11)).tolist()

    def read(texts: list[list[int]], every: bool) -> torch.Tensor:
        cache = KVCache(model.config, len(texts), 32, dtype)
        assert step.fits(cache, sum(map(len, texts)), 13)
        return step.read(range(len(texts)), texts, cache, every=every)

    alone = KVCache(model.config, 1, 32, dtype)
    one_by_one = []
    for token in ids:
        assert step.fits(alone)
        one_by_one.append(step.read([0], [[token]], alone)[0])
    for count in range(1, 14):
        assert torch.equal(read([ids[:count]], every=True), torch.stack(one_by_one[:count]))
        beside = [[(7 * i + j) % 96 for j in range(1 + i % 3)] for i in range(count - 1)]
        assert torch.equal(read([*beside, ids[:5]], every=False)[-1], one_by_one[4])
