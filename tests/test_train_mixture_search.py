"""Searching a mixture: the regression finds what it is shown, and the search finds the source that is asked for."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.mixture import Mixture
from luhuo.corpus.stages import CorpusStage, ShardsStage
from luhuo.tokenizer.stages import TokenizerStage
from luhuo.train.mixture_search import draw, fit, rank_correlation, target
from luhuo.train.mixture_stages import MixtureSearchStage


def test_the_regression_predicts_runs_it_was_not_shown():
    shares = draw(np.array([8.0, 1.0, 1.0]), 60, 0)
    losses = 3 - np.log(shares[:, 1] + 0.05) * 0.3 + 0.2 * shares[:, 0]
    found = fit(shares[:40], losses[:40])
    assert rank_correlation(found.predict(shares[40:]), losses[40:]) > 0.95
    assert rank_correlation(found.left_out, losses[:40]) > 0.95


def test_leaving_one_out_is_what_fitting_without_it_predicts():
    shares = draw(np.array([2.0, 1.0]), 12, 1)
    losses = np.random.default_rng(0).normal(size=12)
    whole = fit(shares, losses)
    from luhuo.train import mixture_search

    rows = mixture_search.features(np.delete(shares, 3, 0))
    penalty = np.diag([0.0, *[1.0] * (rows.shape[1] - 1)]) * whole.ridge
    weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ np.delete(losses, 3))
    assert whole.left_out[3] == pytest.approx(float((mixture_search.features(shares[3:4]) @ weights)[0]))


def test_drawn_mixtures_are_shares_on_both_sides_of_the_natural_one():
    shares = draw(np.array([9.0, 1.0]), 400, 2)
    assert np.allclose(shares.sum(1), 1) and (shares >= 0).all()
    assert 0.2 < (shares[:, 1] > 0.3).mean() < 0.8


def test_the_target_is_the_mean_of_the_sources_or_of_those_named():
    results = {"bpb.valid.source.a": 1.0, "bpb.valid.source.b": 3.0, "bpb.valid": 9.0}
    assert target(results, {}) == 2.0
    assert target(results, {"b": 2.0}) == 3.0
    with pytest.raises(LuhuoError, match="no held-out text"):
        target(results, {"c": 1.0})


def test_a_search_finds_the_source_it_is_asked_for_and_goes_on_where_it_stopped(tmp_path):
    rng = random.Random(0)
    words = {
        "apples": ["".join(rng.choices("abcdefghijklm", k=6)) for _ in range(100)],
        "stones": [str(rng.randrange(10**6)) for _ in range(100)],
    }
    for name, known in words.items():
        texts = [" ".join(rng.choice(known) for _ in range(60)) for _ in range(200)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    sources = [{"name": s, "path": str(tmp_path / f"{s}.jsonl"), "valid": 0.2, "test": 0.0} for s in words]
    produce("corpus", CorpusStage.parse({"sources": sources}), tmp_path / "text")
    values = {"corpus": str(tmp_path / "text"), "vocab_size": 400}
    produce("tokenizer", TokenizerStage.parse(values), tmp_path / "tokenizer")
    values = {"corpus": str(tmp_path / "text"), "tokenizer": str(tmp_path / "tokenizer")}
    produce("shards", ShardsStage.parse(values), tmp_path / "shards")
    stage = {"shards": str(tmp_path / "shards"), "tokenizer": str(tmp_path / "tokenizer"), "size": "20k"}
    stage |= {"tokens": 8_000, "length": 32, "batch": 256, "runs": 10, "checks": 1, "eval_tokens": 2048}
    stage |= {"target": {"apples": 1.0}, "device": "cpu", "threads": 1}
    done = produce("mixture-search", MixtureSearchStage.parse(stage), tmp_path / "found")
    found = json.loads((done.path / "mixture.json").read_text())
    assert found["phases"][0]["weights"]["apples"] > 0.6
    Mixture.parse(found)
    first = done.path / "runs/drawn-000/manifest.json"
    made = first.stat().st_mtime_ns
    partial = tmp_path / ".again.partial"
    done.path.rename(partial)
    (partial / "manifest.json").unlink()
    (partial / ".key").write_text(done.manifest["key"])
    again = produce("mixture-search", MixtureSearchStage.parse(stage), tmp_path / "again")
    assert again.manifest["digest"] == done.manifest["digest"]
    assert (again.path / "runs/drawn-000/manifest.json").stat().st_mtime_ns == made
