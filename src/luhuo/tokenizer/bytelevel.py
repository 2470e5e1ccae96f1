"""Byte-level BPE (Radford et al. 2019, section 2.2) from the files that models publish.

Three layouts: `vocab.json` with `merges.txt` (GPT-2 and its heirs), tiktoken ranks (one base64 token and its rank a
line), and Mistral's `tekken.json`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.tokenizer.alphabet import visible
from luhuo.tokenizer.guard import library_errors
from luhuo.tokenizer.patterns import Recipe

MAX_TOKEN_BYTES = 4096
"""Longest token of a rank file that is believed; published ones stay below 300."""


def build(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    recipe: Recipe,
    added: Iterable[AddedToken] = (),
    where: object = None,
) -> tokenizers.Tokenizer:
    """The `tokenizers` object. Added tokens must be in `vocab` with their ids. Raises `LuhuoError` if it is no BPE."""
    odd = next((f"{a} {b}" for a, b in merges if not (a in vocab and b in vocab and a + b in vocab)), None)
    if odd is not None:
        raise _unreadable(
            where, tr(f"the merge {odd!r} of tokens that are not there", f"合并规则 {odd!r} 的词元不存在")
        )
    with library_errors(lambda error: _unreadable(where, error)):
        core = tokenizers.Tokenizer(models.BPE(dict(vocab), list(merges), ignore_merges=recipe.whole_pieces))
    if (normalizer := recipe.normalizer()) is not None:
        core.normalizer = normalizer
    core.pre_tokenizer = recipe.pre_tokenizer()
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    core.add_tokens(list(added))
    return core


def read_vocab_and_merges(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """`vocab.json` and `merges.txt`. Raises `LuhuoError` where they are not what they should be."""
    file = folder / "vocab.json"
    try:
        vocab = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(file, error) from None
    if not isinstance(vocab, dict) or not all(isinstance(i, int) and 0 <= i < 1 << 31 for i in vocab.values()):
        raise _unreadable(file, tr("not an object of token to id", "不是“词元到编号”的对象"))
    merges = []
    file = folder / "merges.txt"
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _unreadable(file, error) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, blank, right = line.rstrip("\r").partition(" ")
        if not (left and blank and right) or " " in right:
            raise _unreadable(f"{file}:{number}", line[:80])
        merges.append((left, right))
    return vocab, merges


def read_ranks(file: Path) -> dict[bytes, int]:
    """A tiktoken file: token -> rank. Raises `LuhuoError` for a line that is none."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise _unreadable(f"{file}:{number}", repr(line[:80])) from None
    return checked_ranks(ranks, file)


def checked_ranks(ranks: dict[bytes, int], where: object) -> dict[bytes, int]:
    """The ranks, if they can be a vocabulary: every byte there, no rank twice, no absurd length."""
    missing = sum(bytes([b]) not in ranks for b in range(256))
    longest = max(map(len, ranks), default=0)
    if missing or len(set(ranks.values())) < len(ranks) or not 0 < longest <= MAX_TOKEN_BYTES or b"" in ranks:
        raise _unreadable(where, tr(f"{missing} bytes without a token", f"{missing} 个字节没有词元"))
    if not all(0 <= rank < 1 << 31 for rank in ranks.values()):
        raise _unreadable(where, tr("a rank out of range", "有序号越界"))
    return ranks


def implied_merges(ranks: Mapping[bytes, int]) -> list[tuple[str, str]]:
    """The merges behind the ranks: tiktoken joins any two neighbours whose joint bytes have a rank, lowest first."""
    found: list[tuple[int, int, bytes, bytes]] = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                found.append((rank, cut, left, right))
    found.sort()
    return [(visible(left), visible(right)) for _, _, left, right in found]


def from_ranks(
    ranks: Mapping[bytes, int], recipe: Recipe, special: Mapping[str, int], where: object = None
) -> tokenizers.Tokenizer:
    """The `tokenizers` object of tiktoken ranks and special tokens with their ids."""
    vocab = {visible(token): rank for token, rank in ranks.items()}
    taken = {rank: token for token, rank in vocab.items()}
    for token, number in special.items():
        if taken.get(number, token) != token or vocab.get(token, number) != number:
            raise _unreadable(where, tr(f"two tokens with id {number}", f"编号 {number} 对应两个词元"))
    added = [AddedToken(token, special=True, normalized=False) for token in special]
    return build({**vocab, **special}, implied_merges(ranks), recipe, added, where)


def read_tekken(file: Path) -> tuple[dict[bytes, int], str, dict[str, int]]:
    """Mistral's `tekken.json`: ranks as ids (after the special tokens), the split pattern, the special tokens."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        config = content["config"]
        reserved = int(config["default_num_special_tokens"])
        size = int(config["default_vocab_size"]) - reserved
        named = {int(t["rank"]): str(t["token_str"]) for t in content.get("special_tokens") or ()}
        named = named or dict(enumerate(TEKKEN_SPECIAL.split()))
        special = {named.get(i, f"<SPECIAL_{i}>"): i for i in range(reserved)}
        entries = sorted(content["vocab"], key=lambda entry: entry["rank"])[:size]
        ranks = {base64.b64decode(e["token_bytes"], validate=True): int(e["rank"]) + reserved for e in entries}
        pattern = str(config["pattern"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(file, f"{type(error).__name__}: {error}") from None
    return checked_ranks(ranks, file), pattern, special


TEKKEN_SPECIAL = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] "
    "[TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX]"
)
"""Special tokens of files that list none."""


def pre_tokenizer_of(pattern: str) -> Any:
    """Cut by one pattern, then bytes to visible characters. Raises `LuhuoError` if it is no regular expression."""
    with library_errors(lambda error: _unreadable(pattern[:80], error)):
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _unreadable(where: object, found: object) -> LuhuoError:
    return LuhuoError(
        tr("The vocabulary cannot be read.", "无法读取词表。"),
        expected=tr("byte-level BPE: tokens with ids, and merges", "字节级 BPE：词元及其编号，以及合并规则"),
        found=found,
        where=where,
        fix=tr("Download the file again.", "请重新下载该文件。"),
    )
