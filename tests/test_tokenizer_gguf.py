"""Tokenizers out of GGUF metadata: the ids of the model they were made from, for every kind and every known `pre`."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from luhuo.core.errors import LuhuoError
from luhuo.tokenizer import gguf, patterns, sentencepiece
from luhuo.tokenizer.gguf import from_gguf_metadata
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.test_tokenizer_published import COMPOSED, LLAMA, T5, WORDPIECE, train_sentencepiece
from tests.tokenizer_text import bilingual_lines, training_lines

LINES = bilingual_lines()
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@cache
def digits_then_gpt2() -> tokenizers.Tokenizer:
    """What SmolLM2 and StarCoder publish in tokenizer.json: digits one by one, then the byte level of GPT-2."""
    core = tokenizers.Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    core.train_from_iterator(training_lines(), trainer)
    return core


def byte_level_metadata(core: tokenizers.Tokenizer, pre: str | None) -> dict[str, Any]:
    tokens = [token for token, _ in sorted(core.get_vocab().items(), key=lambda entry: entry[1])]
    merges = [" ".join(pair) for pair in json.loads(core.to_str())["model"]["merges"]]
    types = [3 if token in SPECIAL else 1 for token in tokens]
    found = {"model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges, "token_type": types}
    found |= {"bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 2, "add_bos_token": False}
    metadata = {f"tokenizer.ggml.{key}": value for key, value in found.items() if value is not None}
    return metadata | {"tokenizer.chat_template": "{{ messages }}<|im_end|>"}


def test_smollm_splits_digits_one_by_one():
    """A known defect elsewhere: without the splitter the ids differ, and nothing says so."""
    core = digits_then_gpt2()
    ours = from_gguf_metadata(byte_level_metadata(core, "smollm"))
    core.encode_special_tokens = True
    for line in LINES:
        assert ours.encode(line) == core.encode(line, add_special_tokens=False).ids
    for text in ("2024", "  0\n\n  10", "1,000.5", "№12½"):
        pieces = [ours.decode([i]) for i in ours.encode(text)]
        assert sum(any(c.isdigit() for c in piece) for piece in pieces) == sum(c.isdigit() for c in text if c < "\x7f")


def test_roles_and_template_come_from_the_metadata():
    ours = from_gguf_metadata(byte_level_metadata(digits_then_gpt2(), "smollm"))
    assert (ours.bos_id, ours.eos_id, ours.end_of_turn_id, ours.turn_end_ids) == (1, 0, 2, (2,))
    assert ours.pad_id not in (0, 2)
    assert ours.chat_template == "{{ messages }}<|im_end|>"
    assert ours.encode("<|im_end|>", special=True) == [2] != ours.encode("<|im_end|>")
    assert ours.encode("a", framed=True) == ours.encode("a")
    added = byte_level_metadata(digits_then_gpt2(), "smollm") | {"tokenizer.ggml.add_bos_token": True}
    assert from_gguf_metadata(added).encode("a", framed=True) == [1, *ours.encode("a")]


EXAMPLE = (
    "Don't STOP'S 12345 ½²\r\n\n  x\t!?…— 炉火纯青ひらがなカナ한국 naïve e\u0301 ÀÉ ΩK αΒ <>^~|` $+= a_b/c\n/\u00a0"
)


@pytest.mark.parametrize("name", sorted({*patterns.RECIPES, *patterns.ALIASES}))
def test_every_known_way_of_cutting_compiles_and_loses_nothing(name):
    recipe = patterns.recipe(name)
    assert recipe is not None
    cut = tokenizers.pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in recipe.splits]
    )
    for text in (EXAMPLE, *LINES[:200]):
        assert "".join(piece for piece, _ in cut.pre_tokenize_str(text)) == text


def pieces(name: str, text: str) -> list[str]:
    recipe = patterns.recipe(name)
    assert recipe is not None
    cut = [pre_tokenizers.Split(tokenizers.Regex(p), "isolated") for p in recipe.splits]
    return [piece for piece, _ in pre_tokenizers.Sequence(cut).pre_tokenize_str(text)]


def test_the_ways_of_cutting_differ_where_their_models_do():
    assert pieces("gpt-2", "It's 1234") == ["It", "'s", " 1234"]
    assert pieces("llama-bpe", "IT'S 12345") == ["IT", "'S", " ", "123", "45"]
    assert pieces("qwen2", " 123") == [" ", "1", "2", "3"]
    assert pieces("smollm", " 12a") == [" ", "1", "2", "a"]
    assert pieces("deepseek-v3", "炉火abc12345") == ["炉火", "abc", "123", "45"]
    assert pieces("deepseek-llm", "火ab K1") == ["火", "ab", " K", "1"]
    assert pieces("falcon", "a1234$$b") == ["a", "123", "4", "$$", "b"]
    assert pieces("gpt-4o", "camelCaseWORDs 1234") == ["camel", "Case", "WORDs", " ", "123", "4"]
    assert pieces("tekken", "12 don't") == ["1", "2", " don", "'t"]
    assert pieces("kimi-k2", "炉火ab") == ["炉火", "ab"]
    assert pieces("bloom", "a b,c") == ["a", " b", ",", "c"]
    assert pieces("tiny_aya", "1234567") == ["1", "234", "567"]


def test_llama_gives_the_ids_of_the_sentencepiece_model_it_holds(tmp_path):
    file = train_sentencepiece(tmp_path, **LLAMA)
    model, original = sentencepiece.read(file), Tokenizer.load(tmp_path)
    found = sentencepiece_metadata(model, "llama") | {"tokenizer.ggml.bos_token_id": 1}
    ours = from_gguf_metadata(found)
    assert ours.encode_batch(LINES) == original.encode_batch(LINES)
    assert ours.encode("a", framed=True) == [1, *ours.encode("a")]
    without = from_gguf_metadata(found | {"tokenizer.ggml.add_space_prefix": False})
    assert without.decode(without.encode("a b")) == "a b" and len(without.encode(" a")) >= len(without.encode("a"))


def test_t5_gives_the_ids_of_the_unigram_model_it_holds(tmp_path):
    file = train_sentencepiece(tmp_path, **T5)
    model, original = sentencepiece.read(file), Tokenizer.load(tmp_path)
    found = sentencepiece_metadata(model, "t5") | {"tokenizer.ggml.remove_extra_whitespaces": True}
    found |= {"tokenizer.ggml.precompiled_charsmap": list(model.charsmap), "tokenizer.ggml.eos_token_id": 1}
    ours = from_gguf_metadata(found)
    lines = [line for line in LINES if not COMPOSED.search(line)]
    assert ours.encode_batch(lines) == original.encode_batch(lines)
    assert ours.encode("a", framed=True)[-1] == 1
    signed = [b - 256 if b > 127 else b for b in model.charsmap]
    assert from_gguf_metadata(found | {"tokenizer.ggml.precompiled_charsmap": signed}).fingerprint == ours.fingerprint


def sentencepiece_metadata(model: sentencepiece.Model, kind: str) -> dict[str, Any]:
    found = {
        "model": kind,
        "tokens": [piece.text for piece in model.pieces],
        "scores": [piece.score for piece in model.pieces],
        "token_type": [piece.kind for piece in model.pieces],
        "unknown_token_id": model.unk_id,
        "eos_token_id": model.eos_id,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()}


@pytest.mark.parametrize("lowercase", [True, False])
def test_bert_gives_the_ids_of_its_vocab_txt(tmp_path, lowercase):
    core = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=list(WORDPIECE), show_progress=False)
    core.train_from_iterator(training_lines(), trainer)
    tokens = [token for token, _ in sorted(core.get_vocab().items(), key=lambda entry: entry[1])]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    marked = [t if t in WORDPIECE else t[2:] if t.startswith("##") else f"▁{t}" for t in tokens]
    found = {"model": "bert", "tokens": marked, "token_type": [3 if t in WORDPIECE else 1 for t in tokens]}
    found |= {"cls_token_id": 2, "seperator_token_id": 3, "unknown_token_id": 1, "padding_token_id": 0}
    ours = from_gguf_metadata({f"tokenizer.ggml.{key}": value for key, value in found.items()})
    original = Tokenizer.load(tmp_path)
    assert ours.encode_batch(LINES) == original.encode_batch(LINES)
    assert ours.encode("a", framed=True)[::2] == [2, 3]


def test_an_unknown_way_of_cutting_is_an_error_and_a_missing_one_is_said(capfd):
    with pytest.raises(LuhuoError, match="not known") as error:
        from_gguf_metadata(byte_level_metadata(digits_then_gpt2(), "nobody-1"))
    assert error.value.found == "nobody-1" and "smollm" in str(error.value.expected)
    from_gguf_metadata(byte_level_metadata(digits_then_gpt2(), None))
    assert "tokenizer.ggml.pre" in capfd.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"model": "rwkv"},
        {"model": None},
        {"tokens": None},
        {"tokens": []},
        {"tokens": "abc"},
        {"tokens": [1, 2]},
        {"tokens": ["a", "a"]},
        {"token_type": [1]},
        {"merges": ["ab"]},
        {"merges": [7]},
        {"merges": []},
        {"scores": [0.5]},
    ],
)
def test_metadata_that_do_not_fit_are_refused(change: Mapping[str, Any]):
    metadata = byte_level_metadata(digits_then_gpt2(), "smollm")
    metadata |= {f"{gguf.PREFIX}{key}": value for key, value in change.items()}
    with pytest.raises(LuhuoError):
        from_gguf_metadata(metadata)


def test_ids_out_of_range_are_left_out():
    found = byte_level_metadata(digits_then_gpt2(), "smollm") | {"tokenizer.ggml.bos_token_id": 1 << 31}
    assert from_gguf_metadata(found).bos_id is None


def test_metadata_of_any_shape_give_a_tokenizer_or_a_message():
    chance = random.Random(3)
    base = byte_level_metadata(digits_then_gpt2(), "smollm")
    values: list[Any] = [None, -1, 1 << 40, "x", b"x", [], [None], ["a"], [1.5], {"a": 1}, True, float("nan")]
    for _ in range(300):
        key = chance.choice([*base, "tokenizer.ggml.scores", "tokenizer.ggml.eot_token_id"])
        try:
            from_gguf_metadata(base | {key: chance.choice(values)})
        except LuhuoError as error:
            assert str(error)
