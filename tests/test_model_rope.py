"""Rotary tables of every kind are those of the reference, at every length."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from transformers import DeepseekV3Config, LlamaConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from luhuo.core.errors import LuhuoError
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.families.common import read_rope, write_rope
from luhuo.model.masks import document_lengths
from luhuo.model.rope import tables

POSITIONS = 96
"""Positions of the models below; lengths on both sides of it and of their original context are tried."""
LENGTHS = [1, 31, 32, 33, 96, 97, 300]
SHORT = [1.0, 1.1, 1.3, 1.35, 1.4, 1.5, 1.6, 1.7]
LONG = [1.2, 2.0, 3.0, 4.0, 5.0, 9.0, 20.0, 31.0]
ORIGINAL = {"original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 3.0, **ORIGINAL}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL},
    "llama3-narrow": {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 0.5,
        "high_freq_factor": 9.0,
        **ORIGINAL,
    },
    "yarn": YARN,
    "yarn-fitted": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
    "yarn-factor": {**YARN, "attention_factor": 1.3},
    "yarn-deepseek": {**YARN, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7},
    "longrope": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, **ORIGINAL},
    "longrope-factor": {
        "rope_type": "longrope",
        "factor": 3.0,
        "attention_factor": 1.2,
        "short_factor": SHORT,
        "long_factor": LONG,
        **ORIGINAL,
    },
}
SIZES: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": POSITIONS}
MODEL = {
    "vocab_size": 9,
    "hidden_size": 64,
    "layers": 1,
    "heads": 4,
    "kv_heads": 4,
    "head_dim": 16,
    "intermediate_size": 8,
    "max_positions": POSITIONS,
}


def reference(parameters: dict[str, Any], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    config = LlamaConfig(**SIZES, rope_parameters={"rope_theta": 500.0, **parameters})
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(length)[None])
    return cos[0], sin[0]


def read(parameters: dict[str, Any]) -> RopeConfig:
    return read_rope({**SIZES, "rope_parameters": {"rope_theta": 500.0, **parameters}}, 16)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_those_of_the_reference(kind: str, length: int) -> None:
    cos, sin = tables(read(KINDS[kind]), 16, torch.arange(length)[None], length, POSITIONS, torch.float32)
    expected_cos, expected_sin = reference(KINDS[kind], length)
    torch.testing.assert_close(cos[0, :, 0], expected_cos, rtol=0, atol=1e-4)
    torch.testing.assert_close(sin[0, :, 0, 8:], expected_sin[:, 8:], rtol=0, atol=1e-4)
    torch.testing.assert_close(sin[0, :, 0, :8], -expected_sin[:, :8], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_survive_being_written_in_either_style(kind: str) -> None:
    rope = read(KINDS[kind])
    config = ModelConfig.parse({**MODEL, "rope": rope})
    written = write_rope(config)
    assert read_rope({"rope_parameters": written["rope_parameters"]}, 16) == rope
    older = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert read_rope(older, 16) == rope


def test_neighbours_are_pairs_where_the_family_says_so() -> None:
    rope, positions = RopeConfig(theta=500.0), torch.arange(20)[None]
    halves = tables(rope, 16, positions, 20, POSITIONS, torch.float32)
    paired = tables(rope.model_copy(update={"interleaved": True}), 16, positions, 20, POSITIONS, torch.float32)
    for ours, other in zip(halves, paired, strict=True):
        first, second = ours.chunk(2, -1)
        torch.testing.assert_close(other, torch.stack([first, second], -1).flatten(-2), rtol=0, atol=0)


def test_deepseek_turns_by_the_same_angles() -> None:
    config = DeepseekV3Config(
        qk_rope_head_dim=16, rope_parameters={"rope_theta": 500.0, **KINDS["yarn-deepseek"]}, hidden_size=64
    )
    cos, _ = DeepseekV3RotaryEmbedding(config)(torch.zeros(1), torch.arange(90)[None])
    ours, _ = tables(read(KINDS["yarn-deepseek"]), 16, torch.arange(90)[None], 90, POSITIONS, torch.float32)
    torch.testing.assert_close(ours[0, :, 0], cos[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_documents_of_one_row_are_stretched_each_by_its_own_length(kind: str) -> None:
    rope = read({**KINDS[kind], "factor": 2.0})
    sizes, limit = [20, 40, 5], 30
    positions = torch.cat([torch.arange(size) for size in sizes])[None]
    segments = torch.repeat_interleave(torch.arange(1, 4), torch.tensor(sizes))[None]
    lengths = document_lengths(positions, segments)
    assert lengths.tolist() == [[20] * 20 + [40] * 40 + [5] * 5]
    cos, _ = tables(rope, 16, positions, lengths, limit, torch.float32)
    apart = [tables(rope, 16, torch.arange(size)[None], size, limit, torch.float32)[0] for size in sizes]
    torch.testing.assert_close(cos, torch.cat(apart, 1), rtol=0, atol=1e-5)
    assert not torch.equal(apart[0][:, :5], apart[1][:, :5])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "longrope", "short_factors": (1.0,), "long_factors": ()}, "long_factors"),
        ({"axes": 2, "interleaved": True}, "two axes"),
        ({"kind": "stretchy"}, "kind"),
        ({"theta": -1.0}, "theta"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LuhuoError, match=message):
        RopeConfig.parse(fields)


def test_longrope_needs_a_factor_for_each_pair() -> None:
    fields = {"short_factor": [1.0, 2.0], "long_factor": [1.0, 2.0], "rope_type": "longrope", **ORIGINAL}
    with pytest.raises(LuhuoError, match="2 factors for 8 pairs"):
        ModelConfig.parse({**MODEL, "rope": read(fields).model_dump()})
