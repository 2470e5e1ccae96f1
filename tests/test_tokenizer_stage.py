"""The tokenizer stage, its sample, and the table that compares tokenizers."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.stages import CorpusStage
from luhuo.tokenizer import build, unigram
from luhuo.tokenizer.compare import compare, compare_table
from luhuo.tokenizer.measure import Efficiency
from luhuo.tokenizer.stages import TokenizerStage
from luhuo.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Much English, little Chinese."""
    root = tmp_path_factory.mktemp("tokenizer")
    sources = []
    for lang, line, count in (
        ("en", "The furnace number {} burns blue. ", 900),
        ("zh", "第{}座炉子的火是蓝色的。", 100),
    ):
        rows = [json.dumps({"text": line.format(i) * 5}) for i in range(count)]
        (root / f"{lang}.jsonl").write_text("\n".join(rows))
        sources.append({"name": lang, "path": str(root / f"{lang}.jsonl"), "valid": 0.1, "test": 0.1})
    return produce("corpus", CorpusStage.parse({"sources": sources}), root / "text").path


def test_the_stage_writes_a_tokenizer_and_its_figures_by_language(corpus, tmp_path):
    stage = TokenizerStage.parse({"corpus": str(corpus), "vocab_size": 400})
    done = produce("tokenizer", stage, tmp_path / "tokenizer")
    tokenizer = Tokenizer.load(done.path)
    metrics = done.manifest["metrics"]
    assert metrics["vocab_size"] == tokenizer.vocab_size <= 400
    assert metrics["fingerprint"] == tokenizer.fingerprint
    assert metrics["zh.chars_per_token"] > 0.5
    assert metrics["en.words_per_token"] > 0.3
    assert metrics["en.bytes_per_token"] > 1


def test_the_sample_is_balanced_between_languages_and_does_not_depend_on_order(corpus):
    assert build._shares(str(corpus), budget=60_000)["zh"] == 1.0  # too small for its half: English gets the rest
    shares = build._shares(str(corpus), budget=20_000)
    first, again = list(build._sample(str(corpus), shares, 0)), list(build._sample(str(corpus), shares, 0))
    assert first == again != list(build._sample(str(corpus), shares, 1))
    sizes = Counter("zh" if t.startswith("第") else "en" for t in first for _ in t.encode())
    assert 0.6 < sizes["zh"] / sizes["en"] < 1.6


def test_a_corpus_without_documents_is_an_error(tmp_path):
    (tmp_path / "documents").mkdir()
    with pytest.raises(LuhuoError):
        produce("tokenizer", TokenizerStage.parse({"corpus": str(tmp_path)}), tmp_path / "out")


def test_efficiency_counts_characters_words_and_bytes():
    figure = Efficiency()
    figure.add("炉火 pure-blue don't 12", [1, 2, 3, 4])
    assert (figure.han, figure.words, figure.chars, figure.bytes) == (2, 2, 21, 25)
    assert figure.ratios() == {"bytes_per_token": 6.25, "chars_per_token": 5.25, "words_per_token": 0.5}


def test_tokenizers_are_compared_on_the_same_text(corpus, tmp_path):
    for kind in ("byte_bpe", "wordpiece"):
        stage = TokenizerStage.parse({"corpus": str(corpus), "vocab_size": 400, "kind": kind})
        produce("tokenizer", stage, tmp_path / kind)
    (tmp_path / "text.txt").write_text("The furnace burns blue.\n\n第三座炉子的火是蓝色的。\n", encoding="utf-8")
    rows = compare([str(tmp_path / "byte_bpe"), str(tmp_path / "wordpiece")], [tmp_path / "text.txt"])
    byte_bpe, wordpiece = rows
    assert byte_bpe.lost == 0.0
    assert wordpiece.lost > 0.0
    assert (byte_bpe.zh_chars_per_token or 0) > 0.5
    assert 0.3 < (byte_bpe.en_words_per_token or 0) < 1.5
    headings, cells = compare_table(rows)
    assert len(cells) == 2
    assert all(len(row) == len(headings) for row in cells)
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(LuhuoError):
        compare([str(tmp_path / "byte_bpe")], [tmp_path / "blank.txt"])


WORDS = Counter({"abab": 30, "ab": 50, "abc": 20, "c": 10, "xyz": 1})


def test_unigram_probabilities_sum_to_one_and_characters_stay():
    learned = dict(unigram.learn(WORDS, "abc", 6))
    assert set("abc") <= set(learned)
    assert len(learned) <= 6
    assert math.isclose(sum(map(math.exp, learned.values())), 1.0, abs_tol=1e-4)
    assert max(learned, key=lambda p: learned[p]) == "ab"
    assert not set("xyz") & set(learned)


def test_unigram_expectations_equal_those_over_all_segmentations():
    pieces = {"a": math.log(0.3), "b": math.log(0.2), "ab": math.log(0.5)}
    expected = unigram._expect([("aab", 2)], pieces)
    both, single = 0.3 * 0.5, 0.3 * 0.3 * 0.2  # a|ab and a|a|b
    share = both / (both + single)
    assert math.isclose(expected["ab"], 2 * share)
    assert math.isclose(expected["a"], 2 * (share + 2 * (1 - share)))
    assert math.isclose(expected["b"], 2 * (1 - share))
