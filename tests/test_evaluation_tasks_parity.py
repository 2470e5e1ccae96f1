"""Tasks give the numbers of lm-evaluation-harness: log-likelihoods item by item, and equal scores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from luhuo.adapter.open import open_decoder
from luhuo.core.atomic import write_text
from luhuo.evaluation.tasks import catalogue
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from tests.small_chat import small_model

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is the peer of this test (pip install lm-eval)")
from bench import lm_eval_peer

DATA = os.environ.get("LUHUO_TEST_DATA")


@dataclass(frozen=True)
class Pair:
    model: Decoder
    peer: lm_eval_peer.HFLM


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("parity") / "model"
    model = small_model(opinionated=True, max_positions=8192)
    save(model, folder)
    yield Pair(model, lm_eval_peer.their_model(folder, model))


@pytest.fixture(scope="module")
def real_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """SmolLM2-135M-Instruct, whose 4-bit weights become fp32 for both."""
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    model = open_decoder("smollm2-135m-instruct", dtype="fp32", device="cpu").eval()
    save(model, folder)
    return Pair(model, lm_eval_peer.their_model(folder, model))


def agrees(found: lm_eval_peer.Parity) -> None:
    assert found.values or found.task == "gsm8k"
    assert found.beyond == 0, f"{found.worst} apart"
    assert found.texts_differ == 0
    assert found.scores
    for name, (ours, theirs) in found.scores.items():
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-9), name


def written(task: str, folder: Path) -> Path:
    """The task's made-up row, and examples of the same, in the layout of its data."""
    spec = catalogue.task(task).spec
    files = spec.data.layouts[0].files
    row = dict(spec.example)
    if task.startswith("truthfulqa"):
        write_text(folder / "mc_task.json", yaml.safe_dump([row], default_flow_style=True))
        return folder
    if task == "wikitext":
        row = {"rows": row["page"].split("\n")}
    rows = [row | {"id": f"made-{number}"} for number in range(8)]
    for split, pattern in files.items():
        lines = rows[:2] if split == spec.split else rows[2:]
        write_text(folder / pattern.rstrip("*"), "".join(f"{json_line(one)}\n" for one in lines))
    return folder


def json_line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False)


@pytest.mark.parametrize("task", sorted(set(lm_eval_peer.FILES) - {"truthfulqa_mc1", "truthfulqa_mc2"}))
def test_a_made_up_item_scores_as_the_harness_scores_it(task: str, pair: Pair, tmp_path: Path) -> None:
    data = written(task, tmp_path)
    agrees(lm_eval_peer.compare(pair.model, pair.peer, task, str(data), limit=None, tokens=8))


@pytest.mark.skipif(DATA is None, reason="LUHUO_TEST_DATA names no folder with benchmark data")
@pytest.mark.parametrize("task", sorted(lm_eval_peer.FOLDERS))
def test_a_slice_of_the_real_set_scores_as_the_harness_scores_it(task: str, pair: Pair, tmp_path: Path) -> None:
    assert DATA is not None
    context = 1024 if task == "wikitext" else None
    limit = 1  # more with the bench
    pair.peer._max_length = context or pair.model.config.max_positions
    data = lm_eval_peer.place(task, Path(DATA), tmp_path)
    agrees(lm_eval_peer.compare(pair.model, pair.peer, task, data, limit=limit, tokens=8, context=context))


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="LUHUO_TEST_DATA names no folder with benchmark data")
@pytest.mark.parametrize("task", sorted(lm_eval_peer.FOLDERS))
def test_smollm2_scores_as_the_harness_scores_it(task: str, real_pair: Pair, tmp_path: Path) -> None:
    assert DATA is not None
    data, limit = lm_eval_peer.place(task, Path(DATA), tmp_path), 1 if task == "wikitext" else 10
    context = 1024 if task == "wikitext" else None
    real_pair.peer._max_length = context or real_pair.model.config.max_positions
    found = lm_eval_peer.compare(real_pair.model, real_pair.peer, task, data, limit=limit, tokens=32, context=context)
    agrees(found)
