"""Tokenizers as GGUF metadata: what llama.cpp needs to know, and the exact tokenizer back."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models

from luhuo.core.errors import LuhuoError
from luhuo.files.gguf import GGUF
from luhuo.files.gguf_write import write_gguf
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, load_gguf
from luhuo.model.initialise import initialise
from luhuo.tokenizer.gguf import from_gguf_metadata
from luhuo.tokenizer.gguf_export import PROBE, WHOLE, gguf_metadata, nearest_pre
from luhuo.tokenizer.patterns import RECIPES, Recipe
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train

LINES = [*PROBE, "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。", "The furnace burns pure blue; 42 sparks."]


@pytest.fixture(scope="module")
def born() -> Tokenizer:
    return train(iter(LINES * 4), kind="byte_bpe", vocab_size=600)


def published(recipe: Recipe) -> Tokenizer:
    """A byte-level tokenizer that cuts text as a published one does, with few merges."""
    trained = train(iter(LINES * 4), kind="byte_bpe", vocab_size=600)
    core = tokenizers.Tokenizer.from_str(trained._core.to_str())
    assert isinstance(core.model, models.BPE)
    core.model.ignore_merges = recipe.whole_pieces
    core.normalizer = recipe.normalizer()
    core.pre_tokenizer = recipe.pre_tokenizer()
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return Tokenizer(core, {"eos_token": "<|endoftext|>"}, None)


@pytest.mark.parametrize("name", RECIPES)
def test_a_published_way_of_cutting_is_found_by_name_and_comes_back(name: str) -> None:
    tokenizer = published(RECIPES[name])
    exported = gguf_metadata(tokenizer, tokenizer.vocab_size)
    assert exported.exact
    assert WHOLE not in exported.metadata
    again = from_gguf_metadata(exported.metadata)
    for line in LINES:
        assert again.encode(line) == tokenizer.encode(line), line
    found = RECIPES[exported.pre]
    assert (found.whole_pieces, found.nfc) == (RECIPES[name].whole_pieces, RECIPES[name].nfc)


def test_one_born_here_gets_the_nearest_name_and_travels_whole(born: Tokenizer) -> None:
    exported = gguf_metadata(born, born.vocab_size)
    assert exported.pre in RECIPES
    assert not exported.exact
    assert 0.5 < exported.agreement <= 1
    assert WHOLE in exported.metadata


def test_the_share_that_is_told_is_that_of_equal_lines(born: Tokenizer) -> None:
    name, share, same = nearest_pre(born._core)
    assert not same
    other = published(RECIPES[name])
    content = tokenizers.Tokenizer.from_str(born._core.to_str())
    content.normalizer, content.pre_tokenizer = other._core.normalizer, other._core.pre_tokenizer
    equal = [content.encode(line, add_special_tokens=False).ids == born.encode(line) for line in PROBE]
    assert share == pytest.approx(sum(equal) / len(PROBE))


def test_tokens_have_the_kinds_llama_cpp_looks_for(born: Tokenizer) -> None:
    found = gguf_metadata(born, born.vocab_size + 3).metadata
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == born.vocab_size + 3
    assert len(set(tokens)) == len(tokens)
    for special in ("<|endoftext|>", "<|im_end|>"):
        assert kinds[tokens.index(special)] == 3
    assert kinds[-3:] == [5, 5, 5]
    assert kinds.count(1) == born.vocab_size - len(born.special_ids)
    assert found["tokenizer.ggml.eos_token_id"] == found["tokenizer.ggml.eot_token_id"] == born.end_of_turn_id
    assert found["tokenizer.ggml.padding_token_id"] == born.pad_id
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["tokenizer.chat_template"] == born.chat_template


def test_added_tokens_that_are_not_special_are_told_apart(born: Tokenizer) -> None:
    core = tokenizers.Tokenizer.from_str(born._core.to_str())
    core.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    found = gguf_metadata(Tokenizer(core, {"eos_token": "<|im_end|>"}, None), core.get_vocab_size()).metadata
    assert found["tokenizer.ggml.token_type"][found["tokenizer.ggml.tokens"].index("<think>")] == 4


@pytest.mark.parametrize("kind", ["byte_bpe", "bpe", "unigram"])
def test_ids_are_equal_after_a_model_was_written_and_read(kind: str, tmp_path: Path) -> None:
    tokenizer = train(iter(LINES * 4), kind=kind, vocab_size=400)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16,
        intermediate_size=32,
    )  # fmt: skip
    model = Decoder(config)
    initialise(model, 0)
    model.tokenizer = tokenizer
    notes: list[str] = []
    export_gguf(model, tmp_path / "born.gguf", "f16", note=notes.append)
    again = load_gguf(tmp_path / "born.gguf", "fp32", "cpu")
    assert again.tokenizer is not None
    for line in LINES:
        assert again.tokenizer.encode(line) == tokenizer.encode(line), line
    assert again.tokenizer.chat_template == tokenizer.chat_template
    assert again.tokenizer.end_of_turn_id == tokenizer.end_of_turn_id
    assert again.config.stop_ids == (tokenizer.end_of_turn_id,)
    assert any("does not know how" in note for note in notes)


def test_wordpiece_and_too_many_tokens_are_refused(born: Tokenizer) -> None:
    with pytest.raises(LuhuoError, match="more tokens"):
        gguf_metadata(born, 10)
    with pytest.raises(LuhuoError, match="cannot be written") as caught:
        gguf_metadata(train(iter(LINES * 4), kind="wordpiece", vocab_size=400), 1000)
    assert "WordPiece" in str(caught.value)


def test_a_damaged_whole_tokenizer_is_a_message(born: Tokenizer, tmp_path: Path) -> None:
    metadata = {**gguf_metadata(born, born.vocab_size).metadata, WHOLE: "{"}
    from luhuo.model.gguf import read_tokenizer

    write_gguf(tmp_path / "bad.gguf", metadata, [])
    with pytest.raises(LuhuoError, match="damaged"):
        read_tokenizer(GGUF(tmp_path / "bad.gguf").metadata)
