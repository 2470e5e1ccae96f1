"""The character n-gram model: Kneser-Ney as published, the same for any order of texts, and able to tell damage."""

from __future__ import annotations

import json
import math
import os
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus import signals
from luhuo.corpus.signals import perplexity
from luhuo.corpus.signals.batch import Batch
from luhuo.corpus.signals.char_ngram import BIT, CharNgram, Trainer, frequent_characters
from luhuo.corpus.signals.detection import auc
from luhuo.corpus.signals.stages import NgramLmStage
from luhuo.corpus.stages import CorpusStage, SourceConfig

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nonexistent"))
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "that", "hat", "is", "bat", "of", "tom", "who", "there"]
BORDER = "^"
Tensors = dict[str, npt.NDArray[Any]]
Change = Callable[[Tensors], Tensors]


def _texts(count: int = 60, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(count)]


def _trained(texts: list[str], order: int, size: int = 10**6, lang: str = "en") -> CharNgram:
    batch = Batch(texts, lang)
    trainer = Trainer(lang, order, frequent_characters([batch], order))
    trainer.add(batch)
    return trainer.model(size)


def _bits(model: CharNgram, text: str) -> list[float]:
    """Bits of each character of a text."""
    ids, starts = model.ids(Batch([text], model.lang))
    return (model.costs(ids)[int(starts[0]) + model.order - 1 :] / BIT).tolist()


class PlainKneserNey:
    """Interpolated Kneser-Ney over dictionaries, as Chen and Goodman write it."""

    def __init__(self, texts: list[str], order: int, characters: int) -> None:
        self.order, self.characters = order, characters
        self.counts: dict[int, dict[str, float]] = {n: defaultdict(float) for n in range(1, order + 1)}
        for text in texts:
            padded = BORDER * (order - 1) + text
            for end in range(order, len(padded) + 1):
                self.counts[order][padded[end - order : end]] += 1
        for n in range(order - 1, 0, -1):
            for gram in self.counts[n + 1]:
                self.counts[n][gram[1:]] += 1
        self.followers: dict[int, dict[str, list[float]]] = {n: defaultdict(list) for n in range(1, order + 1)}
        for n, table in self.counts.items():
            for gram, count in table.items():
                self.followers[n][gram[:-1]].append(count)

    def p(self, gram: str) -> float:
        """p(last character | the others)."""
        n = len(gram)
        if n == 1:
            total = sum(self.counts[1].values()) + self.characters + 1.5  # one each, and a half for the border
            return (self.counts[1].get(gram, 0) + 1) / total
        every = self.counts[n].values()
        once, twice = sum(c == 1 for c in every), sum(c == 2 for c in every)
        discount = once / (once + 2 * twice) if once else 0.5
        seen = self.followers[n].get(gram[:-1])
        if not seen:
            return self.p(gram[1:])
        direct = max(self.counts[n].get(gram, 0) - discount, 0) / sum(seen)
        return direct + discount * len(seen) / sum(seen) * self.p(gram[1:])


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_costs_are_those_of_kneser_ney(order: int) -> None:
    texts = _texts()
    model = _trained(texts, order)
    plain = PlainKneserNey(texts, order, len(model.characters))
    for text in (*texts[:5], *_texts(5, seed=9), "matt cat"):
        padded = BORDER * (order - 1) + text
        wanted = [-math.log2(plain.p(padded[i : i + order])) for i in range(len(text))]
        assert _bits(model, text) == pytest.approx(wanted, abs=2 * order / BIT)


@pytest.mark.parametrize("size", [10, 100, 10**6])
def test_probabilities_of_the_next_character_add_up_to_one_however_much_is_pruned(size: int) -> None:
    model = _trained(_texts(), 4, size)
    every = [chr(c) for c in model.characters]
    for history in ("the ca", "xxx", "at th", "tom"):
        told = sum(2 ** -_bits(model, history + c)[-1] for c in every)
        assert 0.97 < told < 1.01, history  # the rest is for unknown characters and the border


def test_the_same_texts_in_any_order_and_grouping_give_the_same_file(tmp_path: Path) -> None:
    texts = _texts(200)
    shuffled = random.Random(3).sample(texts, len(texts))
    for name, groups in {"a": [texts], "b": [shuffled[:50], shuffled[50:51], shuffled[51:]]}.items():
        batches = [Batch(group, "en") for group in groups]
        trainer = Trainer("en", 5, frequent_characters(batches, 5))
        for batch in batches:
            trainer.add(batch)
        trainer.model(300).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_loaded_model_says_what_the_saved_one_said_for_any_company(tmp_path: Path) -> None:
    model = _trained(_texts(), 5)
    model.save(tmp_path / "m")
    told = perplexity.Model([CharNgram.load(tmp_path / "m")])
    texts = ["the cat", "", "  \n", "zzz " * 300, "a", "THE CAT  sat 77"]
    together = signals.measure(texts, "en", [], [told])
    assert together == [signals.measure([text], "en", [], [perplexity.Model([model])])[0] for text in texts]
    assert together[1] == together[2] == {"perplexity.char": 1.0, "perplexity.worst": 1.0}
    assert signals.measure(["文"], "zh", [], [told]) == [{}]


def test_capitals_digits_and_blanks_do_not_matter() -> None:
    model = _trained([*_texts(), "room 12 of 40"], 4)
    assert _bits(model, "Room 99\n\n of 10") == _bits(model, "room 12 of 40")


def test_an_unknown_character_is_dear_wherever_it_stands() -> None:
    model = _trained([*_texts(), "a\U0001f600b"] * 3, 6)  # ten bits a character: 1022 of them
    model = CharNgram(model.lang, 6, model.characters[model.characters < 128], model.keys, model.bits, model.leave)
    assert min(_bits(model, "€€€€€€€€")) > 13


def test_worst_finds_the_damaged_part_of_a_clean_text() -> None:
    model = perplexity.Model([_trained(_texts(300), 5)])
    clean = " ".join(_texts(40, seed=5))
    damaged = clean[:600] + "qzxjk" * 40 + clean[600:]
    a, b = signals.measure([clean, damaged], "en", [], [model])
    assert b["perplexity.worst"] > 20 * a["perplexity.worst"] and a["perplexity.worst"] < 2 * a["perplexity.char"]


@pytest.mark.parametrize("content", [b"", b"not a model", b'\x08\0\0\0\0\0\0\0{"a":1} '])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(LuhuoError, match="n-gram model"):
        CharNgram.load(tmp_path / "m")
    with pytest.raises(LuhuoError, match="n-gram model"):
        CharNgram.load(tmp_path / "missing")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {"keys.2": t["keys.2"][::-1].copy()},
        lambda t: t | {"keys.3": t["keys.3"][:0]},
        lambda t: t | {"bits.2": t["bits.2"][:-1]},
        lambda t: t | {"bits.2": t["bits.2"].astype(np.float32)},
        lambda t: t | {"keys.1": t["keys.1"] + np.uint64(1)},
        lambda t: t | {"characters": t["characters"] + np.uint32(0x110000)},
        lambda t: {name: value for name, value in t.items() if name != "leave.3"},
    ],
)
def test_tables_that_cannot_be_scored_with_are_refused(change: Change, tmp_path: Path) -> None:
    _trained(_texts(), 3).save(tmp_path / "m")
    with safe_open(tmp_path / "m", framework="numpy") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(change(tensors), tmp_path / "m", metadata=told)
    with pytest.raises(LuhuoError, match="n-gram model"):
        CharNgram.load(tmp_path / "m")


def _corpus(folder: Path, sources: list[SourceConfig]) -> str:
    return str(produce("corpus", CorpusStage(sources=sources), folder / "corpus").path)


def test_the_stage_tells_clean_real_text_from_damage_in_both_languages(tmp_path: Path) -> None:
    if not (DATA / "zh_laws").is_dir():
        pytest.skip("LUHUO_TEST_DATA does not say where the real text is")
    common = {"valid": 0.1, "test": 0.0, "piece_chars": 2000}
    sources = [
        SourceConfig(name="stories", path=f"{DATA}/tinystories_sample/*.txt.gz", lang="en", max_mb=2, **common),
        SourceConfig(name="wiki", path=f"{DATA}/zh_wiki_qa/cmrc_corpus.jsonl.gz", lang="zh", **common),
    ]  # fmt: skip
    corpus = _corpus(tmp_path, sources)
    wanted = {"en": (0.999, 0.999, 0.97, 0.99), "zh": (0.999, 0.85, 0.68, 0.99)}
    for lang, least in wanted.items():
        done = produce("ngram-lm", NgramLmStage(corpus=corpus, lang=lang), tmp_path / lang)
        report = json.loads((done.path / "report.json").read_text(encoding="utf-8"))
        told = [report[f"auc.{name}"] for name in ("shuffled", "swapped", "replaced", "misread")]
        assert all(value >= low for value, low in zip(told, least, strict=True)), (lang, told)
        assert done.manifest["metrics"]["bits"] == report["bits"]
        assert perplexity.Model.load([done.path])


def test_a_language_without_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on the mat\n" * 5, encoding="utf-8")
    corpus = _corpus(tmp_path, [SourceConfig(name="a", path=str(tmp_path / "a.txt"), lang="en", valid=0, test=0)])
    with pytest.raises(LuhuoError, match="no text"):
        produce("ngram-lm", NgramLmStage(corpus=corpus, lang="zh"), tmp_path / "zh")
    with pytest.raises(LuhuoError, match="holds out no text"):
        produce("ngram-lm", NgramLmStage(corpus=corpus, lang="en"), tmp_path / "en")


def test_the_area_under_the_curve_counts_equal_scores_half() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0])) == 1
    assert auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert auc(np.array([0.0, 2.0]), np.array([1.0])) == 0.5
