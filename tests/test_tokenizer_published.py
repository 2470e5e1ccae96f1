"""Tokenizers of published models, kind by kind: ids equal those of the library they come from, on 10,000 lines."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from luhuo.core.errors import LuhuoError
from luhuo.tokenizer import patterns, sentencepiece
from luhuo.tokenizer.alphabet import byte_of
from luhuo.tokenizer.settings import Added
from luhuo.tokenizer.settings import read as read_settings
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.tokenizer_text import FIXED, bilingual_lines, training_lines

LINES = bilingual_lines()
COMPOSED = re.compile("[\u0300-\u036f\u0591-\u06ed\u0900-\u0dff\u0e31-\u0e4e\u1100-\u11ff\uff9e\uff9f]")
MARKED = ["<|im_start|>user\n你好<|im_end|>\n", "a<|endoftext|>b", "x <s> y</s>", "[CLS] a [SEP]"]


def differing(ours: Tokenizer, theirs: Callable[[str], list[int]], lines: list[str]) -> list[str]:
    return [line for line, ids in zip(lines, ours.encode_batch(lines), strict=True) if ids != theirs(line)]


@cache
def byte_level(pattern: str = patterns.QWEN2, whole: bool = False) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE(ignore_merges=whole))
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(training_lines(), trainer)
    return core


def train_sentencepiece(folder: Path, **options: object) -> Path:
    import sentencepiece as library

    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(line.replace("\0", "").split("\n")) for line in training_lines()), "utf-8")
    settings: dict[str, object] = {"vocab_size": 2600, "character_coverage": 0.98, "hard_vocab_limit": False}
    settings |= {"minloglevel": 2, "input": str(text), "model_prefix": str(folder / "tokenizer"), "num_threads": 1}
    library.SentencePieceTrainer.train(**(settings | options))
    return folder / "tokenizer.model"


def their_sentencepiece(file: Path):
    import sentencepiece as library

    return library.SentencePieceProcessor(model_file=str(file))


LLAMA = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
}
GEMMA = LLAMA | {
    "add_dummy_prefix": False,
    "user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "▁▁", "  "],
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
}
T5 = {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}


@pytest.mark.parametrize("options", [LLAMA, GEMMA], ids=["llama", "gemma"])
def test_sentencepiece_bpe_gives_the_ids_of_sentencepiece_itself(tmp_path, options):
    file = train_sentencepiece(tmp_path, **options)
    assert differing(Tokenizer.load(tmp_path), their_sentencepiece(file).encode, LINES) == []


def test_sentencepiece_unigram_segments_as_sentencepiece_does_or_equally_well(tmp_path):
    """Two ways of equal score (a run of one character) may be told apart by rounding; nothing else may differ."""
    options = {"model_type": "unigram", "byte_fallback": True, "normalization_rule_name": "identity"}
    theirs = their_sentencepiece(train_sentencepiece(tmp_path, **options, remove_extra_whitespaces=False))
    ours = Tokenizer.load(tmp_path)
    different = differing(ours, theirs.encode, LINES)
    assert len(different) < 20
    for line in different:
        scores = [sum(map(theirs.get_score, ids)) for ids in (ours.encode(line), theirs.encode(line))]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_sentencepiece_with_a_normaliser_map_equals_it_where_each_character_stands_alone(tmp_path, kind):
    """In `tokenizers`, and so in transformers, the map is looked up by grapheme; composed ones can differ."""
    theirs = their_sentencepiece(train_sentencepiece(tmp_path, **(T5 | {"model_type": kind})))
    ours = Tokenizer.load(tmp_path)
    for line in differing(ours, theirs.encode, [line for line in LINES if not COMPOSED.search(line)]):
        scores = [sum(map(theirs.get_score, ids)) for ids in (ours.encode(line), theirs.encode(line))]
        assert kind == "unigram" and scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.parametrize(
    ("file", "settings", "pattern", "nfc"),
    [
        ("qwen.tiktoken", {"tokenizer_class": "QWenTokenizer"}, patterns.QWEN2, True),
        ("tiktoken.model", {"tokenizer_class": "TikTokenTokenizer"}, patterns.KIMI, False),
        ("cl100k_base.tiktoken", {}, patterns.CL100K, False),
        ("o200k_base.tiktoken", {}, patterns.O200K, False),
    ],
    ids=["qwen", "kimi", "cl100k", "o200k"],
)
def test_rank_files_give_the_ids_of_tiktoken_itself(tmp_path, file, settings, pattern, nfc):
    import tiktoken

    ranks = {bytes(byte_of()[c] for c in t): i for t, i in byte_level(pattern).get_vocab().items()}
    lines = [base64.b64encode(token) + b" %d" % rank for token, rank in sorted(ranks.items(), key=lambda e: e[1])]
    name = "tokenizer.model" if file == "tiktoken.model" else file
    (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def encode(line: str) -> list[int]:
        return theirs.encode(unicodedata.normalize("NFC", line) if nfc else line, disallowed_special=())

    assert differing(Tokenizer.load(tmp_path), encode, LINES) == []


def test_tekken_files_give_the_ids_of_tiktoken_behind_their_special_tokens(tmp_path):
    import tiktoken

    pattern = patterns.RECIPES["tekken"].splits[0]
    ranks = {bytes(byte_of()[c] for c in t): i for t, i in byte_level(pattern).get_vocab().items()}
    vocab = [{"rank": i, "token_bytes": base64.b64encode(t).decode()} for t, i in ranks.items()]
    config = {"pattern": pattern, "default_vocab_size": len(ranks) + 10, "default_num_special_tokens": 10}
    (tmp_path / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}))
    theirs = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    ours = Tokenizer.load(tmp_path)
    assert differing(ours, lambda x: [i + 10 for i in theirs.encode(x, disallowed_special=())], LINES) == []
    assert (ours.bos_id, ours.eos_id, ours.encode("[INST]", special=True)) == (1, 2, [3])
    assert ours.encode("", framed=True) == [1]


WORDPIECE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": True},
        {"do_lower_case": False, "strip_accents": False},
        {"do_lower_case": True, "tokenize_chinese_chars": False},
    ],
    ids=["uncased", "cased", "chinese-words"],
)
def test_wordpiece_vocabularies_give_the_ids_of_bert_in_transformers(tmp_path, settings):
    from transformers import BertTokenizer

    core = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=settings["do_lower_case"])
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=2000, special_tokens=list(WORDPIECE), show_progress=False)
    core.train_from_iterator(training_lines(), trainer)
    vocab = sorted(core.get_vocab().items(), key=lambda entry: entry[1])
    (tmp_path / "vocab.txt").write_text("\n".join(token for token, _ in vocab) + "\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
    theirs = BertTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    lines = [line for line in LINES if not any(token in line for token in WORDPIECE)]
    assert differing(ours, lambda line: theirs.encode(line, add_special_tokens=False), lines) == []
    assert ours.encode("hi 你好", framed=True) == theirs.encode("hi 你好")
    for token in WORDPIECE:
        assert ours.token_id(token) not in ours.encode(f"a {token} b") or token == "[UNK]"
        assert ours.encode(f"a {token} b", special=True) == theirs.encode(f"a {token} b", add_special_tokens=False)


@pytest.mark.parametrize("family", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_vocab_json_and_merges_give_the_ids_of_transformers(tmp_path, family):
    import transformers

    core = byte_level(patterns.GPT2 if family == "GPT2Tokenizer" else patterns.QWEN2)
    core.model.save(str(tmp_path))
    content = json.loads(core.to_str())["model"]["vocab"]
    (tmp_path / "vocab.json").write_text(json.dumps(content | {"<|endoftext|>": len(content)}), "utf-8")
    settings = {"tokenizer_class": family, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    settings |= {"added_tokens_decoder": {str(len(content)): {"content": "<|endoftext|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = getattr(transformers, family).from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    lines = [line for line in LINES if "<|endoftext|>" not in line]
    assert differing(ours, lambda line: theirs.encode(line, add_special_tokens=False), lines) == []
    assert ours.encode("a<|endoftext|>", special=True)[-1] == ours.eos_id == len(content)
    assert ours.eos_id not in ours.encode("a<|endoftext|>")


def test_tokenizer_json_gives_the_ids_of_transformers(tmp_path):
    from transformers import AutoTokenizer

    core = tokenizers.Tokenizer.from_str(byte_level().to_str())
    core.normalizer = normalizers.NFC()
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    core.add_tokens(["<think>", "    "])
    core.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    options = {"add_special_tokens": False, "split_special_tokens": True}
    assert differing(ours, lambda line: theirs.encode(line, **options), LINES) == []
    for text in MARKED:
        assert ours.encode(text, special=True) == theirs.encode(text, add_special_tokens=False)


def test_a_sentencepiece_tokenizer_saved_as_tokenizer_json_opens_equal_here_and_in_transformers(tmp_path):
    from transformers import AutoTokenizer

    train_sentencepiece(tmp_path, **LLAMA)
    ours = Tokenizer.load(tmp_path)
    ours.save(tmp_path / "saved")
    again, theirs = Tokenizer.load(tmp_path / "saved"), AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.fingerprint == ours.fingerprint
    lines = [line for line in LINES[:3000] if "<s>" not in line and "<unk>" not in line]
    assert differing(again, lambda line: theirs.encode(line, add_special_tokens=False), lines) == []
    assert theirs.decode(ours.encode("你好 a b")) == ours.decode(ours.encode("你好 a b")) == "你好 a b"


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory) -> dict[str, Tokenizer]:
    found = {}
    for name, options in {"llama": LLAMA, "gemma": GEMMA, "t5": T5}.items():
        folder = tmp_path_factory.mktemp(name)
        train_sentencepiece(folder, **options)
        found[name] = Tokenizer.load(folder)
    folder = tmp_path_factory.mktemp("json")
    byte_level().save(str(folder / "tokenizer.json"))
    return {**found, "byte": Tokenizer.load(folder)}


@pytest.mark.parametrize("kind", ["llama", "gemma", "byte"])
def test_text_comes_back_equal_from_the_lossless_kinds(every_kind, kind):
    """U+2581 is how SentencePiece writes a blank; such a text it cannot give back, nor can we."""
    tokenizer = every_kind[kind]
    for line in LINES:
        if kind == "byte" or "▁" not in line:
            assert tokenizer.decode(tokenizer.encode(line)) == line


@pytest.mark.parametrize("kind", ["llama", "gemma", "t5", "byte"])
def test_decoding_token_by_token_equals_decoding_at_once_and_gives_no_half_character(every_kind, kind):
    tokenizer = every_kind[kind]
    for line in [*FIXED, *LINES[:1500]]:
        ids, decoder = tokenizer.encode(line), tokenizer.decoder()
        parts = [decoder.push(i) for i in ids]
        assert "".join(parts) + decoder.flush() == tokenizer.decode(ids)
        assert "\ufffd" in line or not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("kind", ["llama", "gemma", "t5"])
def test_special_and_byte_names_typed_into_a_text_stay_text(every_kind, kind):
    tokenizer = every_kind[kind]
    found = tokenizer.encode("a </s> <s> <pad> <0x41> <unk> b")
    assert not set(found) & (tokenizer.special_ids - {tokenizer.unk_id})
    assert "<0x41>" not in [tokenizer.token_text(i) for i in found]
    assert tokenizer.eos_id in tokenizer.encode("a </s>" if kind != "gemma" else "a <eos></s>", special=True)


def test_the_frame_is_what_the_kind_or_the_settings_ask_for(tmp_path):
    file = train_sentencepiece(tmp_path, **LLAMA)
    plain = Tokenizer.load(tmp_path)
    ids = plain.encode("你好")
    assert plain.encode("你好", framed=True) == [plain.bos_id, *ids]
    for settings, expected in (
        ({"add_bos_token": False}, ids),
        ({"add_bos_token": True, "add_eos_token": True}, [plain.bos_id, *ids, plain.eos_id]),
        ({"tokenizer_class": "BaichuanTokenizer"}, ids),
    ):
        named = {"bos_token": "<s>", "eos_token": "</s>"} | settings
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
        assert Tokenizer.load(tmp_path).encode("你好", framed=True) == expected
    assert file.is_file()


def test_t5_puts_its_sentinels_behind_the_pieces_and_ends_a_text(tmp_path):
    train_sentencepiece(tmp_path, **T5)
    size = len(sentencepiece.read(tmp_path / "tokenizer.model").pieces)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 7}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == size + 7
    assert tokenizer.token_id("<extra_id_0>") == size + 6
    assert tokenizer.encode("a<extra_id_6>", special=True)[-1] == size
    assert tokenizer.encode("a", framed=True)[-1] == tokenizer.eos_id == 1


def test_xlm_roberta_numbers_its_pieces_as_fairseq_did(tmp_path):
    train_sentencepiece(tmp_path, model_type="unigram")
    model = sentencepiece.read(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.model").rename(tmp_path / "sentencepiece.bpe.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    tokenizer = Tokenizer.load(tmp_path)
    assert [tokenizer.token_id(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.token_id(model.pieces[10].text) == 11
    assert tokenizer.token_id("<mask>") == len(model.pieces) + 1
    theirs = their_sentencepiece(tmp_path / "sentencepiece.bpe.model")
    text = "the furnace 炉火"
    assert tokenizer.encode(text) == [i + 1 if i else 3 for i in theirs.encode(text)]


def test_roles_are_found_in_every_file_that_can_name_them(tmp_path):
    core = tokenizers.Tokenizer.from_str(byte_level().to_str())
    core.add_special_tokens(["<s>", "</s>", "<|user|>", "<|end|>", "<|reserved_0|>"])
    core.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}, "bos_token": "<s>"}')
    ids = [core.token_to_id(t) for t in ("</s>", "<|user|>")]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}{{ eos_token }}")
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (core.token_to_id("<s>"), ids[0])
    assert tokenizer.turn_end_ids == tuple(ids)
    assert tokenizer.pad_id == core.token_to_id("<|reserved_0|>")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}<|end|>")
    assert Tokenizer.load(tmp_path).end_of_turn_id == core.token_to_id("<|end|>")


def test_a_pad_token_that_also_ends_texts_is_not_used_for_padding(tmp_path):
    core = tokenizers.Tokenizer.from_str(byte_level().to_str())
    core.add_special_tokens(["<|endoftext|>", "<|im_end|>", "<|extra_0|>"])
    core.save(str(tmp_path / "tokenizer.json"))
    for pad in ("<|endoftext|>", "<|im_end|>", None):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "pad_token": pad}))
        tokenizer = Tokenizer.load(tmp_path)
        assert tokenizer.pad_id == core.token_to_id("<|extra_0|>")
        assert tokenizer.pad_id not in (tokenizer.eos_id, *tokenizer.turn_end_ids)


def test_one_of_several_named_templates_is_the_default_one(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert Tokenizer.load(tmp_path).chat_template == "D"
    (tmp_path / "chat_template.jinja").write_text("F")
    assert Tokenizer.load(tmp_path).chat_template == "F"


def test_added_tokens_of_older_files_are_read(tmp_path):
    (tmp_path / "added_tokens.json").write_text('{"<a>": 7}')
    decoder = {"5": {"content": "<b>", "special": True, "lstrip": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    found = read_settings(tmp_path).added
    assert found == (Added("<b>", 5, lstrip=True), Added("<a>", 7, special=False, normalized=True))


def test_an_added_token_whose_id_is_taken_is_an_error(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "added_tokens.json").write_text('{"<a>": 7}')
    with pytest.raises(LuhuoError) as error:
        Tokenizer.load(tmp_path)
    assert error.value.expected == "<a>: 7"


def test_a_rank_file_of_an_unknown_model_is_refused_with_a_way_out(tmp_path):
    lines = [base64.b64encode(bytes([b])) + b" %d" % b for b in range(256)]
    (tmp_path / "mystery.tiktoken").write_bytes(b"\n".join(lines))
    with pytest.raises(LuhuoError, match="how text is cut") as error:
        Tokenizer.load(tmp_path)
    assert error.value.fix and "tokenizer.json" in error.value.fix


def test_text_is_encoded_behind_a_frame_of_two_tokens(tmp_path):
    core = tokenizers.Tokenizer.from_str(byte_level().to_str())
    core.add_special_tokens(["[gMASK]", "<sop>", "</s>"])
    special = [(t, core.token_to_id(t)) for t in ("[gMASK]", "<sop>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single="[gMASK] <sop> $A </s>", special_tokens=special)
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    for text in ("你好", "", "a"):
        expected = [special[0][1], special[1][1], *tokenizer.encode(text), special[2][1]]
        assert tokenizer.encode(text, framed=True) == expected
