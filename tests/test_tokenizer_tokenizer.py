"""Tokenizers: training, the Hugging Face layout, special tokens, decoding as tokens arrive."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import jinja2
import pytest
from tokenizers import Regex, pre_tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.tokenizer.chat import SPECIAL_TOKENS
from luhuo.tokenizer.split import split_pattern
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train

SAID = [
    "炉火纯青，是炼丹的人说火候到了。The furnace burns pure blue when the elixir is ready.\n" * 4,
    "张三在2024年买了12本书，每本35元。Don't forget: 12 × 35 = 420!\n" * 4,
    "She reads the old books about the furnace and the river.\n" * 4,
    "河边的老人说，今年的火候比去年好。\n" * 4,
]
HARD = "𠮷野家😀👩‍👩‍👧 café naïve\t\r\n 　全角　ａ１  <|im_end|> <0x41> ½ ﷽ é\u0301 #!"
KINDS = ("byte_bpe", "bpe", "wordpiece", "unigram")
LOSSLESS = ("byte_bpe", "bpe", "unigram")


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train(SAID, kind=kind, vocab_size=600) for kind in KINDS}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_any_text_comes_back_equal(trained, kind):
    for text in (*SAID, HARD, "", "\x00\x7f", "一" * 300, "a" * 300):
        assert trained[kind].decode(trained[kind].encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_text_are_text_unless_asked_for(trained, kind):
    tokenizer = trained[kind]
    for token in SPECIAL_TOKENS:
        text = f"a{token}b"
        assert not tokenizer.special_ids & set(tokenizer.encode(text)) - {tokenizer._core.token_to_id("<|unk|>")}
        assert not tokenizer.special_ids & set(tokenizer.encode_batch([text])[0]) - {
            tokenizer._core.token_to_id("<|unk|>")
        }
        assert tokenizer.encode(text, special=True).count(tokenizer.token_id(token)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_take_the_first_ids(trained, kind):
    tokenizer = trained[kind]
    assert [tokenizer.token_id(t) for t in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.end_of_turn_id) == (0, 1, 3)


def test_an_unknown_token_is_an_error(trained):
    with pytest.raises(LuhuoError):
        trained["byte_bpe"].token_id("<|nobody|>")


def test_batch_encoding_equals_encoding_one_by_one(trained):
    texts = [*SAID, HARD, ""]
    assert trained["byte_bpe"].encode_batch(texts) == [trained["byte_bpe"].encode(t) for t in texts]


def pieces(text: str, **runs: int) -> list[str]:
    splitter = pre_tokenizers.Split(Regex(split_pattern(**runs)), "isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def test_han_runs_are_capped_and_digits_stand_alone():
    assert pieces("话说天下大势，分久必合") == ["话说天下", "大势", "，", "分久必合"]
    assert pieces("话说天下", han_run=1) == ["话", "说", "天", "下"]
    assert pieces("2024年") == ["2", "0", "2", "4", "年"]
    assert pieces("12345", digit_run=3) == ["123", "45"]


def test_words_keep_their_blank_and_chinese_marks_stay_apart():
    assert pieces("we don't stop") == ["we", " don", "'t", " stop"]
    assert pieces("好。Hello（world）") == ["好", "。", "Hello", "（", "world", "）"]
    assert "".join(pieces(HARD)) == HARD


@pytest.mark.parametrize("kind", LOSSLESS)
def test_decoding_token_by_token_gives_the_same_text_and_never_half_a_character(trained, kind):
    tokenizer = trained[kind]
    for text in (*SAID, HARD):
        ids, decoder = tokenizer.encode(text), tokenizer.decoder()
        parts = [decoder.push(i) for i in ids]
        assert not any("\ufffd" in part for part in parts)
        assert "".join(parts) + decoder.flush() == text


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_random_tokens_decode_as_a_whole_would(trained, kind):
    tokenizer, generator = trained[kind], random.Random(0)
    for _ in range(200):
        ids = [generator.randrange(tokenizer.vocab_size) for _ in range(generator.randrange(1, 25))]
        decoder = tokenizer.decoder()
        assert "".join(map(decoder.push, ids)) + decoder.flush() == tokenizer.decode(ids)


def test_an_unfinished_character_becomes_a_replacement_mark_at_the_end(trained):
    tokenizer = trained["byte_bpe"]
    ids = tokenizer.encode("😀")
    decoder = tokenizer.decoder()
    assert [decoder.push(i) for i in ids[:-1]] == [""] * (len(ids) - 1)
    assert decoder.flush() == "\ufffd"
    assert decoder.push(tokenizer.encode("a")[0]) == "a"


def test_special_tokens_can_be_left_out_of_a_stream(trained):
    tokenizer = trained["byte_bpe"]
    ids = [*tokenizer.encode("好"), tokenizer.end_of_turn_id]
    for skip, expected in ((True, "好"), (False, "好<|im_end|>")):
        decoder = tokenizer.decoder(skip_special=skip)
        assert "".join(map(decoder.push, ids)) + decoder.flush() == expected
        assert tokenizer.decode(ids, skip_special=skip) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_loads_equal(trained, kind, tmp_path):
    trained[kind].save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.fingerprint == trained[kind].fingerprint
    assert loaded.chat_template == trained[kind].chat_template
    assert loaded.encode(HARD) == trained[kind].encode(HARD)


def test_the_fingerprint_changes_with_the_template_and_with_the_vocabulary(trained):
    assert train(SAID, vocab_size=600).fingerprint == trained["byte_bpe"].fingerprint
    assert train(SAID, vocab_size=400).fingerprint != trained["byte_bpe"].fingerprint
    other = Tokenizer(trained["byte_bpe"]._core, {"eos_token": "<|im_end|>"}, "{{ messages }}")
    assert other.fingerprint != trained["byte_bpe"].fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_in_other_processes_gives_the_same_tokenizer(kind):
    code = (
        "import json, sys; from luhuo.tokenizer.training import train;"
        f"print(train(json.loads(sys.argv[1]), kind={kind!r}, vocab_size=400).fingerprint)"
    )
    found = set()
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code, json.dumps(SAID)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(run.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_corpus_with_a_large_vocabulary_gives_fewer_tokens_and_says_so(kind, capfd):
    tokenizer = train(["炉火 fire 炉火 fire"], kind=kind, vocab_size=20_000)
    assert tokenizer.vocab_size < 20_000
    assert str(tokenizer.vocab_size) in capfd.readouterr().err
    assert tokenizer.encode("炉火 fire")


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(LuhuoError) as error:
        train(SAID, vocab_size=200)
    assert error.value.found == 200


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_opens_it_with_equal_ids(trained, kind, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = trained[kind]
    tokenizer.save(tmp_path)
    # Beside a model config, transformers must not choose the model family's own tokenizer class.
    (tmp_path / "config.json").write_text('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}')
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*SAID, HARD.replace("<|im_end|>", "")):
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
    marked = "<|im_start|>user\n好<|im_end|>\n"
    assert theirs.encode(marked, add_special_tokens=False) == tokenizer.encode(marked, special=True)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.end_of_turn_id, tokenizer.pad_id)
    assert len(theirs) == tokenizer.vocab_size


MESSAGES = [
    {"role": "system", "content": "你是炉火。"},
    {"role": "user", "content": "3 + 4?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 3, "b": 4}}}]},
    {"role": "tool", "content": "7"},
    {"role": "assistant", "content": "7"},
]


def test_the_chat_template_is_chatml():
    template = jinja2.Environment().from_string(train(SAID, vocab_size=300).chat_template or "")
    assert template.render(messages=MESSAGES[:2], add_generation_prompt=True) == (
        "<|im_start|>system\n你是炉火。<|im_end|>\n<|im_start|>user\n3 + 4?<|im_end|>\n<|im_start|>assistant\n"
    )
    whole = template.render(messages=MESSAGES)
    assert '<tool_call>{"name": "add"' in whole or '"name": "add"' in whole
    for end in range(1, len(MESSAGES) + 1):
        assert whole.startswith(template.render(messages=MESSAGES[:end]))


def test_transformers_renders_the_chat_template_as_we_do(trained, tmp_path):
    from transformers import AutoTokenizer

    trained["byte_bpe"].save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = jinja2.Environment().from_string(trained["byte_bpe"].chat_template or "")
    plain = [m for m in MESSAGES if "tool_calls" not in m]
    for prompt in (True, False):
        expected = ours.render(messages=plain, add_generation_prompt=prompt)
        assert theirs.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt) == expected
    tools = [{"type": "function", "function": {"name": "add", "description": "sum", "parameters": {}}}]
    with_tools = theirs.apply_chat_template(MESSAGES, tools=tools, tokenize=False)
    assert with_tools.count("<|im_start|>system") == 1
    assert '"add"' in with_tools and "你是炉火。" in with_tools


def test_a_folder_without_a_tokenizer_is_one_clear_error(tmp_path):
    with pytest.raises(LuhuoError) as error:
        Tokenizer.load(tmp_path)
    assert error.value.where == tmp_path
    (tmp_path / "tokenizer.json").write_text("{]")
    with pytest.raises(LuhuoError):
        Tokenizer.load(tmp_path)
