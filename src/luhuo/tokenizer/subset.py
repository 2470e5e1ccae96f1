"""A tokenizer with some of its tokens only, which cuts every text that needs no other token exactly as before.

Why that holds. BPE: a token comes about by a fixed series of merges inside its own letters, so keeping the tokens of
that series (`closed`) keeps every step of every text whose tokens are all kept; the merge that came first still does,
for the others only became fewer. Unigram: the best cut stays among the cuts, and no other became better. WordPiece:
the longest piece is still there, and longer ones did not appear. What needed a dropped token is written with smaller
ones: single bytes, or, where a vocabulary has none, single characters, which are kept for that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import tokenizers

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.tokenizer.alphabet import byte_of
from luhuo.tokenizer.tokenizer import BYTE_TOKEN, Tokenizer


class Closure:
    """What has to be kept along with tokens of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        content = json.loads(tokenizer._core.to_str())
        self._model: dict[str, Any] = content["model"]
        self._ids = _numbered(self._model)
        self._texts = {number: token for token, number in self._ids.items()}
        self._merges = _merges(self._model, self._ids) if self._model["type"] == "BPE" else {}
        self.always = frozenset({token["id"] for token in content["added_tokens"]} | set(self._smallest(tokenizer)))
        """Ids without which some text could not be written, and all added tokens."""

    def of(self, number: int) -> list[int]:
        """A token's id and those of the tokens out of which it is merged."""
        token = self._texts.get(number)
        return [number] if token is None or not self._merges else [number, *self._inside(token)]

    def all_of(self, wanted: Iterable[int]) -> set[int]:
        """Everything that has to be kept for the tokens `wanted`."""
        return {one for number in wanted for one in self.of(number)} | self.always

    def _inside(self, token: str) -> list[int]:
        """Ids of the tokens that are formed on the way to one, single letters included, as BPE forms them: the merge
        of the lowest rank first, of equal ones the leftmost. None for a token that merges do not lead to."""
        symbols = self._letters(token)
        seen = list(symbols)
        while len(symbols) > 1:
            places = enumerate(pairwise(symbols))
            pairs = [(self._merges[pair][0], place) for place, pair in places if pair in self._merges]
            if not pairs:
                return []
            place = min(pairs)[1]
            symbols[place : place + 2] = [self._merges[symbols[place], symbols[place + 1]][1]]
            seen.append(symbols[place])
        return [self._ids[symbol] for symbol in seen if symbol in self._ids] if symbols == [token] else []

    def _letters(self, token: str) -> list[str]:
        """The symbols a token starts from; some vocabularies mark what goes on with a word, or what ends it."""
        prefix, suffix = (self._model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
        ends = bool(suffix) and token.endswith(suffix) and token != suffix
        inner = token.removesuffix(suffix) if ends else token
        starts = not prefix or not inner.startswith(prefix) or inner == prefix
        letters = list(inner if starts else inner[len(prefix) :])
        marked = [c if i == 0 and starts else prefix + c for i, c in enumerate(letters)]
        return [*marked[:-1], marked[-1] + suffix] if ends and marked else marked

    def _smallest(self, tokenizer: Tokenizer) -> Iterator[int]:
        """The tokens in which any text can be written, and those that the model needs for itself."""
        unknown = self._model.get("unk_token")
        if unknown in self._ids:
            yield self._ids[unknown]
        yield from (number for token, number in self._ids.items() if BYTE_TOKEN.fullmatch(token))
        if self._model["type"] == "Unigram":
            scores = [score for _, score in self._model["vocab"]]
            yield scores.index(min(scores))  # an unknown character costs so much less than the worst piece
            if self._model.get("unk_id") is not None:
                yield self._model["unk_id"]
        if tokenizer._byte_level:
            yield from (self._ids[letter] for letter in byte_of() if letter in self._ids)
        elif not self._model.get("byte_fallback"):
            yield from self._characters()

    def _characters(self) -> Iterator[int]:
        """Single characters in every form, and tokens with a character that has no token of its own in its place."""
        for token, number in self._ids.items():
            letters = self._letters(token)
            if len(letters) <= 1 or any(letter not in self._ids for letter in letters):
                yield number


def subset(tokenizer: Tokenizer, kept: Collection[int]) -> tuple[Tokenizer, list[int]]:
    """A tokenizer with the tokens `kept` only, which should be closed (`Closure`), and their former ids in the order
    of the new ones: those of the model by id, then added ones beside it.

    Raises `LuhuoError` for ids that are none.
    """
    content = json.loads(tokenizer._core.to_str())
    model = content["model"]
    inside = _numbered(model)
    known = set(inside.values()) | set(tokenizer.added_tokens)
    if not known.issuperset(kept):
        raise LuhuoError(
            tr("There are no tokens with these ids.", "没有这些编号的词元。"),
            found=", ".join(map(str, sorted(set(kept) - known)[:5])),
            expected=f"< {tokenizer.vocab_size}",
        )
    order = [*sorted(set(inside.values()) & set(kept)), *sorted(set(kept) - set(inside.values()))]
    new = {old: number for number, old in enumerate(order)}
    _reduce(model, inside, new)
    content["added_tokens"] = [t | {"id": new[t["id"]]} for t in content["added_tokens"] if t["id"] in new]
    content["added_tokens"].sort(key=lambda token: token["id"])
    content["post_processor"] = _processor(content.get("post_processor"), new)
    core = tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    stops = [new[i] for i in tokenizer.turn_end_ids if i in new]
    found = Tokenizer(core, _renumbered_settings(tokenizer._config, new), tokenizer.chat_template, stops)
    moved = [old for old in order if core.id_to_token(new[old]) != tokenizer.token_text(old)]
    if moved:
        raise LuhuoError(
            tr("The tokens of this tokenizer cannot be numbered anew.", "该分词器的词元无法重新编号。"),
            found=", ".join(tokenizer.token_text(old) for old in moved[:5]),
        )
    return found, order


def _numbered(model: Mapping[str, Any]) -> dict[str, int]:
    """The ids of a serialised model's tokens."""
    vocab = model["vocab"]
    return dict(vocab) if isinstance(vocab, dict) else {token: number for number, (token, _) in enumerate(vocab)}


def _merges(model: Mapping[str, Any], ids: Mapping[str, int]) -> dict[tuple[str, str], tuple[int, str]]:
    """(left, right) -> (rank, result) of a BPE model."""
    joined = _joiner(model)
    return {
        pair: (rank, joined(*pair)) for rank, pair in enumerate(map(_pair, model["merges"])) if joined(*pair) in ids
    }


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _joiner(model: Mapping[str, Any]) -> Callable[[str, str], str]:
    prefix = model.get("continuing_subword_prefix") or ""
    return lambda left, right: left + right[len(prefix) :]


def _reduce(model: dict[str, Any], inside: Mapping[str, int], new: Mapping[int, int]) -> None:
    """Leave of a serialised model what is kept, with new ids."""
    kept = {token: new[number] for token, number in inside.items() if number in new}
    if isinstance(model["vocab"], dict):
        model["vocab"] = kept
    else:
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    if "merges" in model:
        joined = _joiner(model)
        pairs = map(_pair, model["merges"])
        model["merges"] = [[a, b] for a, b in pairs if a in kept and b in kept and joined(a, b) in kept]


def _processor(found: Any, new: Mapping[int, int]) -> Any:
    """A serialised post-processor with new ids."""
    if not isinstance(found, dict):
        return found
    if found["type"] == "Sequence":
        return found | {"processors": [_processor(one, new) for one in found["processors"]]}
    if found["type"] == "TemplateProcessing":
        tokens = {
            name: token | {"ids": [new[number] for number in token["ids"]]}
            for name, token in found["special_tokens"].items()
        }
        return found | {"special_tokens": tokens}
    return found | {
        name: [found[name][0], new[found[name][1]]] for name in ("sep", "cls") if isinstance(found.get(name), list)
    }


def _renumbered_settings(config: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """`tokenizer_config.json` with new ids where it names ids."""
    decoder = config.get("added_tokens_decoder")
    if not isinstance(decoder, Mapping):
        return dict(config)
    moved = {str(new[int(number)]): token for number, token in decoder.items() if int(number) in new}
    return {**config, "added_tokens_decoder": moved}
