"""Sentence encoders: folders in their published layout, vectors that do not depend on the batch; Chinese WordPiece."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.files.references import resolve
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig, SentenceConfig
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.tokenizer.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

WORDS = [
    "furnace",
    "burn",
    "##s",
    "##ing",
    "pure",
    "blue",
    "the",
    "a",
    ",",
    ".",
    "!",
    "，",
    "。",
    "？",
    "##0",
    "2",
    "##6",
]
CHARACTERS = "炉火纯青今天气很好我们去公园吃饭了吗不的是在北京大学第一名"
TEXTS = [
    "The furnace burns pure blue.",
    "炉火纯青",
    "今天天气很好，我们去公园吃饭。",
    "北京大学 the best, 第26名！",
    "  Burning\tBLUE\u3000炉火 ",
    "",
    "生僻字：龘，emoji 🙂 too",
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vocabulary as BERT-Chinese has it: single characters, word pieces, special tokens."""
    folder = tmp_path_factory.mktemp("wordpiece")
    special = ["[PAD]", *(f"[unused{i}]" for i in range(1, 5)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    unique = list(dict.fromkeys([*special, *WORDS, *CHARACTERS]))
    (folder / "vocab.txt").write_text("\n".join(unique) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512})
    )
    return folder


@pytest.fixture
def sentences(vocabulary: Path, tmp_path: Path) -> Encoder:
    """A small sentence encoder with that vocabulary."""
    tokenizer = Tokenizer.load(vocabulary)
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        layers=2,
        heads=3,
        head_dim=8,
        intermediate_size=40,
        max_positions=32,
        token_types=2,
        pad_id=tokenizer.pad_id,
        pooler=True,
        sentence=SentenceConfig(pooling="mean", normalise=True, max_length=16),
    )
    model = initialise_stack(Encoder(config), 0).eval()
    model.tokenizer = tokenizer
    return model


def test_chinese_text_has_the_ids_that_the_reference_gives_it(vocabulary: Path) -> None:
    ours = Tokenizer.load(vocabulary)
    theirs = transformers.BertTokenizerFast(str(vocabulary / "vocab.txt"), do_lower_case=True)
    for text in TEXTS:
        assert ours.encode(text, framed=True) == theirs(text)["input_ids"], text
    assert ours.encode("炉火 burns", framed=True) == [
        ours.token_id(token) for token in ("[CLS]", "炉", "火", "burn", "##s", "[SEP]")
    ]


def reference_vectors(folder: Path, texts: list[str], longest: int) -> Tensor:
    """The published way: the reference's encoder, the mean of its states, length one."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    share = batch["attention_mask"][..., None].float()
    return F.normalize((states * share).sum(1) / share.sum(1))


def test_vectors_are_those_of_the_reference_long_and_empty_texts_included(sentences: Encoder, tmp_path: Path) -> None:
    save(sentences, tmp_path)
    texts = [*TEXTS, "炉火纯青，" * 20]
    found = load(tmp_path, dtype="fp32").embed(texts)
    assert found.shape == (8, 24)
    assert (found - reference_vectors(tmp_path, texts, 16)).abs().max() < 1e-5


def test_a_vector_does_not_depend_on_its_batch(sentences: Encoder) -> None:
    together, order = sentences.embed(TEXTS), [3, 0, 6, 1, 5, 2, 4]
    for size in (1, 2, 3):
        assert (sentences.embed([TEXTS[i] for i in order], batch=size) - together[order]).abs().max() < 1e-6
    assert sentences.embed([]).shape == (0, 24)


@pytest.mark.parametrize("pooling", ["mean", "first", "max", "last"])
@pytest.mark.parametrize("normalise", [True, False])
def test_every_way_of_pooling_is_what_its_name_says_and_survives_a_round_trip(
    sentences: Encoder, tmp_path: Path, pooling: Any, normalise: bool
) -> None:
    sentence = SentenceConfig(pooling=pooling, normalise=normalise, max_length=20, prompt="查询：")
    sentences.config = sentences.config.model_copy(update={"sentence": sentence})
    save(sentences, tmp_path)
    loaded = load(tmp_path, dtype="fp32")
    assert loaded.config == sentences.config
    assert sentences.tokenizer is not None
    with torch.no_grad():
        states = sentences.hidden(torch.tensor([sentences.tokenizer.encode("查询：" + TEXTS[2], framed=True)]))[0]
    ways = {"mean": states.mean(0), "first": states[0], "max": states.amax(0), "last": states[-1]}
    expected = F.normalize(ways[pooling], dim=0) if normalise else ways[pooling]
    assert (loaded.embed(TEXTS)[2] - expected).abs().max() < 1e-5


def test_the_old_layout_with_the_encoder_in_a_folder_of_its_own_loads(sentences: Encoder, tmp_path: Path) -> None:
    save(sentences, tmp_path / "new")
    old, inner = tmp_path / "old", tmp_path / "old" / "0_Transformer"
    shutil.copytree(tmp_path / "new", inner)
    for name in ("1_Pooling", "2_Normalize", "modules.json"):
        if (inner / name).exists():
            shutil.move(inner / name, old / name)
    steps = json.loads((old / "modules.json").read_text())
    steps[0]["path"] = "0_Transformer"
    (old / "modules.json").write_text(json.dumps(steps))
    assert torch.equal(load(old, dtype="fp32").embed(TEXTS), load(tmp_path / "new", dtype="fp32").embed(TEXTS))


def test_folders_as_the_library_writes_them_since_version_6_load(sentences: Encoder, tmp_path: Path) -> None:
    """Other module names, one key for the pooling, and the length kept with the tokenizer."""
    save(sentences, tmp_path)
    steps = json.loads((tmp_path / "modules.json").read_text())
    for step in steps:
        kind = step["type"].rsplit(".", 1)[-1]
        step["type"] = f"sentence_transformers.base.modules.{kind.lower()}.{kind}"
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    (tmp_path / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 24, "pooling_mode": "lasttoken", "include_prompt": True})
    )
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"transformer_task": "feature-extraction"}))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 11}))
    expected = SentenceConfig(pooling="last", normalise=True, max_length=11)
    assert load(tmp_path, dtype="fp32").config.sentence == expected


def test_steps_that_are_unknown_or_lead_outside_are_refused(sentences: Encoder, tmp_path: Path) -> None:
    save(sentences, tmp_path)
    steps = json.loads((tmp_path / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    outside = [{**steps[0], "path": "../elsewhere"}, *steps[1:]]
    for changed, said in (([*steps[:2], dense], "Dense"), (outside, "elsewhere"), ([7], "modules.json")):
        (tmp_path / "modules.json").write_text(json.dumps(changed))
        with pytest.raises(LuhuoError, match=said):
            load(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(LuhuoError, match="JSON"):
        load(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    two = {"pooling_mode": ["mean", "cls"]}
    for changed, said in (({"pooling_mode_weightedmean_tokens": True}, "weightedmean"), (two, "cls"), ([], "object")):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(changed))
        with pytest.raises(LuhuoError, match=said):
            load(tmp_path)


def test_texts_that_cannot_be_embedded_are_errors_that_say_why(sentences: Encoder) -> None:
    with pytest.raises(LuhuoError, match=r"list of texts|文本列表"):
        sentences.embed("one text")
    sentences.tokenizer = None
    with pytest.raises(LuhuoError, match=r"no tokenizer|没有分词器"):
        sentences.embed(["one text"])


def test_minilm_from_the_package_index_gives_the_published_vectors() -> None:
    """The acceptance figure: all-MiniLM-L6-v2 within 1e-4 of its published implementation."""
    try:
        folder = resolve("minilm-l6-v2").path
    except RunFailed as error:
        pytest.skip(f"the package index cannot be reached: {error.problem}")
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "今天天气很好。", "", "word " * 400]
    found = load("minilm-l6-v2", device="cpu").embed(texts)
    assert found.shape == (5, 384)
    assert (found - reference_vectors(folder, texts, 256)).abs().max() < 1e-4
    assert found[0] @ found[1] > 0.5 > found[0] @ found[2]


def test_a_folder_with_the_older_vocabulary_file_only_has_its_tokenizer(
    sentences: Encoder, vocabulary: Path, tmp_path: Path
) -> None:
    expected = sentences.embed(TEXTS)
    sentences.tokenizer = None
    save(sentences, tmp_path)
    assert load(tmp_path, dtype="fp32").tokenizer is None
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(vocabulary / name, tmp_path / name)
    assert torch.equal(load(tmp_path, dtype="fp32").embed(TEXTS), expected)
