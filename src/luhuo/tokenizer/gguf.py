"""The tokenizer in a GGUF file's metadata, rebuilt as the one the model was published with.

GGUF names the kind (`tokenizer.ggml.model`) and, for byte-level BPE, the way of cutting (`tokenizer.ggml.pre`). A
loader that ignores the latter gets other ids without any error: SmolLM2 (`smollm`) loses its splitter of digits.
Source: the GGUF specification, "Standardized key-value pairs".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.tokenizer import bytelevel, sentencepiece, wordpiece
from luhuo.tokenizer.framing import frame
from luhuo.tokenizer.guard import library_errors
from luhuo.tokenizer.patterns import ALIASES, RECIPES, recipe
from luhuo.tokenizer.sentencepiece import BPE, BYTE, CONTROL, NORMAL, UNIGRAM, UNKNOWN, USER_DEFINED, Model, Piece
from luhuo.tokenizer.tokenizer import Tokenizer

PREFIX = "tokenizer.ggml."
KINDS = ("llama", "gpt2", "gemma4", "bert", "t5")
SPM_STYLE = ("gemma4", "sarvam-moe", "granite-embed-multi-311m")
"""Names of `pre` for BPE on characters with blanks as U+2581, which is not byte-level."""

ROLE_KEYS = {
    "bos_token": ("bos_token_id",),
    "eos_token": ("eos_token_id",),
    "unk_token": ("unknown_token_id",),
    "sep_token": ("seperator_token_id", "separator_token_id"),  # the first one is what files hold
    "pad_token": ("padding_token_id",),
    "cls_token": ("cls_token_id",),
    "mask_token": ("mask_token_id",),
}


def from_gguf_metadata(metadata: Mapping[str, object]) -> Tokenizer:
    """The tokenizer of a GGUF file: its key-value pairs, arrays as sequences.

    Raises `LuhuoError` if there is none, its kind or its way of cutting is not known, or the lists do not fit.
    """
    kind = metadata.get(PREFIX + "model")
    if kind not in KINDS:
        raise LuhuoError(
            tr("This GGUF file has no tokenizer that can be used.", "该 GGUF 文件没有可用的分词器。"),
            expected=f"{PREFIX}model = {' | '.join(KINDS)}",
            found=kind,
            fix=tr("Put the model's tokenizer.json beside the file.", "请把该模型的 tokenizer.json 放在文件旁边。"),
        )
    pieces = _pieces(metadata)
    config = _config(metadata, pieces)
    if kind == "llama":
        core = sentencepiece.build(_sentencepiece(metadata, pieces, BPE))
    elif kind == "t5":
        core = sentencepiece.build(_sentencepiece(metadata, pieces, UNIGRAM))
    elif kind == "bert":
        core = _wordpiece(metadata, pieces, config)
    elif kind == "gemma4" or metadata.get(PREFIX + "pre") in SPM_STYLE:
        core = _character_bpe(metadata, pieces)
    else:
        core = _byte_level(metadata, pieces)
    if kind != "bert":
        _frame(core, metadata, config, str(kind))
    stops = [_number(metadata, f"{name}_token_id", len(pieces)) for name in ("eos", "eot", "eom")]
    template = metadata.get("tokenizer.chat_template")
    return Tokenizer(
        core, config, template if isinstance(template, str) else None, [i for i in stops if i is not None]
    )


def _pieces(metadata: Mapping[str, object]) -> tuple[Piece, ...]:
    """Tokens, scores and kinds side by side. Raises `LuhuoError` if they are no lists of equal length."""
    tokens = _list(metadata, "tokens", str)
    count = len(tokens)
    scores = [float(s) for s in _list(metadata, "scores", (int, float), count)] or [0.0] * count
    kinds = [int(k) for k in _list(metadata, "token_type", int, count)] or [NORMAL] * count
    if not tokens:
        raise _wrong("tokens", tr("no tokens", "没有词元"))
    if not all(map(math.isfinite, scores)):
        raise _wrong("scores", tr("a score that is not finite", "有分数不是有限数"))
    texts = [text or f"[EMPTY_{i}]" for i, text in enumerate(tokens)]
    if len(set(texts)) < count:
        raise _wrong("tokens", tr("a token stands there twice", "有词元重复"))
    return tuple(map(Piece, texts, scores, kinds))


def _list(metadata: Mapping[str, object], name: str, kind: Any, count: int | None = None) -> list[Any]:
    """A list of the metadata; empty where there is none."""
    values: Any = metadata.get(PREFIX + name)
    if values is None:
        return []
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise _wrong(name, type(values).__name__)
    if not all(isinstance(v, kind) for v in values):
        raise _wrong(name, tr("an entry of another type", "有条目类型不符"))
    if count is not None and len(values) != count:
        raise _wrong(name, tr(f"{len(values)} entries for {count} tokens", f"{count} 个词元对应 {len(values)} 个条目"))
    return list(values)


def _number(metadata: Mapping[str, object], name: str, count: int) -> int | None:
    """A token id of the metadata, if it is one."""
    value = metadata.get(PREFIX + name)
    return int(value) if isinstance(value, Integral) and 0 <= int(value) < count else None


def _flag(metadata: Mapping[str, object], name: str, default: bool) -> bool:
    value = metadata.get(PREFIX + name)
    return default if value is None else bool(value)


def _config(metadata: Mapping[str, object], pieces: Sequence[Piece]) -> dict[str, Any]:
    """What `tokenizer_config.json` would say."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role, keys in ROLE_KEYS.items():
        number = next((n for key in keys if (n := _number(metadata, key, len(pieces))) is not None), None)
        if number is not None:
            config[role] = pieces[number].text
    return config


def _sentencepiece(metadata: Mapping[str, object], pieces: tuple[Piece, ...], algorithm: int) -> Model:
    """BPE ("llama") takes text as it is; Unigram ("t5") carries its normaliser map."""
    charsmap = bytes(v & 0xFF for v in _list(metadata, "precompiled_charsmap", int))
    unknown = _number(metadata, "unknown_token_id", len(pieces))
    if unknown is None:
        unknown = next((i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN), 0)
    return Model(
        pieces=pieces,
        algorithm=algorithm,
        byte_fallback=any(piece.kind == BYTE for piece in pieces),
        unk_id=unknown,
        charsmap=charsmap,
        add_dummy_prefix=_flag(metadata, "add_space_prefix", True),
        remove_extra_whitespaces=_flag(metadata, "remove_extra_whitespaces", False) and algorithm == UNIGRAM,
        source="GGUF",
    )


def _merges(metadata: Mapping[str, object], vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs "left right"; the left one may itself start with a blank. Those of unknown tokens cannot be used."""
    merges = []
    for entry in _list(metadata, "merges", str):
        cut = entry.find(" ", 1)
        left, right = entry[:cut], entry[cut + 1 :]
        if cut < 0 or not right:
            raise _wrong("merges", repr(entry[:80]))
        if left in vocab and right in vocab and left + right in vocab:
            merges.append((left, right))
    if not merges:
        raise _wrong("merges", tr("no merges", "没有合并规则"))
    return merges


def _added(pieces: Sequence[Piece]) -> list[AddedToken]:
    special = (UNKNOWN, CONTROL)
    return [
        AddedToken(piece.text, special=piece.kind in special, normalized=False)
        for piece in pieces
        if piece.kind in (*special, USER_DEFINED)
    ]


def _byte_level(metadata: Mapping[str, object], pieces: Sequence[Piece]) -> tokenizers.Tokenizer:
    name = metadata.get(PREFIX + "pre")
    if name is None:
        name = "default"
        say(
            tr(
                "The GGUF file does not say how its tokenizer cuts text (tokenizer.ggml.pre): ids may be wrong.",
                "GGUF 文件没有说明分词器如何切分文本（tokenizer.ggml.pre）：编号可能有误。",
            )
        )
    found = recipe(str(name))
    if found is None:
        raise LuhuoError(
            tr(
                "The GGUF file names a way of cutting text that is not known; any other would give wrong ids.",
                "GGUF 文件指明的切分方式未知；换用其他方式会得到错误的编号。",
            ),
            expected=f"{PREFIX}pre = {', '.join(sorted({*RECIPES, *ALIASES}))}",
            found=name,
            fix=tr("Put the model's tokenizer.json beside the file.", "请把该模型的 tokenizer.json 放在文件旁边。"),
        )
    vocab = {piece.text: i for i, piece in enumerate(pieces)}
    return bytelevel.build(vocab, _merges(metadata, vocab), found, _added(pieces), "GGUF")


def _character_bpe(metadata: Mapping[str, object], pieces: Sequence[Piece]) -> tokenizers.Tokenizer:
    """Gemma's kind: merges are given, blanks are U+2581, line ends stay apart, unknown characters become bytes."""
    vocab = {piece.text: i for i, piece in enumerate(pieces)}
    merges = _merges(metadata, vocab)
    unknown = next((piece.text for piece in pieces if piece.text == "<unk>"), None)
    with library_errors(lambda error: _wrong("tokens", error)):
        core = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", sentencepiece.BLANK)  # type: ignore[assignment]
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+"), "isolated")  # type: ignore[assignment]
    steps = [decoders.Replace(sentencepiece.BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence(steps)  # type: ignore[assignment]
    core.add_tokens(_added(pieces))
    return core


def _wordpiece(
    metadata: Mapping[str, object], pieces: Sequence[Piece], config: dict[str, Any]
) -> tokenizers.Tokenizer:
    """GGUF marks the starts of words with U+2581, `vocab.txt` their continuations with `##`."""
    vocab = {}
    for number, piece in enumerate(pieces):
        text = piece.text
        if text.startswith(sentencepiece.BLANK) and text != sentencepiece.BLANK:
            text = text.removeprefix(sentencepiece.BLANK)
        elif not (text.startswith("[") and text.endswith("]")) and piece.kind not in (CONTROL, UNKNOWN):
            text = f"##{text}"
        vocab[text] = number
    cased = any("A" <= piece.text[1:2] <= "Z" for piece in pieces if piece.text.startswith(sentencepiece.BLANK))
    lowercase = _flag(metadata, "normalizer.lowercase", not cased)
    config |= {"do_lower_case": lowercase, "strip_accents": _flag(metadata, "normalizer.strip_accents", lowercase)}
    return wordpiece.build(vocab, config, "GGUF")


def _frame(core: tokenizers.Tokenizer, metadata: Mapping[str, object], config: dict[str, Any], kind: str) -> None:
    """`add_bos_token` and `add_eos_token`; where they are not given, what is usual for the kind."""
    starts = kind in ("llama", "gemma4") or ALIASES.get(str(metadata.get(PREFIX + "pre")), "") == "llama-bpe"
    starts = starts or metadata.get(PREFIX + "pre") in ("llama-bpe", "tekken")
    bos, eos = config.get("bos_token"), config.get("eos_token")
    before = [bos] if bos and _flag(metadata, "add_bos_token", starts) else []
    after = [eos] if eos and _flag(metadata, "add_eos_token", kind == "t5") else []
    frame(core, before, after)


def _wrong(name: str, found: object) -> LuhuoError:
    return LuhuoError(
        tr("The tokenizer in the GGUF file is damaged.", "GGUF 文件中的分词器已损坏。"),
        found=found,
        where=PREFIX + name,
        fix=tr("Download the file again.", "请重新下载该文件。"),
    )
