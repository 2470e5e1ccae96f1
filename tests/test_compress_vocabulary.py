"""Vocabulary trimming: fewer tokens, the same ids for texts that need no other, the same logits, still any text."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from luhuo.compress.vocabulary import choose, config_ids, template_ids, trim
from luhuo.compress.vocabulary_stage import TrimVocabularyStage
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from luhuo.tokenizer.chat import SPECIAL_TOKENS
from luhuo.tokenizer.subset import Closure, subset
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.small_chat import small_config

ENGLISH = [
    "The miller carried his flour to the market and came home in the evening with two silver coins.",
    "In the evening the river was quiet, and the children counted boats until the lamps were lit.",
    "Nobody in the market knew whose coins they were; the miller counted them again and again.",
]
CHINESE = ["磨坊主人清晨把面粉运到集市，傍晚带着两枚银币回家。", "傍晚的河面很安静，孩子们数着船，直到灯火亮起。"]
STRANGE = ["Größe naïve ½ ☂ 🧪 ﷽", "数据\t\n  1234567 __init__", "ELEPHANT zygote", "\u0000\x7f e\u0301"]
WORDS = " ".join(ENGLISH).split()


def trained(kind: str) -> Tokenizer:
    """A small tokenizer of a kind, trained on both languages."""
    return {"byte-level": _byte_level, "byte-fallback": _byte_fallback, "unigram": _unigram, "wordpiece": _wordpiece}[
        kind
    ]()


@cache
def _byte_level() -> Tokenizer:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(ENGLISH * 3 + CHINESE * 3, trainer)
    return Tokenizer.born_here(core)


@cache
def _byte_fallback() -> Tokenizer:
    """As Llama 2's: blanks are letters, unknown characters become bytes."""
    core = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Replace(" ", "▁")  # type: ignore[assignment]
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    core.train_from_iterator(
        ENGLISH * 3 + CHINESE * 3, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    content = json.loads(core.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < 3]
    core = tokenizers.Tokenizer.from_str(json.dumps(content))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence(steps)  # type: ignore[assignment]
    core.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return Tokenizer(core, {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}, None)


@cache
def _unigram() -> Tokenizer:
    core = tokenizers.Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    core.decoder = decoders.Metaspace()  # type: ignore[assignment]
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(ENGLISH * 3 + CHINESE * 3, trainer)
    return Tokenizer(core, {"eos_token": "</s>", "unk_token": "<unk>"}, None)


@cache
def _wordpiece() -> Tokenizer:
    core = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    core.decoder = decoders.WordPiece()  # type: ignore[assignment]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core.train_from_iterator(
        ENGLISH * 3 + CHINESE * 3,
        trainers.WordPieceTrainer(vocab_size=330, special_tokens=special, show_progress=False),
    )
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))  # type: ignore[assignment]
    return Tokenizer(core, {"sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}, None)


KINDS = ("byte-level", "byte-fallback", "unigram", "wordpiece")


def english_half(tokenizer: Tokenizer) -> set[int]:
    """What has to be kept for some of the English words."""
    chance = random.Random(0)
    words = [" ".join(chance.sample(WORDS, 6)) for _ in range(4)]
    return Closure(tokenizer).all_of({i for word in words for i in tokenizer.encode(word)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_whose_tokens_are_all_kept_is_cut_as_before(kind: str):
    tokenizer = trained(kind)
    kept = english_half(tokenizer)
    smaller, order = subset(tokenizer, kept)
    assert smaller.vocab_size == len(order) < 0.9 * tokenizer.vocab_size
    chance = random.Random(1)
    texts = ["".join(chance.choice([" ", "", "-"]) + chance.choice(WORDS) for _ in range(3)) for _ in range(1500)]
    same = [text for text in texts if kept.issuperset(tokenizer.encode(text))]
    assert 50 < len(same) < 1500  # some need other tokens
    for text in same:
        assert [order[i] for i in smaller.encode(text)] == tokenizer.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_uses_dropped_tokens_is_written_with_smaller_ones(kind: str):
    tokenizer = trained(kind)
    smaller, _ = subset(tokenizer, english_half(tokenizer))
    longer = 0
    for text in [*CHINESE, *ENGLISH, *STRANGE]:
        before, after = tokenizer.encode(text), smaller.encode(text)
        assert smaller.decode(after) == tokenizer.decode(before)
        assert after.count(smaller.unk_id or -1) == before.count(tokenizer.unk_id or -1)
        longer += len(after) > len(before)
    assert longer > 0


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_the_frame_of_a_text_keep_their_meaning(kind: str):
    tokenizer = trained(kind)
    smaller, order = subset(tokenizer, Closure(tokenizer).all_of([]))
    for number, text in tokenizer.added_tokens.items():
        assert order[smaller.token_id(text)] == number
        assert smaller.encode(text, special=True) == [smaller.token_id(text)]
    framed = smaller.encode(ENGLISH[0], framed=True)
    ends = tokenizer.encode(ENGLISH[0], framed=True)
    assert [order[framed[0]], order[framed[-1]]] == [ends[0], ends[-1]] or kind in ("byte-level", "unigram")
    assert order[smaller.eos_id] == tokenizer.eos_id and order[smaller.pad_id] == tokenizer.pad_id


def test_every_token_comes_with_those_it_is_merged_from():
    tokenizer = _byte_level()
    closure = Closure(tokenizer)
    for number in range(0, tokenizer.vocab_size, 3):
        if number in tokenizer.special_ids:
            continue
        smaller, order = subset(tokenizer, closure.all_of([number]))
        text = tokenizer.token_bytes(number).decode("utf-8", "ignore")
        if tokenizer.encode(text) == [number]:
            assert [order[i] for i in smaller.encode(text)] == [number]


def test_a_tokenizer_without_the_intermediate_tokens_would_cut_differently():
    tokenizer = _byte_level()
    (number,) = tokenizer.encode(" market")
    assert len(Closure(tokenizer).of(number)) > 7
    alone, order = subset(tokenizer, Closure(tokenizer).always | {number})
    assert [order[i] for i in alone.encode(" market")] != [number]


def test_tokens_are_chosen_by_frequency_until_they_cover_enough():
    tokenizer = _byte_level()
    counts = Counter(dict.fromkeys(tokenizer.encode(CHINESE[0]), 1) | dict.fromkeys(tokenizer.encode(ENGLISH[0]), 50))
    everything = choose(counts, tokenizer)
    assert everything.issuperset(counts)
    assert choose(counts, tokenizer, min_count=2) == choose(counts, tokenizer, coverage=0.95) < everything
    limit = len(choose(counts, tokenizer, min_count=2)) - 10
    few = choose(counts, tokenizer, size=limit)
    assert limit - 8 < len(few) <= limit and few < everything
    with pytest.raises(LuhuoError, match="write every text"):
        choose(counts, tokenizer, size=100)


def small_trained_model(tied: bool) -> Decoder:
    """A random model over the byte-level tokenizer, with some rows beyond it, as published models have."""
    vocab = _byte_level().vocab_size + 7
    model = initialise(Decoder(small_config(tie_embeddings=tied).model_copy(update={"vocab_size": vocab})), 0).eval()
    model.tokenizer = _byte_level()
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_states_and_rows_of_kept_tokens_are_bit_equal_and_transformers_agrees(tied: bool, tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = small_trained_model(tied)
    kept = english_half(_byte_level())
    with torch.no_grad():
        ids = torch.tensor([sorted(kept)[-30:]])
        before = model(ids)
    smaller, order = trim(model, kept)
    new = {old: number for number, old in enumerate(order)}
    moved = torch.tensor([[new[i] for i in ids[0].tolist()]])
    with torch.no_grad():
        assert torch.equal(smaller.hidden(moved), model.hidden(ids))
        assert torch.equal(smaller.head_weight, model.head_weight[order])  # so equal products; BLAS may round them
        torch.testing.assert_close(smaller(moved), before[..., order], atol=1e-5, rtol=1e-5)  # by their number
    assert smaller.config.vocab_size == len(order) and len(smaller.head_weight) == len(order)
    save(smaller, tmp_path)
    theirs, reader = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    opened = load_decoder(tmp_path, dtype="fp32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(theirs(moved).logits, opened(moved), atol=1e-5, rtol=1e-5)
        assert torch.equal(opened(moved), smaller(moved))
    for text in [*ENGLISH, *CHINESE, *STRANGE]:
        assert opened.tokenizer is not None and opened.tokenizer.encode(text) == reader.encode(text)  # type: ignore[union-attr]
    assert theirs.generation_config.eos_token_id == [new[i] for i in sorted(_byte_level().stop_ids, reverse=True)]


def test_ids_in_the_config_move_along():
    tokenizer = _byte_level()
    model = small_trained_model(True)
    market = tokenizer.encode(" market")[0]
    changes = {"stop_ids": (market, 3), "pad_id": 1, "bos_id": 0, "gap_ids": (market,), "prefix_end": 2}
    model.config = model.config.model_copy(update=changes)
    assert config_ids(model.config) == {market, 0, 1, 2, 3}
    smaller, order = trim(model, Closure(tokenizer).all_of([]))
    config = smaller.config
    assert [order[i] for i in config.stop_ids] == [market, 3] and order[config.gap_ids[0]] == market
    assert (config.pad_id, config.bos_id, config.prefix_end) == (order.index(1), order.index(0), order.index(2))


def test_a_chat_is_rendered_with_the_same_tokens():
    tokenizer = _byte_level()
    smaller, order = subset(tokenizer, Closure(tokenizer).all_of(template_ids(tokenizer)))
    turns = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "y"},
        {"role": "assistant", "content": "z"},
    ]
    chat = Conversation.of(turns)
    assert [order[i] for i in render(chat, smaller).ids] == render(chat, tokenizer).ids


def test_the_stage_writes_a_smaller_model_and_says_what_it_costs_by_language(tmp_path: Path):
    save(small_trained_model(True), tmp_path / "model")
    (tmp_path / "english.txt").write_text("\n".join(ENGLISH), encoding="utf-8")
    rows = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": a}]} for a in CHINESE]
    (tmp_path / "chats.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    values = {"model": str(tmp_path / "model"), "data": [str(tmp_path / "english.txt")], "coverage": 1.0}
    values["test"] = [str(tmp_path / "english.txt"), str(tmp_path / "chats.jsonl")]
    done = produce("trim-vocabulary", TrimVocabularyStage.parse(values), tmp_path / "out")
    figures = done.manifest["metrics"]
    assert figures["unchanged_share.en"] == 1 and figures["unchanged_share.zh"] == 0
    assert figures["tokens_per_character_after.en"] == figures["tokens_per_character_before.en"]
    assert figures["tokens_per_character_after.zh"] > figures["tokens_per_character_before.zh"]
    report = json.loads((done.path / "vocabulary.json").read_text(encoding="utf-8"))
    assert report["rows_after"] == len(report["former_ids"]) < report["rows_before"] == _byte_level().vocab_size + 7
    model = load_decoder(done.path, dtype="fp32", device="cpu")
    assert model.config.vocab_size == report["rows_after"]
    saved = 64 * (report["rows_before"] - report["rows_after"])
    assert report["parameters_before"] - report["parameters_after"] == saved


def test_what_cannot_be_trimmed_is_said(tmp_path: Path):
    model = small_trained_model(True)
    save(model, tmp_path / "model")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    stage = TrimVocabularyStage.parse({"model": str(tmp_path / "model"), "data": [str(tmp_path / "empty.txt")]})
    with pytest.raises(LuhuoError, match="no text"):
        produce("trim-vocabulary", stage, tmp_path / "out")
    model.tokenizer = None
    with pytest.raises(LuhuoError, match="no tokenizer"):
        trim(model, [1])
    with pytest.raises(LuhuoError, match="no tokens with these ids"):
        subset(_byte_level(), [10**6])
    values = json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))
    values["quantization_config"] = {"quant_method": "gptq"}
    (tmp_path / "model/config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(LuhuoError, match="quantised or factorised already"):
        produce("trim-vocabulary", stage, tmp_path / "out")
