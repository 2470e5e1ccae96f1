"""SentencePiece models (Kudo & Richardson 2018) as `tokenizers` objects: BPE and Unigram, from an untrusted file.

The file is a protobuf message: pieces with scores and kinds, and how text is normalised. What SentencePiece does to a
text is rebuilt from `tokenizers` parts: the normaliser map, blanks dropped or doubled, one blank put before the text,
blanks written as U+2581, symbols of the user cut out first, unknown characters written as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.tokenizer.guard import library_errors
from luhuo.tokenizer.protobuf import WireError, as_bytes, as_float, as_int, as_text, fields

BLANK = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4
MAX_BYTES = 256 << 20
UNREACHABLE = -1e9
"""A score at which a Unigram piece is never chosen while any other way through the text is left."""


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its place in the list is its id."""

    text: str
    score: float = 0.0
    kind: int = NORMAL


@dataclass(frozen=True)
class Model:
    """What the file says; the defaults are those of the format."""

    pieces: tuple[Piece, ...]
    algorithm: int = UNIGRAM
    byte_fallback: bool = False
    blank_as_suffix: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    source: Path | str = field(default="")

    def piece(self, number: int) -> str | None:
        """The text of a piece, or None where there is none (-1 says so)."""
        return self.pieces[number].text if 0 <= number < len(self.pieces) else None


def read(path: str | Path) -> Model:
    """Parse a `.model` file. Raises `LuhuoError` if it is none, or of a kind without a `tokenizers` equivalent."""
    file = Path(path)
    if file.stat().st_size > MAX_BYTES:
        raise _unreadable(file, f"{file.stat().st_size:,} bytes")
    try:
        return replace(_parse(file.read_bytes()), source=file)
    except WireError as error:
        raise _unreadable(file, str(error)) from None


def _parse(data: bytes) -> Model:
    pieces: list[Piece] = []
    settings: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 1:
            pieces.append(_piece(as_bytes(value)))
        elif number in (2, 3):
            names = _TRAINER if number == 2 else _NORMALIZER
            for inner, content in fields(as_bytes(value)):
                if inner in names:
                    name, convert = names[inner]
                    settings[name] = convert(content)
    if not pieces:
        raise WireError("no pieces")
    return Model(tuple(pieces), **settings)


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for number, value in fields(data):
        if number == 1:
            text = as_text(value)
        elif number == 2:
            score = as_float(value)
        elif number == 3:
            kind = as_int(value)
    if not math.isfinite(score):
        raise WireError(f"the score of piece {text!r} is {score}")
    return Piece(text, score, kind)


def _flag(value: Any) -> bool:
    return bool(as_int(value))


_TRAINER: dict[int, tuple[str, Any]] = {
    3: ("algorithm", as_int),
    24: ("blank_as_suffix", _flag),
    35: ("byte_fallback", _flag),
    40: ("unk_id", as_int),
    41: ("bos_id", as_int),
    42: ("eos_id", as_int),
    43: ("pad_id", as_int),
}
_NORMALIZER: dict[int, tuple[str, Any]] = {
    2: ("charsmap", as_bytes),
    3: ("add_dummy_prefix", _flag),
    4: ("remove_extra_whitespaces", _flag),
    5: ("escape_whitespaces", _flag),
}


def build(model: Model) -> tokenizers.Tokenizer:
    """The `tokenizers` object that gives SentencePiece's ids. Raises `LuhuoError` where it cannot."""
    if model.algorithm not in (UNIGRAM, BPE, CHAR):
        raise LuhuoError(
            tr("This kind of SentencePiece model is not supported.", "不支持这种 SentencePiece 模型。"),
            expected="BPE, Unigram, char",
            found="word" if model.algorithm == WORD else model.algorithm,
            where=model.source,
        )
    if model.blank_as_suffix:
        raise LuhuoError(
            tr(
                "This SentencePiece model puts blanks behind words, which is not supported.",
                "该 SentencePiece 模型把空格放在词尾，不受支持。",
            ),
            found="treat_whitespace_as_suffix",
            where=model.source,
        )
    texts = [piece.text for piece in model.pieces]
    if len(set(texts)) < len(texts):
        twice = next(text for i, text in enumerate(texts) if text in texts[:i])
        raise _unreadable(model.source, tr(f"the piece {twice!r} twice", f"词元 {twice!r} 重复"))
    with library_errors(lambda error: _unreadable(model.source, error)):
        core = tokenizers.Tokenizer(_unigram(model) if model.algorithm == UNIGRAM else _bpe(model))
        core.normalizer = normalizer(model)
    core.pre_tokenizer = _pre_tokenizer(model)
    core.decoder = _decoder(model)
    core.add_tokens([_added(p) for p in model.pieces if p.kind in (UNKNOWN, CONTROL) or _is_symbol(p, model)])
    return core


def _is_symbol(piece: Piece, model: Model) -> bool:
    """Whether the user's symbol can be found: one with a plain blank never is where blanks become U+2581."""
    return piece.kind == USER_DEFINED and not (model.escape_whitespaces and " " in piece.text)


def _added(piece: Piece) -> AddedToken:
    """A symbol with blanks is looked for in the text whose blanks are already written as U+2581."""
    return AddedToken(piece.text, special=piece.kind != USER_DEFINED, normalized=BLANK in piece.text)


def _unigram(model: Model) -> models.Unigram:
    """Only normal pieces and the user's symbols can be found in text; the others get a score that is never chosen."""
    vocab = [(p.text, p.score if p.kind in (NORMAL, USER_DEFINED, UNUSED) else UNREACHABLE) for p in model.pieces]
    if not 0 <= model.unk_id < len(vocab):
        raise _unreadable(model.source, f"unk_id {model.unk_id}")
    return models.Unigram(vocab, unk_id=model.unk_id, byte_fallback=model.byte_fallback)


def _bpe(model: Model) -> models.BPE:
    """BPE with the merges that the scores imply."""
    vocab = {piece.text: i for i, piece in enumerate(model.pieces)}
    merges = [] if model.algorithm == CHAR else implied_merges(model.pieces)
    unknown = model.piece(model.unk_id)
    return models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)


def implied_merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Pairs in the order in which SentencePiece joins them: by the score of what they make, best first.

    The file holds no merges: any two neighbours that make a piece may be joined.
    """
    score = {p.text: p.score for p in pieces if p.kind in (NORMAL, UNUSED)}
    number = {p.text: i for i, p in enumerate(pieces)}
    ranked: list[tuple[float, int, int, str, str]] = []
    for text, value in score.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in score and right in score:
                ranked.append((-value, number[text], cut, left, right))
    ranked.sort()
    return [(left, right) for *_, left, right in ranked]


def normalizer(model: Model) -> Any:
    """Normaliser map and blanks: what happens before the text is cut.

    `Precompiled` (and so `transformers`) looks the map up by grapheme where SentencePiece takes the longest match:
    conjoining jamo, half-width kana with a voice mark and stacked combining marks can come out otherwise. Composing
    first (NFKC) was tried: it reorders marks, which SentencePiece does not, and made three times as many differences.
    """
    steps: list[Any] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_whitespaces:  # one blank that leads the text stays: it is the one put before every text
        steps.append(normalizers.Replace(Regex(" +$|(?<= ) +" if model.add_dummy_prefix else "^ +| +$|(?<= ) +"), ""))
    if model.escape_whitespaces:
        steps.append(normalizers.Replace(" ", BLANK))
    return normalizers.Sequence(steps) if steps else None


def _pre_tokenizer(model: Model) -> Any:
    """One blank before the text, also where it starts with one; not before the text after a special token.

    `Metaspace` adds none where the text starts with its own mark, so a plain blank is put first and then rewritten.
    """
    if not model.add_dummy_prefix:
        return None
    if model.remove_extra_whitespaces:
        return pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="first", split=False)
    first = pre_tokenizers.Metaspace(replacement=" ", prepend_scheme="first", split=False)
    if not model.escape_whitespaces:
        return first
    escape = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="never", split=False)
    return pre_tokenizers.Sequence([first, escape])


def _decoder(model: Model) -> Any:
    steps: list[Any] = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _unreadable(source: Path | str, found: object) -> LuhuoError:
    return LuhuoError(
        tr("The SentencePiece model cannot be read.", "无法读取 SentencePiece 模型。"),
        expected=tr("a .model file written by SentencePiece", "SentencePiece 写出的 .model 文件"),
        found=found,
        where=source,
        fix=tr("Download the file again.", "请重新下载该文件。"),
    )
