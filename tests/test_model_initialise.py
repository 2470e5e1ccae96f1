"""A model starts with a circuit that continues what it has seen before."""

from __future__ import annotations

import pytest
import torch

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise


def mean_rank(config: ModelConfig, repeated: bool) -> float:
    """Mean share of the vocabulary that a fresh model prefers to the right next token of a random sequence."""
    model = initialise(Decoder(config), 0)
    ids = torch.randint(config.vocab_size, (8, 40), generator=torch.Generator().manual_seed(1))
    ids = torch.cat([ids, ids], 1) if repeated else torch.cat([ids, ids.flip(1)], 1)
    with torch.no_grad():
        logits = model(ids)[:, 41:-1]
    right = logits.gather(2, ids[:, 42:, None])
    return (logits > right).float().mean().item()


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 192, "heads": 4, "kv_heads": 2, "head_dim": 64},
        {"hidden_size": 96, "heads": 3, "kv_heads": 1, "head_dim": 32},
        {"hidden_size": 64, "heads": 2, "kv_heads": 2, "head_dim": 64},
    ],
)
def test_a_fresh_model_prefers_what_followed_the_last_time(shape: dict[str, int]):
    config = ModelConfig.parse({"vocab_size": 600, "layers": 3, "intermediate_size": 64} | shape)
    assert mean_rank(config, repeated=True) < 0.33
    assert 0.4 < mean_rank(config, repeated=False) < 0.6


def test_a_fresh_model_looks_up_the_record_of_a_name_among_records_of_the_same_words():
    config = ModelConfig.parse(
        {
            "vocab_size": 2000,
            "layers": 3,
            "intermediate_size": 64,
            "hidden_size": 192,
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 64,
        }
    )
    model = initialise(Decoder(config), 0)
    chance = torch.Generator().manual_seed(1)
    names, values = torch.randint(10, 2000, (2, 64, 4, 2), generator=chance)
    frame = torch.tensor([5, 6]).expand(64, 4, 2)
    records = torch.cat([names, frame, values, torch.full((64, 4, 1), 7)], 2).flatten(1)
    right = 0
    for asked in range(4):
        with torch.no_grad():
            logits = model(torch.cat([records, names[:, asked], frame[:, asked]], 1))[:, -1]
        right += (logits.argmax(-1) == values[:, asked, 0]).sum().item()
    assert right / 256 > 0.75  # one of four values without a look at the name


def test_a_model_of_one_layer_is_initialised_without_the_circuit():
    config = ModelConfig.parse(
        {
            "vocab_size": 100,
            "layers": 1,
            "intermediate_size": 64,
            "hidden_size": 64,
            "heads": 2,
            "kv_heads": 1,
            "head_dim": 32,
        }
    )
    assert all(p.isfinite().all() for p in initialise(Decoder(config), 0).parameters())
