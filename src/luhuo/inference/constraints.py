"""Output of a given form: JSON Schema, any JSON object, a regular expression, one of several texts, or a grammar.

Before each token a mask says which tokens keep the text a beginning of something that conforms (Willard & Louf 2023).
Masks come from `llguidance` (the extra `luhuo[constrained]`), which works on the bytes of tokens, so a Chinese
character that is spread over several tokens is nothing special. What a text may be is decided when the request is
made: a schema with a keyword that cannot be enforced is an error then, never silently ignored.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr
from luhuo.inference.sampling import OutputFormat
from luhuo.tokenizer.tokenizer import Tokenizer

JSON_OPTIONS = {"whitespace_pattern": r"[ \t\r\n]{0,64}", "lenient": False}
"""Blanks between the parts of JSON are bounded: small models otherwise write them until `max_tokens`. Lenient would
ignore what cannot be enforced; a schema may not ask for it."""
MAX_FORMAT = 1_000_000
"""Characters of a format's definition."""


def compile_format(format: OutputFormat, tokenizer: Tokenizer | None, *, after: str | None = None) -> FormatConstraint:
    """The constraint that makes one answer follow `format`.

    With `after` (such as `</think>`) it begins behind that text, and the answer cannot end before. Raises
    `LuhuoError` when the package is missing, the tokens of the tokenizer are no fixed bytes, or the format is not
    valid, cannot be enforced, or accepts nothing.
    """
    if tokenizer is None:
        raise LuhuoError(tr("An output format needs a tokenizer.", "输出格式需要分词器。"))
    space = _space(tokenizer)
    grammar = grammar_of(format)
    if space.blank_first:
        grammar = _behind_blank(grammar)
    return FormatConstraint(space, space.start(grammar, format), after)


def grammar_of(format: OutputFormat) -> str:
    """A format as a grammar of llguidance (JSON text). Raises `LuhuoError` when it is too long or not readable."""
    written = format.model_dump_json()
    if len(written) > MAX_FORMAT:
        raise LuhuoError(
            tr("The output format is too long.", "输出格式过长。"),
            expected=tr(f"at most {MAX_FORMAT:,} characters", f"不超过 {MAX_FORMAT:,} 个字符"),
            found=len(written),
        )
    matcher = _llguidance().LLMatcher
    if format.json_object:
        return matcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_OPTIONS)
    if format.json_schema is not None:
        schema = {} if format.json_schema is True else format.json_schema
        return matcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS)
    if format.regex is not None:
        return matcher.grammar_from_regex(format.regex)
    if format.choices:
        return matcher.grammar_from_lark("start: " + " | ".join(map(quoted, format.choices)))
    return matcher.grammar_from_lark(_lark(format.grammar or ""))


def quoted(text: str) -> str:
    """The text as a literal of a Lark grammar."""
    return '""' if not text else json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class FormatConstraint:
    """The state of one answer. `error` is set when no token can follow: then every token is let through, and the
    request ends with that message."""

    def __init__(self, space: TokenSpace, matcher: Any, after: str | None) -> None:
        self._space, self._matcher = space, matcher
        self._awaited = after.encode() if after else b""
        self._seen = b""
        self.error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing may be added to it."""
        return self.error is not None or (not self._awaited and self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the text so far conforms."""
        return self.error is None and not self._awaited and self._matcher.is_accepting()

    def allowed(self, vocab: int, end_tokens: Set[int]) -> Tensor:
        """Which tokens may come next, bool (vocab,) on the CPU; `end_tokens` only where the text conforms."""
        ends = [token for token in end_tokens if token < vocab]
        if self._awaited:
            free = torch.ones(vocab, dtype=torch.bool)
            free[self._space.size :] = False
            free[ends] = False
            return free
        bits, may_end = self._space.mask(self._matcher)
        allowed = torch.zeros(vocab, dtype=torch.bool)
        count = min(vocab, self._space.size)
        allowed[:count] = torch.from_numpy(bits[:count])
        allowed[ends] = may_end
        if self._matcher.is_error():
            self.error = _first_line(self._matcher.get_error())
        elif not may_end and not bits.any():
            self.error = tr("no token of the vocabulary can follow", "词表中没有可以接续的词元")
        return allowed if self.error is None else torch.ones(vocab, dtype=torch.bool)

    def accept(self, token: int) -> None:
        """Take the chosen token."""
        if self._awaited:
            self._seen = (self._seen + self._space.tokens[token])[-1024:]
            place = self._seen.find(self._awaited)
            if place >= 0:
                self._awaited = b""
            return
        if self.error is None and not self._matcher.consume_token(token):
            self.error = _first_line(self._matcher.get_error())


class TokenSpace:
    """A tokenizer as llguidance sees it: the bytes of every token, and one token more that stands for any end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.byte_exact:
            raise LuhuoError(
                tr(
                    "Output formats need a tokenizer whose tokens are fixed strings of bytes.",
                    "输出格式要求分词器的每个词元对应固定的字节串。",
                ),
                expected=tr("byte-level BPE, SentencePiece or tiktoken", "字节级 BPE、SentencePiece 或 tiktoken"),
                found="WordPiece" if tokenizer.continuing_prefix else tr("another kind", "其他类型"),
            )
        self.size = tokenizer.vocab_size
        self.blank_first = tokenizer.drops_first_blank
        self.tokens = [tokenizer.token_bytes(i) for i in range(self.size)]
        self._library = _llguidance()
        self._space = self._library.LLTokenizer(_Table(tokenizer, self.tokens))
        self._started: dict[str, Any] = {}
        self._twins = _twins(self.tokens, tokenizer.special_ids)

    def start(self, grammar: str, format: OutputFormat) -> Any:
        """A matcher at the start of `grammar`; compiled once. Raises `LuhuoError` if it accepts nothing."""
        if grammar not in self._started:
            matcher = self._library.LLMatcher(self._space, grammar, log_level=0)
            problem = matcher.get_error() or self._dead_end(matcher)
            if problem:
                raise _refused(format, problem)
            while len(self._started) >= 64:
                self._started.pop(next(iter(self._started)))
            self._started[grammar] = matcher
        return self._started[grammar].deep_copy()

    def mask(self, matcher: Any) -> tuple[np.ndarray, bool]:
        """Which tokens may follow, bool (size,), and whether the text may end."""
        words = np.zeros(self.size // 32 + 1, dtype=np.int32)
        matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[: self.size + 1].view(np.bool_)
        for ids in self._twins:
            bits[ids] = bits[ids].any()
        return bits[: self.size], bool(bits[self.size])

    def _dead_end(self, matcher: Any) -> str:
        """What is wrong when not even a first token can be written."""
        trial = matcher.deep_copy()
        bits, may_end = self.mask(trial)
        if trial.is_error() or not (bits.any() or (may_end and trial.is_accepting())):
            return tr("no text of the vocabulary conforms", "词表写不出任何符合的文本")
        return ""


class _Table:
    """What the library reads of a tokenizer. It is called for the ids of a text of which no other way is left."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, tokens: list[bytes]) -> None:
        self.eos_token_id = len(tokens)
        self.tokens = [*tokens, b"<end>"]
        self.special_token_ids = sorted({*tokenizer.special_ids, self.eos_token_id})
        self._encode = tokenizer.encode
        self._ids = {data: i for i, data in enumerate(tokens) if data and i not in tokenizer.special_ids}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: str) -> list[int]:
        """Ids whose bytes are exactly those of `text`: some tokenizers write a blank before it, or normalise it."""
        wanted = text.encode()
        for anchor in ("", "\n"):
            head, whole = self._encode(anchor), self._encode(anchor + text)
            rest = whole[len(head) :]
            if whole[: len(head)] == head and b"".join(self.tokens[i] for i in rest) == wanted:
                return rest
        return self._greedy(wanted)

    def _greedy(self, data: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(data):
            ends = range(min(len(data), at + self._longest), at, -1)
            end = next((end for end in ends if data[at:end] in self._ids), None)
            if end is None:
                break  # the rest has no tokens; what came so far is still right
            ids.append(self._ids[data[at:end]])
            at = end
        return ids


@functools.lru_cache(maxsize=4)
def _space(tokenizer: Tokenizer) -> TokenSpace:
    return TokenSpace(tokenizer)


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise missing_extra("llguidance", "constrained") from None
    return llguidance


def _lark(grammar: str) -> str:
    """Lark as it is; EBNF with `::=` translated."""
    if "::=" not in grammar:
        return grammar
    from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

    try:
        return any_to_lark(grammar)
    except GbnfToLarkError as error:
        raise _refused(OutputFormat(grammar=grammar), str(error)) from None


def _behind_blank(grammar: str) -> str:
    """The grammar with a blank allowed before: SentencePiece writes one before a text, and decoding takes it off."""
    inner = json.loads(grammar)["grammars"] if grammar.startswith("{") else [{"lark_grammar": grammar}]
    inner[0]["name"] = "inner"
    return json.dumps({"grammars": [{"name": "outer", "lark_grammar": 'start: " "? @inner'}, *inner]})


def _twins(tokens: list[bytes], special: Set[int]) -> list[list[int]]:
    """Tokens with equal bytes (`A` and `<0x41>`): the library knows one of each, and all are as good."""
    places: dict[bytes, list[int]] = {}
    for token, data in enumerate(tokens):
        if data and token not in special:
            places.setdefault(data, []).append(token)
    return [ids for ids in places.values() if len(ids) > 1]


def _refused(format: OutputFormat, problem: str) -> LuhuoError:
    kind = next(name for name in type(format).model_fields if getattr(format, name))
    return LuhuoError(
        tr("This output format cannot be used.", "无法使用这个输出格式。"),
        found=_first_line(problem),
        where=kind,
        fix=tr(
            "Correct it, or leave out what cannot be enforced; docs/sampling.md lists what can.",
            "请更正，或去掉无法强制的部分；可用的部分见 docs/sampling.zh.md。",
        ),
    )


def _first_line(problem: str) -> str:
    """The library's message without its dump of the parser."""
    return re.split(r"\n<state>", problem)[0].strip()[:500]
