"""Prompts that see themselves both ways, two rotary positions, and caches that are read again where they must be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.prefix import prefix_positions, prefix_tokens

END, GAP, OTHER_GAP = 5, 7, 8
CONFIG = ModelConfig(
    vocab_size=97,
    hidden_size=24,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    intermediate_size=40,
    max_positions=64,
    prefix_end=END,
)
TWO = CONFIG.model_copy(update={"rope": RopeConfig(axes=2), "gap_ids": (GAP, OTHER_GAP)})
LONGROPE = CONFIG.model_copy(
    update={
        "prefix_end": None,
        "rope": RopeConfig(
            kind="longrope",
            original_positions=16,
            short_factors=(1.0, 1.1, 1.2, 1.3),
            long_factors=(3.0, 7.0, 9.0, 30.0),
        ),
    }
)


def random_model(config: ModelConfig) -> Decoder:
    model = initialise(Decoder(config), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def random_ids(*shape: int) -> Tensor:
    """None of the tokens with a meaning."""
    return torch.randint(10, 97, shape, generator=torch.Generator().manual_seed(2))


def prompted(length: int, prompt: int) -> Tensor:
    ids = random_ids(1, length)
    ids[0, prompt] = END
    return ids


def test_a_prompt_ends_before_the_first_end_token_of_its_document() -> None:
    ids = torch.tensor([[9, 9, END, 9, END, 9, 9, 9, 9, END]])
    segments = torch.tensor([[1, 1, 1, 1, 1, 2, 2, 3, 3, 3]])
    assert prefix_tokens(ids, None, END).int().tolist() == [[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert prefix_tokens(ids, segments, END).int().tolist() == [[1, 1, 0, 0, 0, 0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("ids", "first", "second"),
    [
        ([9, 9, GAP, END, 9, 9], [0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3]),
        ([9, OTHER_GAP, 9, GAP, 9, END, 9], [0, 1, 2, 3, 4, 3, 3], [0, 0, 0, 0, 0, 1, 2]),
        ([9, OTHER_GAP, 9, END, GAP], [0, 1, 2, 1, 1], [0, 0, 0, 1, 2]),
        ([9, 9, END, 9], [0, 1, 1, 1], [0, 0, 1, 2]),
        ([9, 9, 9], [0, 1, 2], [0, 0, 0]),
    ],
    ids=["gap at the end", "first gap in the list", "no gap in the answer", "no gap", "no prompt"],
)
def test_the_first_position_stops_at_the_gap_and_the_second_counts_the_answer(
    ids: list[int], first: list[int], second: list[int]
) -> None:
    row = torch.tensor([ids])
    found = prefix_positions(row, None, prefix_tokens(row, None, END), (GAP, OTHER_GAP))
    assert found[0].T.tolist() == [first, second]


@pytest.mark.parametrize("config", [CONFIG, TWO], ids=["one axis", "two axes"])
def test_a_prompt_sees_itself_both_ways_and_the_answer_only_backwards(config: ModelConfig) -> None:
    model, ids = random_model(config), prompted(20, 8)
    before = model(ids)
    in_prompt, in_answer = ids.clone(), ids.clone()
    in_prompt[0, 7], in_answer[0, 15] = 96, 96
    assert (model(in_prompt)[0, :7] - before[0, :7]).abs().amax(-1).min() > 1e-3
    changed = (model(in_answer) - before)[0].abs().amax(-1)
    assert changed[:15].max() < 1e-5
    assert changed[15:].min() > 1e-3


def test_without_an_end_token_all_is_causal() -> None:
    model, ids = random_model(CONFIG), random_ids(1, 20)
    plain = Decoder(CONFIG.model_copy(update={"prefix_end": None}))
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(ids), plain(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, TWO], ids=["one axis", "two axes"])
def test_packed_prompts_have_the_logits_they_have_alone(config: ModelConfig) -> None:
    model = random_model(config)
    parts = [prompted(14, 5), random_ids(1, 9), prompted(20, 12)]
    segments = torch.repeat_interleave(torch.arange(1, 4), torch.tensor([14, 9, 20]))[None]
    packed = model(torch.cat(parts, 1), segments=segments)
    alone = torch.cat([model(part) for part in parts], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, TWO], ids=["one axis", "two axes"])
def test_answers_of_ragged_prompts_come_out_of_the_cache_as_in_a_whole_pass(config: ModelConfig) -> None:
    model = random_model(config)
    rows = [prompted(24, 10), prompted(24, 4)]
    starts, cache = [13, 6], KVCache(config, 2, 4)
    real = torch.arange(13)[None] < torch.tensor(starts)[:, None]
    first = model(torch.where(real, torch.cat(rows)[:, :13], END), segments=real.int(), cache=cache)
    found = [[first[row, : starts[row]]] for row in (0, 1)]
    for step in (1, 1, 5, 1):
        part = torch.cat([rows[row][:, cache.lengths[row] : cache.lengths[row] + step] for row in (0, 1)])
        for row, logits in enumerate(model(part, cache=cache)):
            found[row].append(logits)
    for row in (0, 1):
        expected = model(rows[row][:, : cache.lengths[row]])[0]
        torch.testing.assert_close(torch.cat(found[row]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, TWO], ids=["one axis", "two axes"])
def test_a_prompt_given_in_pieces_is_read_again_when_its_end_arrives(config: ModelConfig) -> None:
    model, ids = random_model(config), torch.cat([prompted(24, 10), prompted(24, 3)])
    cache = KVCache(config, 2, 4)
    last = [model(part, cache=cache) for part in ids[:, :20].split([6, 3, 6, 5], 1)][-1]
    torch.testing.assert_close(last, model(ids[:, :20])[:, 15:], rtol=1e-4, atol=1e-5)
    assert cache.lengths == [20, 20]
    torch.testing.assert_close(model(ids[:, 20:21], cache=cache), model(ids[:, :21])[:, 20:], rtol=1e-4, atol=1e-5)


def test_a_text_that_grows_beyond_longropes_context_is_read_again() -> None:
    model, ids = random_model(LONGROPE), random_ids(2, 40)
    cache = KVCache(LONGROPE, 2, 4)
    real = torch.arange(14)[None] < torch.tensor([14, 9])[:, None]
    model(ids[:, :14], segments=real.int(), cache=cache)
    for _ in range(12):
        part = torch.stack([ids[row, cache.lengths[row]] for row in (0, 1)])[:, None]
        logits = model(part, cache=cache)
        for row in (0, 1):
            whole = model(ids[row : row + 1, : cache.lengths[row]])[0, -1]
            torch.testing.assert_close(logits[row, 0], whole, rtol=1e-4, atol=1e-5)
    assert cache.lengths == [26, 21]


def test_a_cache_that_lost_rows_or_tokens_still_knows_what_it_holds() -> None:
    model, ids = random_model(LONGROPE), random_ids(3, 30)
    cache = KVCache(LONGROPE, 3, 4)
    model(ids[:, :15], cache=cache)
    cache.truncate([12, 12, 12])
    cache.select([2, 0])
    cache.resize([1, 0], 128)
    logits = model(ids[[0, 2], 12:20], cache=cache)
    torch.testing.assert_close(logits[:, -1], model(ids[[0, 2], :20])[:, -1], rtol=1e-4, atol=1e-5)


def test_two_axes_need_to_know_where_a_prompt_ends() -> None:
    with pytest.raises(LuhuoError, match="prefix_end"):
        ModelConfig.parse({**TWO.model_dump(), "prefix_end": None})
