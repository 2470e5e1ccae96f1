"""WordPiece vocabularies of BERT and its heirs (Schuster & Nakajima 2012): `vocab.txt`, one token a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
"""BERT's names where the settings give none."""


def read_vocab(file: Path) -> dict[str, int]:
    """Token -> line number. Raises `LuhuoError` if the file is not text."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _unreadable(file, error) from None
    if lines and not lines[-1]:
        lines.pop()
    return {line.rstrip("\r"): number for number, line in enumerate(lines)}


def build(vocab: Mapping[str, int], settings: Mapping[str, Any], where: object = None) -> tokenizers.Tokenizer:
    """The `tokenizers` object with BERT's clean-up.

    `settings`: `do_lower_case` (default true), `tokenize_chinese_chars` (true), `strip_accents` (as lower-casing), and
    the names of the special tokens. Raises `LuhuoError` without a token for unknown words.
    """
    names = {role: settings.get(role) or default for role, default in SPECIAL.items()}
    if names["unk_token"] not in vocab:
        raise _unreadable(where, tr("no token for unknown words", "没有表示未知词的词元"))
    core = tokenizers.Tokenizer(models.WordPiece(dict(vocab), unk_token=names["unk_token"]))
    core.normalizer = normalizers.BertNormalizer(  # type: ignore[assignment]
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"),
        lowercase=bool(settings.get("do_lower_case", True)),
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    core.decoder = decoders.WordPiece(prefix="##")  # type: ignore[assignment]
    known = [token for token in names.values() if token in vocab]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in known])
    opening, closing = names["cls_token"], names["sep_token"]
    if opening in vocab and closing in vocab:
        core.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single=f"{opening}:0 $A:0 {closing}:0",
            pair=f"{opening}:0 $A:0 {closing}:0 $B:1 {closing}:1",
            special_tokens=[(opening, vocab[opening]), (closing, vocab[closing])],
        )
    return core


def _unreadable(where: object, found: object) -> LuhuoError:
    return LuhuoError(
        tr("The WordPiece vocabulary cannot be read.", "无法读取 WordPiece 词表。"),
        expected=tr("vocab.txt: one token a line", "vocab.txt：每行一个词元"),
        found=found,
        where=where,
    )
