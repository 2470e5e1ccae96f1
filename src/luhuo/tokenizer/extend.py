"""New special tokens for an existing tokenizer, without moving the ids of any text.

A token that is wanted takes the place of a reserved one (`<|reserved_0|>` and the like), so that the vocabulary need
not grow; when these are used up, it gets the next free id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken

from luhuo.core import digest
from luhuo.tokenizer.framing import frame
from luhuo.tokenizer.roles import FREE
from luhuo.tokenizer.tokenizer import Tokenizer


def extend(
    tokenizer: Tokenizer,
    tokens: Sequence[str],
    *,
    roles: Mapping[str, str] | None = None,
    framed: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Tokenizer:
    """A tokenizer that has all `tokens` as special ones, in reserved places as far as there are any.

    `roles` names them for others (`mask_token`: "[MASK]"); `framed` are the tokens before and after a whole text.
    """
    content = json.loads(tokenizer._core.to_str())
    missing = [token for token in dict.fromkeys(tokens) if tokenizer._core.token_to_id(token) is None]
    used = {str(value) for value in tokenizer.template_tokens.values()}
    free = [
        i for i in sorted(tokenizer.special_ids) if FREE.search(text := tokenizer.token_text(i)) and text not in used
    ]
    for number, token in zip(free, missing, strict=False):
        _rename(content, number, tokenizer.token_text(number), token)
    core = tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    if framed is not None:
        frame(core, *map(list, framed))
    config = {**tokenizer._config, **(roles or {})}
    return Tokenizer(core, config, tokenizer.chat_template, tokenizer.turn_end_ids)


def text_fingerprint(tokenizer: Tokenizer) -> str:
    """SHA-256 of what decides the ids of texts: equal for a tokenizer and what `extend` makes of it."""
    content = json.loads(tokenizer._core.to_str())
    special = {tokenizer.token_text(i) for i in tokenizer.special_ids}
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in special]
    vocab = content["model"].get("vocab")
    if isinstance(vocab, dict):
        content["model"]["vocab"] = {token: i for token, i in vocab.items() if token not in special}
    elif isinstance(vocab, list):
        content["model"]["vocab"] = [entry for entry in vocab if entry[0] not in special]
    unused = {"post_processor": None, "truncation": None, "padding": None}
    return digest.value_digest(content | unused)


def _rename(content: dict[str, Any], number: int, old: str, new: str) -> None:
    """Give the special token with this id another name, in a serialised tokenizer."""
    for token in content["added_tokens"]:
        if token["id"] == number:
            token["content"] = new
    vocab = content["model"].get("vocab")
    if isinstance(vocab, dict) and vocab.get(old) == number:
        content["model"]["vocab"] = {new if token == old else token: i for token, i in vocab.items()}
    elif isinstance(vocab, list) and number < len(vocab) and vocab[number][0] == old:
        vocab[number][0] = new
