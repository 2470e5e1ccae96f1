"""What an encoder-decoder promises beyond equal numbers: pairs kept apart, a cache, greedy writing, training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.model.count_stack import parameters
from luhuo.model.cross_cache import CrossCache
from luhuo.model.encoder_decoder import EncoderDecoder, generate_greedily
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.families import read_config
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.load import load
from luhuo.model.save import save

STACK: dict[str, Any] = {"hidden_size": 24, "layers": 2, "heads": 3, "head_dim": 8, "intermediate_size": 40}
T5_STACK = {
    **STACK,
    "norm": "rms",
    "block": "pre",
    "embedding_norm": False,
    "final_norm": True,
    "positions": "buckets",
    "buckets": 8,
    "attention_scale": 1.0,
    "qkv_bias": False,
    "out_bias": False,
    "mlp_bias": False,
    "activation": "gelu_tanh",
    "gated": True,
}
COMMON: dict[str, Any] = {"vocab_size": 53, "stop_ids": [1], "pad_id": 0, "start_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "t5": {**COMMON, "encoder": T5_STACK, "decoder": {**T5_STACK, "layers": 3}, "tie_embeddings": False},
    "tied": {**COMMON, "encoder": T5_STACK, "decoder": T5_STACK, "logit_scale": 24**-0.5},
    "bart": {
        **COMMON,
        "family": "bart",
        "encoder": {**STACK, "max_positions": 30, "position_offset": 2},
        "decoder": {**STACK, "max_positions": 30, "position_offset": 2, "intermediate_size": 32},
        "head_bias": True,
        "embedding_scale": 24**0.5,
        "forced_last_id": 1,
    },
}


def model_of(name: str) -> EncoderDecoder:
    """A model of one of the shapes, with biases that are not zero."""
    model = initialise_stack(EncoderDecoder(EncoderDecoderConfig.parse(SHAPES[name])), 0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def ids_of(*shape: int, seed: int = 3) -> Tensor:
    return torch.randint(2, 53, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_sees_its_own_text_and_what_stands_before_it(name: str) -> None:
    model, ids, written = model_of(name), ids_of(1, 12), ids_of(1, 8, seed=4)
    segments, answers = torch.tensor([[1] * 5 + [2] * 7]), torch.tensor([[1] * 4 + [2] * 4])
    changed_text, changed_answer = ids.clone(), written.clone()
    changed_text[0, 6], changed_answer[0, 6] = 52, 52
    with torch.no_grad():
        plain = model(ids, written, segments=segments, decoder_segments=answers)
        other_text = model(changed_text, written, segments=segments, decoder_segments=answers)
        other_answer = model(ids, changed_answer, segments=segments, decoder_segments=answers)
    assert torch.equal(plain[0, :4], other_text[0, :4])
    assert (plain[0, 4:] - other_text[0, 4:]).abs().amax(-1).min() > 1e-6
    assert torch.equal(plain[0, :6], other_answer[0, :6])
    assert (plain[0, 6:] - other_answer[0, 6:]).abs().amax(-1).min() > 1e-6


@pytest.mark.parametrize("name", SHAPES)
def test_the_text_is_read_once_and_its_states_can_be_handed_over(name: str) -> None:
    model, ids, written = model_of(name), ids_of(2, 12), ids_of(2, 6)
    mask = torch.tensor([[1] * 12, [1] * 9 + [0] * 3])
    with torch.no_grad():
        expected = model(ids, written, segments=mask)
        memory = model.encode(ids, segments=mask)
        handed = model.head(model.hidden(None, written, segments=mask, memory=memory))
        assert torch.equal(handed, expected)
        cache = CrossCache(model.config, 2)
        steps = [model(ids, written[:, :1], segments=mask, cache=cache)]
        steps += [model(None, written[:, i : i + 1], cache=cache) for i in range(1, 6)]
    assert (torch.cat(steps, 1) - expected).abs().max() < 1e-5
    with pytest.raises(LuhuoError, match=r"nothing to read|没有可读的输入"):
        model(None, written)


@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_the_cache_can_be_chosen_repeated_and_shortened(name: str) -> None:
    """As beam search needs it."""
    model, ids, written = model_of(name), ids_of(3, 12), ids_of(3, 6)
    mask = (torch.arange(12) < torch.tensor([[12], [7], [10]])).int()
    rows = [2, 1, 1]
    with torch.no_grad():
        cache = CrossCache(model.config, 3)
        model(ids, written[:, :5], segments=mask, cache=cache)
        cache.select(rows)
        cache.truncate([3, 3, 3])
        found = model(None, written[rows, 3:5], cache=cache)
        expected = model(ids[rows], written[rows, :5], segments=mask[rows])[:, 3:]
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_greedy_writing_is_the_likeliest_token_again_and_again(name: str) -> None:
    model, ids = model_of(name), ids_of(2, 9)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    found = generate_greedily(model, ids, segments=mask, max_tokens=7)
    for row in (0, 1):
        text = ids[row, mask[row] > 0][None]
        written = [0]
        while len(written) < 8 and (len(written) == 1 or written[-1] != 1):
            with torch.no_grad():
                written.append(int(model(text, torch.tensor([written]))[0, -1].argmax()))
        if len(written) == 8 and model.config.forced_last_id is not None:
            written[-1] = model.config.forced_last_id
        assert found[row] == written[1:]
    assert all(row[0] == 40 for row in generate_greedily(model, ids, max_tokens=3, first_id=40))


def test_without_a_start_token_nothing_can_be_written() -> None:
    config = EncoderDecoderConfig.parse({**SHAPES["t5"], "start_id": None})
    with pytest.raises(LuhuoError, match="decoder_start_token_id"):
        generate_greedily(initialise_stack(EncoderDecoder(config), 0), ids_of(1, 4))


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_takes_part_and_the_count_adds_up(name: str) -> None:
    model = model_of(name)
    model(ids_of(2, 12), ids_of(2, 6)).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle
    assert sum(parameters(model.config).values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_a_fresh_model_learns_to_write_a_text_backwards(name: str) -> None:
    """A dozen texts by heart: gradients reach both stacks, whatever the layout."""
    model = initialise_stack(EncoderDecoder(EncoderDecoderConfig.parse(SHAPES[name])), 0)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    ids = ids_of(12, 5)
    target = torch.cat([ids.flip(1), torch.ones(12, 1, dtype=torch.long)], 1)
    given = F.pad(target[:, :-1], (1, 0))
    first = None
    for _ in range(120):
        loss = F.cross_entropy(model(ids, given).flatten(0, 1), target.flatten())
        first = loss.item() if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert first is not None and first < 6 and loss.item() < first / 2.5


def test_a_position_table_limits_what_can_be_written() -> None:
    model = model_of("bart")
    cache = CrossCache(model.config, 1)
    model(ids_of(1, 6), ids_of(1, 30), cache=cache)
    with pytest.raises(LuhuoError, match="30"):
        model(None, ids_of(1, 1), cache=cache)


T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 53,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 3,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(("tied", "own_head"), [(None, False), (True, False), (False, True)])
def test_t5_is_scaled_when_tied_and_has_the_head_its_files_have(
    tmp_path: Path, tied: bool | None, own_head: bool
) -> None:
    values = T5 if tied is None else {**T5, "tie_word_embeddings": tied}
    config = read_config(values).model_copy(update={"tie_embeddings": not own_head})
    save(initialise_stack(EncoderDecoder(config), 0), tmp_path)
    model = load(tmp_path, dtype="fp32")
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) is own_head
    assert model.config.tie_embeddings is not own_head
    assert model.config.logit_scale == (1.0 if tied is False else 24**-0.5)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["tie_word_embeddings"] is (tied is not False)


REFUSED = [
    {"feed_forward_proj": "gated-gelu_10"},
    {"d_model": "wide"},
    {"num_layers": 0},
    {"relative_attention_num_buckets": 1},
    {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 16},
]


@pytest.mark.parametrize("change", REFUSED)
def test_settings_without_meaning_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(LuhuoError):
        read_config({**T5, **change})


BART = {
    "architectures": ["BartForConditionalGeneration"],
    "vocab_size": 53,
    "d_model": 24,
    **{f"{half}_{key}": n for half in ("encoder", "decoder")
       for key, n in {"layers": 2, "attention_heads": 3, "ffn_dim": 40}.items()},
}  # fmt: skip


@pytest.mark.parametrize("change", [{"normalize_before": True}, {"tie_word_embeddings": False}])
def test_a_bart_that_would_come_out_wrong_is_refused(change: dict[str, Any]) -> None:
    assert read_config(BART).start_id == 2
    with pytest.raises(LuhuoError, match="BART"):
        read_config({**BART, **change})


@pytest.mark.parametrize("name", SHAPES)
def test_bf16_stays_near_fp32_with_and_without_a_cache(name: str) -> None:
    model, ids, written = model_of(name), ids_of(2, 12), ids_of(2, 6)
    mask = torch.tensor([[1] * 12, [1] * 9 + [0] * 3])
    with torch.no_grad():
        full = torch.softmax(model(ids, written, segments=mask), -1)
        half = model.to(torch.bfloat16)
        whole = half(ids, written, segments=mask)
        cache = CrossCache(half.config, 2, dtype=torch.bfloat16)
        parts = [half(ids, written[:, :4], segments=mask, cache=cache), half(None, written[:, 4:], cache=cache)]
    for found in (whole, torch.cat(parts, 1)):
        assert found.dtype == torch.bfloat16
        assert (torch.softmax(found.float(), -1) - full).abs().mean() < 0.01
