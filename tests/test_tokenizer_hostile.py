"""Tokenizer files from strangers: damaged ones end with a message, whatever the damage."""

from __future__ import annotations

import json
import random
import struct

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.tokenizer import sentencepiece
from luhuo.tokenizer.protobuf import WireError, fields
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.test_tokenizer_published import LLAMA, byte_level, train_sentencepiece


def varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def message(*entries: tuple[int, bytes | int]) -> bytes:
    """A protobuf message of text, message and number fields."""
    parts = []
    for number, value in entries:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def piece(text: str, kind: int = 1, score: float = 0.0) -> tuple[int, bytes]:
    body = message((1, text.encode())) + varint(2 << 3 | 5) + struct.pack("<f", score) + message((3, kind))
    return 1, body


def model(*pieces: tuple[int, bytes], algorithm: int = 2, **more: int) -> bytes:
    return message(*pieces, (2, message((3, algorithm), *((int(k[1:]), v) for k, v in more.items()))))


UNK = piece("<unk>", 2)


def test_a_small_model_written_by_hand_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(model(UNK, piece("▁"), piece("a"), piece("b"), piece("ab", score=-1.0), f42=2**64 - 1))
    found = sentencepiece.read(file)
    assert [p.text for p in found.pieces] == ["<unk>", "▁", "a", "b", "ab"]
    assert (found.algorithm, found.eos_id, found.pieces[4].score) == (2, -1, -1.0)
    tokenizer = Tokenizer.load(tmp_path)
    assert [tokenizer.token_text(i) for i in tokenizer.encode("abb")] == ["▁", "ab", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x05ab",
        b"\xff" * 30,
        b"\x0b\x0c",
        message((1, b"\x0a\x02\xff\xfe")),
        model(UNK, piece("a"), piece("a")),
        model(UNK, piece("a", score=float("nan"))),
        model(UNK, piece("a"), algorithm=3),
        model(UNK, piece("a"), algorithm=99),
        model(UNK, piece("a"), f24=1),
        model(piece("a"), algorithm=1, f40=7),
        message((2, message((3, 2)))),
        message(piece("a"), UNK, (3, message((2, b"\x01\x02\x03")))),
        message((1, 5)),
    ],
)
def test_a_damaged_sentencepiece_model_is_refused(tmp_path, data):
    (tmp_path / "spiece.model").write_bytes(data)
    with pytest.raises(LuhuoError, match="SentencePiece") as error:
        Tokenizer.load(tmp_path)
    assert "spiece.model" in str(error.value.where)


def test_any_mutation_of_a_sentencepiece_model_gives_a_tokenizer_or_a_message(tmp_path):
    good = train_sentencepiece(tmp_path, **LLAMA).read_bytes()[:6000]
    head = good + message((2, message((3, 2), (35, 1))))
    file, chance = tmp_path / "tokenizer.model", random.Random(1)
    outcomes = set()
    for _ in range(400):
        data = bytearray(head)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        file.write_bytes(bytes(data[: chance.randrange(1, len(data) + 1)]))
        try:
            Tokenizer.load(tmp_path).encode("a 炉火")
            outcomes.add("read")
        except LuhuoError as error:
            outcomes.add("refused")
            assert str(error)
    assert "refused" in outcomes


def test_a_length_beyond_the_end_is_noticed_before_anything_is_allocated():
    with pytest.raises(WireError, match="are left"):
        list(fields(varint(1 << 3 | 2) + varint(1 << 62)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qwen.tiktoken", b"not base64 1\n"),
        ("qwen.tiktoken", b"IQ== 0\n"),
        ("qwen.tiktoken", b"IQ==\n"),
        ("tekken.json", b"{}"),
        ("tekken.json", b'{"config": {"default_vocab_size": 3, "default_num_special_tokens": 1, "pattern": "("}}'),
        ("tokenizer.json", b"{]"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}'),
        ("vocab.txt", b"\xff\xfe"),
        ("vocab.txt", b"a\nb\n"),
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LuhuoError) as error:
        Tokenizer.load(tmp_path)
    assert name in str(error.value.where)


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ("[]", ""),
        ('{"a": "b"}', ""),
        ('{"a": -1}', ""),
        ("{", ""),
        ('{"a": 0, "b": 1}', "a b\n"),
        ('{"a": 0, "b": 1, "ab": 2}', "ab\n"),
        ('{"a": 0, "b": 1, "ab": 2}', "a b c\n"),
    ],
)
def test_damaged_gpt2_files_are_refused(tmp_path, vocab, merges):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    with pytest.raises(LuhuoError, match="vocabulary cannot be read"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_damaged_settings_are_named(tmp_path, name, content):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LuhuoError) as error:
        Tokenizer.load(tmp_path)
    assert error.value.where == tmp_path / name


def test_settings_of_the_wrong_shape_do_no_harm(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    chance = random.Random(2)
    values = [None, 7, "x", [], {}, [1], {"content": 3}, {"a": "b"}, True, "<|endoftext|>"]
    keys = [
        "eos_token",
        "pad_token",
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
        "chat_template",
        "add_bos_token",
        "tokenizer_class",
    ]
    for _ in range(200):
        config = {key: chance.choice(values) for key in chance.sample(keys, 4)}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": chance.choice(values)}))
        tokenizer = Tokenizer.load(tmp_path)
        assert tokenizer.decode(tokenizer.encode("炉火 a", framed=True)) == "炉火 a"


def test_a_vocabulary_without_any_end_loads_and_says_so_when_one_is_needed(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a") and tokenizer.turn_end_ids == ()
    for role in ("eos_id", "end_of_turn_id", "pad_id"):
        with pytest.raises(LuhuoError):
            getattr(tokenizer, role)
