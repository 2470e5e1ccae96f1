"""Mixtures: shares followed to the row, phase by phase, the same for any number of ranks and after a stop."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.mixture import Mixture, Phase, schedule, shares
from luhuo.corpus.mixture_loader import MixtureLoader
from luhuo.corpus.stages import CorpusStage, ShardsStage
from luhuo.tokenizer.stages import TokenizerStage
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.stages import PretrainStage

LINES = {
    "books/en": "The furnace number {} burns blue. ",
    "books/zh": "第{}座炉子的火是蓝色的。",
    "web/zh": "网页{}号。",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Shards of two sources, one of them in two languages; each language tells where its text is from."""
    root = tmp_path_factory.mktemp("mixture")
    for source in ("books", "web"):
        rows = [
            json.dumps({"text": line.format(i) * (2 + i % 5), "lang": name.partition("/")[2]})
            for name, line in LINES.items()
            for i in range(200)
            if name.startswith(source)
        ]
        (root / f"{source}.jsonl").write_text("\n".join(rows))
    sources = [{"name": s, "path": str(root / f"{s}.jsonl"), "valid": 0.02, "test": 0.0} for s in ("books", "web")]
    produce("corpus", CorpusStage.parse({"sources": sources}), root / "text")
    produce("tokenizer", TokenizerStage.parse({"corpus": str(root / "text"), "vocab_size": 400}), root / "tokenizer")
    shards = {"corpus": str(root / "text"), "tokenizer": str(root / "tokenizer")}
    produce("shards", ShardsStage.parse(shards), root / "shards")
    return root


def loader(made, phases, rows=60, **more) -> MixtureLoader:
    settings = {"rows": rows, "batch": 4, "length": 32, "seed": 1} | more
    mixture = Mixture.parse({"phases": phases, "temperature": settings.pop("temperature", 1.0)})
    return MixtureLoader(made / "shards/train", mixture, **settings)


def groups_of(made, batches) -> list[str]:
    """The group of every row, told from its text."""
    tokenizer = Tokenizer.load(made / "tokenizer")
    found = []
    for batch in batches:
        for ids, segments in zip(batch["ids"], batch["segments"], strict=True):
            text = tokenizer.decode(ids[segments > 0].tolist())
            found.append("web/zh" if "网页" in text else "books/zh" if "炉" in text else "books/en")
    return found


def test_each_phase_has_its_shares_to_the_row(made):
    phases = [{"until": 0.5, "weights": {"books/en": 3, "web": 1}}, {"weights": {"lang:zh": 1}}]
    found = groups_of(made, itertools.islice(loader(made, phases), 15))
    assert Counter(found[:30]) in ({"books/en": 23, "web/zh": 7}, {"books/en": 22, "web/zh": 8})
    assert set(found[30:]) == {"books/zh", "web/zh"}


def test_rows_of_a_group_are_evenly_spaced():
    order = schedule([0.25, 0.75], 400)
    assert Counter(order.tolist()) == {0: 100, 1: 300}
    assert set(np.diff(np.flatnonzero(order == 0))) <= {3, 4, 5}


@pytest.mark.parametrize("rows", [0, 1, 7, 100])
def test_the_plan_has_exactly_so_many_rows(rows):
    assert len(schedule([0.2, 0.3, 0.5, 0.0], rows)) == rows
    assert 3 not in schedule([0.2, 0.3, 0.5, 0.0], rows)


def test_ranks_together_see_what_one_alone_sees(made):
    phases = [{"weights": {"books": 1, "web": 1}}]
    alone = list(itertools.islice(loader(made, phases), 6))
    two = [list(itertools.islice(loader(made, phases, batch=2, rank=r, world=2), 6)) for r in (0, 1)]
    for whole, first, second in zip(alone, *two, strict=True):
        assert np.array_equal(whole["ids"], np.concatenate([first["ids"], second["ids"]]))


def test_it_goes_on_after_a_stop_anywhere_even_behind_the_plan(made):
    phases = [{"until": 0.3, "weights": {"books": 1}}, {"weights": {"web": 1, "books/zh": 2}}]
    whole = list(itertools.islice(loader(made, phases), 25))
    for stop in (0, 3, 14, 20):
        first, again = loader(made, phases), loader(made, phases)
        list(itertools.islice(first, stop))
        again.restore(json.loads(json.dumps(first.state())))
        rest = list(itertools.islice(again, 25 - stop))
        assert all(np.array_equal(a["ids"], b["ids"]) for a, b in zip(whole[stop:], rest, strict=True))


def test_a_group_begins_again_in_another_order(made):
    source = loader(made, [{"weights": {"web": 1}}], rows=10_000, batch=1)
    length = source._sources[0].rows_per_epoch
    rows = [batch["ids"][0].tolist() for batch in itertools.islice(source, 2 * length)]
    first, second = (sorted(token for row in part for token in row[1:]) for part in (rows[:length], rows[length:]))
    assert rows[:length] != rows[length:]
    assert sum(a != b for a, b in zip(first, second, strict=True)) < len(first) / 20


def test_another_mixture_cannot_go_on(made):
    before = loader(made, [{"weights": {"books": 1}}]).state()
    with pytest.raises(LuhuoError, match="settings have changed"):
        loader(made, [{"weights": {"web": 1}}]).restore(before)


def test_temperature_evens_out_sizes():
    tokens = {("a", "en"): 9_000, ("b", "en"): 1_000}
    assert shares(Phase(), tokens)[("b", "en")] == pytest.approx(0.1)
    assert shares(Phase(), tokens, 2.0)[("b", "en")] == pytest.approx(0.25)
    assert shares(Phase(), tokens, 1e9)[("b", "en")] == pytest.approx(0.5, abs=1e-6)


def test_unknown_and_doubled_names_are_errors():
    tokens = {("books", "en"): 10, ("books", "zh"): 10}
    with pytest.raises(LuhuoError, match="boks") as error:
        shares(Phase.parse({"weights": {"boks": 1}}), tokens)
    assert "books" in str(error.value)
    with pytest.raises(LuhuoError, match="same text"):
        shares(Phase.parse({"weights": {"books": 1, "lang:zh": 1}}), tokens)


@pytest.mark.parametrize(
    "phases", [[{"until": 0.5}], [{"until": 0.9}, {"until": 0.4}], [{"weights": {"a": -1}}], [{"weights": {"a": 0}}]]
)
def test_phases_that_make_no_plan_are_refused(phases):
    with pytest.raises(LuhuoError):
        Mixture.parse({"phases": phases})


def test_pretraining_follows_a_mixture_and_resumes_in_it(made, tmp_path):
    stage = {"shards": str(made / "shards"), "tokenizer": str(made / "tokenizer"), "size": "20k", "steps": 6}
    stage |= {"length": 32, "batch": 128, "eval_tokens": 256, "device": "cpu", "threads": 1}
    mixed = stage | {"mixture": {"phases": [{"until": 0.5, "weights": {"books": 1}}, {"weights": {"lang:zh": 1}}]}}
    plain = produce("pretrain", PretrainStage.parse(stage), tmp_path / "plain")
    done = produce("pretrain", PretrainStage.parse(mixed), tmp_path / "mixed")
    assert done.manifest["metrics"]["steps"] == 6
    assert done.manifest["digest"] != plain.manifest["digest"]
    with pytest.raises(LuhuoError, match="objective causal"):
        PretrainStage.parse(mixed | {"objective": "fim"})
