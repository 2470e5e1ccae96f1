"""What the time-to-loss bench counts and how it reads a time off its runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import ablation
import real_text
import time_to_loss

ENDS = [{"tokens": 1000, "loss": 5.0}, {"tokens": 4000, "loss": 3.0}, {"tokens": 2000, "loss": 4.0}]


@pytest.mark.parametrize(("loss", "tokens"), [(5.0, 1000), (4.5, 1414), (3.0, 4000), (6.0, 1000), (2.9, None)])
def test_the_tokens_a_loss_takes_lie_between_the_runs_around_it(loss: float, tokens: int | None):
    found = time_to_loss.needed(ENDS, loss, "tokens")
    assert found == (None if tokens is None else pytest.approx(tokens, rel=1e-3))


def test_held_out_rows_stay_within_one_document_and_score_each_token_once(tmp_path: Path):
    folder = tmp_path / "shards" / "valid"
    folder.mkdir(parents=True)
    lengths = [3, 700, 257, 1]
    tokens = np.concatenate([np.full(n, i + 1) for i, n in enumerate(lengths)]).astype(np.uint16)
    tokens.tofile(folder / "00000.bin")
    np.cumsum(lengths).astype(np.uint64).tofile(folder / "00000.idx")
    (folder / "header.json").write_text(json.dumps({"dtype": "uint16"}))
    ids, valid = real_text.held_out(tmp_path)
    for row, counts in zip(ids, valid, strict=True):
        assert len(set(row[1:][counts].tolist()) | {int(row[0])}) == 1
    assert int(valid.sum()) == sum(n - 1 for n in lengths)
    uniform = real_text.score(lambda ids: torch.zeros(*ids.shape, 8), (ids, valid))
    assert uniform == pytest.approx(np.log(8), abs=1e-5)


def test_both_sides_have_as_many_parameters():
    from luhuo.model.count import parameters

    plain = sum(p.numel() for p in time_to_loss.Plain(10, 1e-3, 0, compiled=False).model.parameters())
    ours = sum(parameters(time_to_loss.shape({})).values())
    assert abs(plain - ours) < 0.001 * ours


def test_the_plain_loop_learns_a_repeated_row():
    plain = time_to_loss.Plain(30, 3e-3, 0, compiled=False)
    ids = torch.randint(0, real_text.VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(0))
    rows = (ids, torch.ones(2, 16, dtype=torch.bool))
    before = real_text.score(plain.logits, rows)
    for _ in range(30):
        plain.step(ids)
    assert real_text.score(plain.logits, rows) < before - 2
    assert plain.optimiser.param_groups[0]["lr"] == pytest.approx(3e-4, rel=0.05)


@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_every_variant_is_a_model_and_settings_that_exist(name: str):
    settings = ablation.VARIANTS[name]
    time_to_loss.resolved(settings)
    assert set(settings) <= {"batch", "model", "trainer", "start", "masks"}


def test_a_variant_that_does_more_for_a_token_gets_fewer_tokens():
    assert ablation.tokens_for({}, 10_000) == 10_000
    assert ablation.tokens_for({"model": {"mtp_layers": 1}}, 10_000) < 10_000
