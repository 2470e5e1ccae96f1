"""Training a tokenizer: byte-level BPE, BPE, WordPiece and Unigram, with the `tokenizers` library.

- Byte-level BPE (Radford et al. 2019): the default. Every text can be written; nothing is normalised.
- BPE (Sennrich et al. 2016) over characters, rare ones as bytes (`byte_fallback`).
- Unigram (Kudo 2018) over characters, rare ones as bytes.
- WordPiece (Schuster & Nakajima 2012): BERT's kind; blanks are not kept, so it is for encoders, not for writing text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.tokenizer import unigram
from luhuo.tokenizer.chat import SPECIAL_TOKENS, UNKNOWN
from luhuo.tokenizer.split import DIGIT_RUN, HAN_RUN, split_pattern
from luhuo.tokenizer.tokenizer import Tokenizer

Kind = Literal["byte_bpe", "bpe", "wordpiece", "unigram"]

BYTES = tuple(f"<0x{b:02X}>" for b in range(256))
"""How BPE and Unigram name the single bytes of a character they do not know."""

PIECE_CHARS = 4096
"""Texts are fed in pieces of about this length: the library's memory grows with its longest input."""


def train(
    texts: Iterable[str],
    *,
    kind: Kind = "byte_bpe",
    vocab_size: int = 16384,
    han_run: int = HAN_RUN,
    digit_run: int = DIGIT_RUN,
    min_frequency: int = 2,
) -> Tokenizer:
    """Learn a vocabulary of at most `vocab_size` ids (special tokens included) from the texts.

    The same texts give the same tokenizer. A small corpus gives fewer tokens than asked for, which is said.
    Raises `LuhuoError` if `vocab_size` has no room for the special tokens and the alphabet.
    """
    base = len(SPECIAL_TOKENS) + {"wordpiece": 1, "unigram": 257}.get(kind, 256)
    if vocab_size <= base:
        raise LuhuoError(
            tr("The vocabulary is too small.", "词表太小。"),
            expected=tr(f"more than {base} (special tokens and single bytes)", f"大于 {base}（特殊词元和单字节）"),
            found=vocab_size,
        )
    splitter = pre_tokenizers.Split(Regex(split_pattern(han_run, digit_run)), "isolated")
    sample = texts if kind == "byte_bpe" else list(texts)
    alphabet = _alphabet(kind, sample, vocab_size - base)
    if kind == "unigram":
        core = _unigram(_fed(sample), splitter, alphabet, vocab_size - base)
        core.pre_tokenizer = splitter
    else:
        core, trainer = _model(kind, vocab_size, min_frequency, alphabet)
        core.pre_tokenizer = pre_tokenizers.Sequence([splitter, *_after_split(kind)])
        core.train_from_iterator(_fed(sample), trainer)
        core = _finished(core)
    tokenizer = Tokenizer.born_here(core)
    if tokenizer.vocab_size < vocab_size:
        say(
            tr(
                f"The texts give {tokenizer.vocab_size} tokens, fewer than the {vocab_size} asked for.",
                f"语料只够得到 {tokenizer.vocab_size} 个词元，少于要求的 {vocab_size} 个。",
            )
        )
    return tokenizer


def _alphabet(kind: Kind, texts: Iterable[str], room: int) -> list[str]:
    """The characters that get a token of their own: the most frequent ones, in at most half of the room.

    The library would choose them itself, but breaks ties by the order of a hash table, which differs from run to run.
    """
    if kind == "byte_bpe":
        return sorted(pre_tokenizers.ByteLevel.alphabet())
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    if kind == "wordpiece":  # each character at the start of a word and inside it
        counts = Counter({c: n for c, n in counts.items() if not c.isspace()})
        room //= 2
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    return sorted(ranked[: max(room // 2, 1)])


def _model(kind: Kind, vocab_size: int, min_frequency: int, alphabet: list[str]) -> tuple[tokenizers.Tokenizer, Any]:
    """The empty model with its decoder, and its trainer."""
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "min_frequency": min_frequency,
        "initial_alphabet": alphabet,
        "limit_alphabet": len(alphabet),
        "show_progress": False,
    }
    if kind == "byte_bpe":
        core = tokenizers.Tokenizer(models.BPE())
        core.decoder = decoders.ByteLevel()
        return core, trainers.BpeTrainer(special_tokens=[*SPECIAL_TOKENS], **settings)
    if kind == "bpe":
        core = tokenizers.Tokenizer(models.BPE(byte_fallback=True))
        core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        return core, trainers.BpeTrainer(special_tokens=[*SPECIAL_TOKENS, *BYTES], **settings)
    core = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    core.decoder = decoders.WordPiece(cleanup=False)
    named = [*SPECIAL_TOKENS, UNKNOWN, *(f"##{c}" for c in alphabet)]
    return core, trainers.WordPieceTrainer(special_tokens=named, **settings)


def _unigram(
    texts: Iterable[str], splitter: pre_tokenizers.Split, alphabet: list[str], size: int
) -> tokenizers.Tokenizer:
    """A trained Unigram model: special tokens, single bytes, then the learned pieces, likeliest first."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(text))
    given = [(token, 0.0) for token in (*SPECIAL_TOKENS, UNKNOWN, *BYTES)]
    learned = unigram.learn(words, alphabet, size)
    core = tokenizers.Tokenizer(models.Unigram(given + learned, unk_id=len(SPECIAL_TOKENS), byte_fallback=True))
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens([*SPECIAL_TOKENS, UNKNOWN])
    return core


def _after_split(kind: Kind) -> list[pre_tokenizers.PreTokenizer]:
    if kind == "byte_bpe":
        return [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    if kind == "wordpiece":
        return [pre_tokenizers.WhitespaceSplit()]
    return []


def _finished(core: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Keep only our own special tokens special: bytes and `##` characters were named so to fix their ids."""
    content = json.loads(core.to_str())
    kept = {*SPECIAL_TOKENS, UNKNOWN}
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in kept]
    return tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def _fed(texts: Iterable[str]) -> Iterator[str]:
    """The texts in pieces that end at line ends, so that no piece of the split is cut in two."""
    for text in texts:
        start = 0
        while len(text) - start > PIECE_CHARS:
            end = text.rfind("\n", start, start + PIECE_CHARS) + 1 or text.rfind(" ", start, start + PIECE_CHARS)
            end = end if end > start else start + PIECE_CHARS
            yield text[start:end]
            start = end
        yield text[start:]
