"""A tokenizer as GGUF metadata.

llama.cpp knows byte-level tokenizers' ways of cutting text by name only (`tokenizer.ggml.pre`). For one that has no
name there, as those born here, the name that gives equal ids on most lines of a probe is taken, and the share is told;
the exact tokenizer travels along in `tokenizer.huggingface.json`, which the format has for it and llama.cpp ignores.
Source: the GGUF specification, "Standardized key-value pairs".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import ValueType
from luhuo.files.gguf_write import Typed
from luhuo.tokenizer.gguf import PREFIX, from_gguf_metadata
from luhuo.tokenizer.patterns import RECIPES
from luhuo.tokenizer.sentencepiece import BLANK, BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from luhuo.tokenizer.tokenizer import BYTE_TOKEN, Tokenizer

UNUSED = 5
WHOLE = "tokenizer.huggingface.json"
"""Holds the text of tokenizer.json."""

PROBE = (
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "I'll say we've won; they're gone, and he'd know I'm late. HE'S HERE!",
    "In 1984, 42 people paid $1,234.56 for 3 items (about 17% more).",
    "def add(a, b):\n    return a + b  # sum\n\n\nprint(add(1, 22))",
    "for (int i = 0; i < 10; ++i) { x[i] *= 2; }\t// loop",
    "炉火纯青，是说技艺到了精熟的地步。",
    "小明早上七点起床，吃了两个包子，喝了一杯豆浆。",
    "今天是2026年11月21日，气温12.5度，湿度60%。",
    "北京到上海的高铁大约需要四个半小时。",
    "她说：“明天我们一起去图书馆，好不好？”他点点头。",
    "这本书（第三版）共有320页，售价¥58。",
    "我用 Python 3.11 写了一个 for 循环，跑了10次。",
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏",
    "苹果、香蕉、橙子……每样买一点！",
    "人工智能正在改变世界。",
    "那年冬天雪下得特别大，村口的老槐树被压断了两根枝桠，孩子们却高兴得整天在外面打雪仗，谁也不肯回家吃饭。",
    "据气象部门预计，未来三天北方大部分地区将出现大风降温天气，请市民朋友们注意防寒保暖并合理安排出行时间。",
    "本合同自双方签字盖章之日起生效，任何一方违反上述条款给对方造成损失的，应当依法承担相应的赔偿责任。",
    "老师傅告诉他学手艺没有捷径可走，只有把每一道工序都做到心里有数，才能在关键时刻不慌不忙地应付过去。",
    "研究人员发现这种材料在低温条件下仍然保持良好的导电性能，因此有望用于下一代储能设备的生产制造。",
    "话说当日众人散去之后，他独自一个坐在灯下，想起白天的事情来，不觉长叹一声，竟是一夜不曾合眼。",
    "Это предложение на русском языке, 2024 год.",
    "El niño comió piñas; ¿verdad? ¡Sí! Naïve café, Ünïcödé.",
    "한국어 문장입니다. 日本語の文章です。",
    "   leading blanks, double  blanks, and a trailing one ",
    "line one\nline two\r\n\r\nline five\n   indented",
    "emoji 🙂👍🏽 and symbols ★→≠∑ mixed with text",
    "https://example.org/a?b=1&c=2#d user@mail.example",
    "{\"name\": \"炉火\", \"list\": [1, 2, 3], \"ok\": true}",
    "What is the capital of France? Answer in one sentence.",
    "中文English混排text，全角ＡＢＣ１２３，标点。",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "ALLCAPS camelCaseWord snake_case_word kebab-case-word",
)  # fmt: skip
"""Lines in both languages, with digits, marks, blanks, code and other scripts."""


@dataclass(frozen=True)
class Exported:
    """Metadata for a GGUF file, and the way of cutting text (or the kind) it names."""

    metadata: dict[str, Any]
    pre: str
    exact: bool
    """Whether llama.cpp has a name for this way of cutting; if not, the whole tokenizer travels along."""
    agreement: float
    """Share of probe lines to which llama.cpp is expected to give equal ids."""


def gguf_metadata(tokenizer: Tokenizer, rows: int) -> Exported:
    """The tokenizer for a model with an embedding of so many rows; ids without a token become unused ones.

    Raises `LuhuoError` for kinds that llama.cpp's decoders do not know (WordPiece), or more tokens than rows.
    """
    content = json.loads(tokenizer._core.to_str())
    if tokenizer.vocab_size > rows:
        raise LuhuoError(
            tr("The tokenizer has more tokens than the model has rows.", "分词器的词元多于模型嵌入的行数。"),
            expected=f"<= {rows}",
            found=tokenizer.vocab_size,
        )
    kind = content["model"]["type"]
    pre, agreement, exact = None, 1.0, "Replace" in tokenizer._decoders
    if kind == "BPE" and tokenizer._byte_level:
        pre, agreement, exact = nearest_pre(tokenizer._core)
        special = {"model": "gpt2", "pre": pre, **_merges(content)}
    elif kind == "BPE":
        special = {"model": "llama", **_scores_of_merges(tokenizer, content, rows), **_blanks(content)}
    elif kind == "Unigram":
        special = {"model": "t5", **_unigram_scores(content, rows), **_blanks(content), **_charsmap(content)}
    else:
        raise LuhuoError(
            tr("This kind of tokenizer cannot be written to GGUF.", "这种分词器无法写入 GGUF。"),
            expected="byte-level BPE, SentencePiece BPE, Unigram",
            found=kind,
        )
    tokens, kinds = _tokens(tokenizer, rows)
    found = {**special, "tokens": tokens, "token_type": kinds, **_roles(tokenizer)}
    metadata = {PREFIX + key: value for key, value in found.items()}
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    if pre is None:
        again = from_gguf_metadata({key: _plain(value) for key, value in metadata.items()})
        agreement = agreement_on(PROBE, again.encode, tokenizer)
    if not (exact and agreement == 1):
        exact, metadata[WHOLE] = False, tokenizer._core.to_str()
    return Exported(metadata, pre or special["model"], exact, agreement)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Typed) else value


def nearest_pre(core: tokenizers.Tokenizer) -> tuple[str, float, bool]:
    """The name of the way of cutting with equal ids on most probe lines, on what share, and whether it is the same.

    It is the same if it cuts the probe as the tokenizer does, and treats known pieces alike: ids may agree by chance
    where the vocabulary is small.
    """
    whole = bool(getattr(core.model, "ignore_merges", False))
    expected = [core.encode(line, add_special_tokens=False).ids for line in PROBE]
    cuts = [_pieces(core.normalizer, core.pre_tokenizer, line) for line in PROBE]
    alike: dict[str, int] = {}
    for name, recipe in RECIPES.items():
        steps = recipe.normalizer(), recipe.pre_tokenizer()
        alike[name] = sum(_pieces(*steps, line) == cut for line, cut in zip(PROBE, cuts, strict=True))
        if alike[name] == len(PROBE) and recipe.whole_pieces == whole:
            return name, 1.0, True
    best: tuple[str, float, int] = ("default", -1.0, 0)
    other = tokenizers.Tokenizer.from_str(core.to_str())
    for name, recipe in RECIPES.items():
        other.normalizer = recipe.normalizer()
        other.pre_tokenizer = recipe.pre_tokenizer()
        ids = [other.encode(line, add_special_tokens=False).ids for line in PROBE]
        share = sum(a == b for a, b in zip(ids, expected, strict=True)) / len(PROBE)
        # Small vocabularies leave a tie, which goes to the one that cuts most lines alike.
        best = max(best, (name, share, alike[name]), key=lambda found: found[1:])
    return best[0], best[1], False


def _pieces(normalizer: Any, pre_tokenizer: Any, line: str) -> list[str]:
    text = normalizer.normalize_str(line) if normalizer is not None else line
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)] if pre_tokenizer is not None else [text]


def _tokens(tokenizer: Tokenizer, rows: int) -> tuple[list[str], list[int]]:
    """Texts and kinds by id."""
    texts = {i: token for token, i in tokenizer._core.get_vocab().items()} | tokenizer.added_tokens
    kinds = []
    for number in range(rows):
        if number not in texts:
            texts[number] = f"[PAD{number}]"
            kinds.append(UNUSED)
        elif number == tokenizer.unk_id:
            kinds.append(UNKNOWN)
        elif number in tokenizer.special_ids:
            kinds.append(CONTROL)
        elif number in tokenizer.added_tokens:
            kinds.append(USER_DEFINED)
        elif not tokenizer._byte_level and BYTE_TOKEN.fullmatch(texts[number]):
            kinds.append(BYTE)
        else:
            kinds.append(NORMAL)
    if not tokenizer._byte_level and "Replace" not in tokenizer._decoders:  # kinds born here write blanks as they are
        texts = {number: text.replace(" ", BLANK) for number, text in texts.items()}
    return [texts[number] for number in range(rows)], kinds


def _roles(tokenizer: Tokenizer) -> dict[str, Any]:
    """Special tokens. A chat ends at `eos`, too: that is where llama.cpp's users expect a reply to end."""
    before, after = tokenizer._frame
    end = tokenizer.turn_end_ids[0] if tokenizer.turn_end_ids else tokenizer.eos_id
    found = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": end,
        "eot_token_id": end,
        "unknown_token_id": tokenizer.unk_id,
        "padding_token_id": tokenizer.pad_id,
        "add_bos_token": bool(before),
        "add_eos_token": bool(after),
    }
    return {key: value for key, value in found.items() if value is not None}


def _merges(content: dict[str, Any]) -> dict[str, Any]:
    merges = content["model"]["merges"]
    return {"merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]}


def _scores_of_merges(tokenizer: Tokenizer, content: dict[str, Any], rows: int) -> dict[str, Any]:
    """SentencePiece's BPE joins the pair whose result has the highest score: the order of merges, counted down."""
    scores = [0.0] * rows
    vocab = tokenizer._core.get_vocab()
    for rank, merge in enumerate(content["model"]["merges"]):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        joined = vocab.get(left + right)
        if joined is not None and scores[joined] == 0.0:
            scores[joined] = -float(rank + 1)
    lowest = -float(len(content["model"]["merges"]) + 1)
    texts = {i: token for token, i in vocab.items()}
    for number in range(rows):
        if scores[number] == 0.0 and len(texts.get(number, "")) == 1:
            scores[number] = lowest  # a character is what is left when nothing joins
    return {"scores": scores}


def _unigram_scores(content: dict[str, Any], rows: int) -> dict[str, Any]:
    scores = [float(score) for _, score in content["model"]["vocab"]]
    return {"scores": [*scores, *[0.0] * (rows - len(scores))]}


def _blanks(content: dict[str, Any]) -> dict[str, Any]:
    """Whether a blank is put before a text."""
    parts = [*_parts(content["normalizer"], "normalizers"), *_parts(content["pre_tokenizer"], "pretokenizers")]
    prepends = any(
        part["type"] == "Prepend"
        or (part["type"] == "Metaspace" and part.get("prepend_scheme") in ("first", "always"))
        for part in parts
    )
    return {"add_space_prefix": prepends}


def _charsmap(content: dict[str, Any]) -> dict[str, Any]:
    """The map of characters of a SentencePiece normaliser, and whether runs of blanks become one."""
    parts = _parts(content["normalizer"], "normalizers")
    encoded = next((part["precompiled_charsmap"] for part in parts if part["type"] == "Precompiled"), None)
    found: dict[str, Any] = {"remove_extra_whitespaces": any(part["type"] == "Strip" for part in parts)}
    if encoded:
        found["precompiled_charsmap"] = Typed(ValueType.UINT8, list(base64.b64decode(encoded)))
    return found


def _parts(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    return [] if step is None else step.get(inside, [step])


def agreement_on(lines: Sequence[str], encode: Callable[[str], list[int]], tokenizer: Tokenizer) -> float:
    """Share of lines to which another encoder gives the same ids as the tokenizer."""
    return sum(encode(line) == tokenizer.encode(line) for line in lines) / len(lines)
