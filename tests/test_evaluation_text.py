"""Bits per byte: exact, no token twice, equal for any batching; xz on the same text."""

from __future__ import annotations

import lzma
import math

import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.evaluation import perplexity
from luhuo.evaluation.perplexity import document_bits, score_texts, windows_of
from tests.small_chat import small_model

TEXTS = ["hello world, how are you today. " * 3, "你好，世界。", "a", "the answer is 42"]


def bits_by_hand(text: str) -> float:
    """-log2 p of each token given the end-of-text token and those before it, one forward pass a token."""
    model = small_model()
    assert model.tokenizer is not None
    ids = [model.tokenizer.eos_id, *model.tokenizer.encode(text)]
    with torch.no_grad():
        logps = [model(torch.tensor([ids[:i]]))[0, -1].log_softmax(-1)[ids[i]].item() for i in range(1, len(ids))]
    return -sum(logps) / math.log(2)


def test_bits_are_those_of_every_token_given_the_tokens_before_it() -> None:
    bits, tokens = document_bits(small_model(), TEXTS)
    assert bits == pytest.approx([bits_by_hand(text) for text in TEXTS], rel=1e-4)
    assert all(tokens)


def test_windows_score_every_token_but_the_first_exactly_once() -> None:
    for length in (2, 8, 9, 10, 13, 31):
        ids = list(range(length))
        seen = [target for w in windows_of(0, ids, 8, 4) for target in w.ids[1 + w.skip :]]
        assert seen == ids[1:]
        assert all(len(w.ids) <= 9 for w in windows_of(0, ids, 8, 4))
        assert all(w.skip >= 4 for w in list(windows_of(0, ids, 8, 4))[1:]), (
            "later windows have at least half as context"
        )
        behind = [target for w in windows_of(0, ids, 8, 4, given=2) for target in w.ids[1 + w.skip :]]
        assert behind == ids[2:]  # two tokens in front of every text are no part of it


def test_bits_do_not_depend_on_how_texts_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    together, _ = document_bits(small_model(max_positions=16), TEXTS)
    monkeypatch.setattr(perplexity, "BATCH_TOKENS", 1)
    monkeypatch.setattr(perplexity, "HEAD_ELEMENTS", 2000)
    alone, _ = document_bits(small_model(max_positions=16), TEXTS)
    assert together == pytest.approx(alone, rel=1e-4)


def test_sources_and_languages_are_scored_apart_and_xz_on_the_same_bytes() -> None:
    documents = [("books", "en", TEXTS[0]), ("wiki", "zh", TEXTS[1]), ("wiki", "en", TEXTS[3]), ("wiki", "zh", "世界")]
    sources, languages = score_texts(small_model(), documents, max_bytes=10_000)
    assert set(sources) == {"books", "wiki"} and set(languages) == {"en", "zh"}
    raw = (TEXTS[1] + "世界").encode()
    assert languages["zh"].bytes == len(raw)
    assert languages["zh"].xz == 8 * len(lzma.compress(raw, preset=9)) / len(raw)
    assert languages["zh"].bits_per_byte == pytest.approx(
        (bits_by_hand(TEXTS[1]) + bits_by_hand("世界")) / len(raw), rel=1e-4
    )
    assert sum(s.bytes for s in sources.values()) == sum(s.bytes for s in languages.values())


def test_the_limit_cuts_between_characters_and_no_text_is_an_error() -> None:
    sources, _ = score_texts(small_model(), [("wiki", "zh", "世界你好" * 9)], max_bytes=10)
    assert sources["wiki"].bytes == 9
    with pytest.raises(LuhuoError):
        score_texts(small_model(), [], max_bytes=10)
