"""The tokenizer used everywhere: a `tokenizers` model in the Hugging Face layout with its chat template."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from luhuo.core import digest
from luhuo.core.atomic import write_json, write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.tokenizer import published, roles, settings
from luhuo.tokenizer.alphabet import byte_of
from luhuo.tokenizer.chat import CHAT_TEMPLATE, PAD, TURN_END
from luhuo.tokenizer.incremental import ByteDecoder, IncrementalDecoder, WindowDecoder

BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")
BLANK = "▁"
HIDDEN = "\ufdd0"
"""A noncharacter: what starts with it is found in no text."""


class Tokenizer:
    """Encodes text to ids and back. Text is text: special tokens inside it are not recognised unless asked for.

    `bos_id`, `unk_id`: None if there is none. `turn_end_ids`: all tokens at which an assistant's turn may end.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        config: dict[str, Any],
        chat_template: str | None,
        stop_ids: Sequence[int] = (),
    ) -> None:
        core.no_truncation()
        core.no_padding()
        core.encode_special_tokens = True  # "<|im_end|>" in a document or a user's message is only text
        self._core, self._config = core, config
        self.chat_template = chat_template
        special = {i: token.content for i, token in core.get_added_tokens_decoder().items() if token.special}
        self.special_ids = frozenset(special)
        self._roles = roles.find(core.token_to_id, special, config, chat_template, stop_ids)
        self.bos_id, self.unk_id = self._roles.bos, self._roles.unk
        self.turn_end_ids = self._roles.turn_ends

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """Open the tokenizer of a model directory, whatever files it comes as; `LuhuoError` without one."""
        folder = Path(directory)
        found = settings.read(folder)
        core = published.open_core(folder, found)
        return cls(core, roles.named_by_habit(core) | found.config, found.template, found.stop_ids)

    @classmethod
    def born_here(cls, core: tokenizers.Tokenizer, context: int = 1_000_000) -> Tokenizer:
        """Wrap a freshly trained model with our special tokens and chat template."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": TURN_END,
            "pad_token": PAD,
            "bos_token": None,
            "unk_token": None,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        }
        return cls(core, config, CHAT_TEMPLATE)

    def save(self, directory: str | Path) -> None:
        """Write the Hugging Face layout; `transformers.AutoTokenizer` opens it and gives equal ids."""
        folder = Path(directory)
        config = {k: v for k, v in self._config.items() if k != "chat_template"}
        config["tokenizer_class"] = "PreTrainedTokenizerFast"  # any other would rebuild what tokenizer.json says
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        text = self._core.to_str(pretty=False)
        write_text(folder / "tokenizer.json", text)
        write_json(folder / "tokenizer_config.json", config)
        named = {k: config[k] for k in ("bos_token", "eos_token", "pad_token", "unk_token") if config.get(k)}
        write_json(folder / "special_tokens_map.json", named)

    @functools.cached_property
    def vocab_size(self) -> int:
        """The number of ids, special tokens and holes included: the largest id and one."""
        return max(self._core.get_vocab().values(), default=-1) + 1

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids and prompts: the model in canonical form and the chat template."""
        content = json.loads(self._core.to_str())
        content |= {"truncation": None, "padding": None}
        return digest.value_digest({"tokenizer": content, "chat_template": self.chat_template})

    @property
    def eos_id(self) -> int:
        """The token between documents. Raises `LuhuoError` if the vocabulary has none."""
        return self._role(self._roles.text_end)

    @property
    def end_of_turn_id(self) -> int:
        """The token that ends a turn of a chat. Raises `LuhuoError` if the vocabulary has none."""
        return self._role(self.turn_end_ids[0] if self.turn_end_ids else None)

    @property
    def stop_ids(self) -> frozenset[int]:
        """All tokens at which a generation ends: those of a turn, and that of a text."""
        ends = (*self.turn_end_ids, self._roles.text_end)
        return frozenset(token for token in ends if token is not None)

    @property
    def pad_id(self) -> int:
        """The token that fills a batch up; not one that ends a text or a turn, where the vocabulary has another."""
        return self._role(self._roles.pad)

    def encode(self, text: str, *, special: bool = False, framed: bool = False) -> list[int]:
        """Ids of the text. With `special`, special tokens written in the text become their ids; with `framed`, the
        tokens that the model expects around a whole text (bos, eos, [CLS] … [SEP]) are put there."""
        core = self._recognising if special else self._plain
        if not framed:
            return core.encode(text, add_special_tokens=False).ids
        before, after = self._frame
        return [*before, *core.encode(text, add_special_tokens=False).ids, *after]

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text that a model is to continue: framed in front (bos, where the model expects it), not closed.

        An empty text gives the token that stands in front of a text, or else the one between texts.
        """
        return [*self._frame[0], *self.encode(text)] or [self.eos_id]

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Ids of several texts, on all cores."""
        core = self._recognising if special else self._plain
        return [e.ids for e in core.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_literally(self, text: str) -> list[int]:
        """Ids of a text in which no added token is recognised, special or not: for what a user typed in a chat.

        A token such as `<｜User｜>` opens a turn in some models although it is not marked special.
        """
        return self._literal.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of the ids. Bytes that are no UTF-8 become U+FFFD."""
        if not self.byte_exact:
            return self._core.decode(list(ids), skip_special_tokens=skip_special)
        skipped = self.special_ids if skip_special else ()
        text = b"".join(self.token_bytes(i) for i in ids if i not in skipped).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.drops_first_blank else text

    def decoder(self, *, skip_special: bool = False) -> IncrementalDecoder:
        """A decoder for one stream of tokens."""
        if not self.byte_exact:
            return WindowDecoder(lambda ids: self.decode(ids, skip_special=skip_special))
        return ByteDecoder(
            lambda i: b"" if skip_special and i in self.special_ids else self.token_bytes(i),
            drop_first_blank=self.drops_first_blank,
        )

    def token_id(self, token: str) -> int:
        """The id of a token written as in the vocabulary. Raises `LuhuoError` if there is none."""
        found = self._core.token_to_id(token)
        if found is None:
            raise LuhuoError(tr(f"The tokenizer has no token {token}", f"分词器里没有 {token} 这个词元"))
        return found

    def token_text(self, number: int) -> str:
        """A token as the vocabulary writes it. Raises `LuhuoError` if no token has this id."""
        found = self._core.id_to_token(number)
        if found is None:
            raise LuhuoError(tr(f"The tokenizer has no token with id {number}", f"分词器里没有编号 {number} 的词元"))
        return found

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for (empty for an id without a token). Not for WordPiece and the like, whose
        text depends on the token before."""
        text = self._core.id_to_token(token)
        if text is None:
            return b""
        if token in self.added_tokens or not self._byte_level:
            if BYTE_TOKEN.fullmatch(text):
                return bytes([int(text[3:5], 16)])
            return (text.replace(BLANK, " ") if self._decoders[0] == "Replace" else text).encode()
        if any(c not in byte_of() for c in text):
            return text.encode()
        return bytes(byte_of()[c] for c in text)

    @functools.cached_property
    def continuing_prefix(self) -> str | None:
        """What a piece that goes on with a word begins with ("##" in WordPiece); None where blanks tell."""
        decoder: dict[str, Any] = json.loads(self._core.decoder.__getstate__()) if self._core.decoder else {}
        return decoder.get("prefix", "##") if decoder.get("type") == "WordPiece" else None

    @property
    def template_tokens(self) -> dict[str, str]:
        """What chat templates call `bos_token`, `eos_token` and the like: those that the tokenizer has."""
        named = {role: value for role in settings.ROLES if (value := self._config.get(role))}
        return {role: value["content"] if isinstance(value, dict) else value for role, value in named.items()}

    @functools.cached_property
    def added_tokens(self) -> dict[int, str]:
        """Tokens that are recognised as a whole before anything else: the special ones and others, by id."""
        return {i: token.content for i, token in self._core.get_added_tokens_decoder().items()}

    @functools.cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Ids before and after a whole text, as the post-processor puts them."""
        bare = self._core.encode("a", add_special_tokens=False).ids
        whole = self._core.encode("a").ids
        count = len(whole) - len(bare)
        start = next((i for i in range(count + 1) if whole[i : i + len(bare)] == bare), 0)
        return whole[:start], whole[start + len(bare) :]

    @functools.cached_property
    def _recognising(self) -> tokenizers.Tokenizer:
        core = tokenizers.Tokenizer.from_str(self._core.to_str())
        core.encode_special_tokens = False
        return core

    @functools.cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """For text in which special tokens are text. Unigram would find them in its vocabulary: they are renamed."""
        content = json.loads(self._core.to_str()) if isinstance(self._core.model, tokenizers.models.Unigram) else {}
        if not any(i < len(content.get("model", {}).get("vocab", ())) for i in self.special_ids):
            return self._core
        _rename_special(content, self.special_ids)
        core = tokenizers.Tokenizer.from_str(json.dumps(content))
        core.encode_special_tokens = True
        return core

    @functools.cached_property
    def _literal(self) -> tokenizers.Tokenizer:
        content = json.loads(self._plain.to_str())
        content["added_tokens"], content["post_processor"] = [], None
        return tokenizers.Tokenizer.from_str(json.dumps(content))

    @functools.cached_property
    def _decoders(self) -> tuple[str, ...]:
        decoder: dict[str, Any] = json.loads(self._core.decoder.__getstate__()) if self._core.decoder else {"type": ""}
        return tuple(d["type"] for d in decoder.get("decoders", [decoder]))

    @property
    def _byte_level(self) -> bool:
        return "ByteLevel" in self._decoders

    @property
    def byte_exact(self) -> bool:
        """Whether each token is a fixed string of bytes: byte-level kinds, SentencePiece's, and those trained here."""
        return self._byte_level or self._decoders in SENTENCEPIECE_DECODERS

    @property
    def drops_first_blank(self) -> bool:
        """SentencePiece puts a blank before every text; it is taken off again."""
        return self._decoders[-1] == "Strip"

    def _role(self, found: int | None) -> int:
        if found is None:
            raise LuhuoError(
                tr("The tokenizer names no token that ends a text.", "分词器没有指明文本结束的词元。"),
                expected=tr("eos_token in tokenizer_config.json", "tokenizer_config.json 里的 eos_token"),
            )
        return found


SENTENCEPIECE_DECODERS = {
    ("ByteFallback", "Fuse"),
    ("Replace", "ByteFallback", "Fuse"),
    ("Replace", "ByteFallback", "Fuse", "Strip"),
}


def _rename_special(content: dict[str, Any], special: frozenset[int]) -> None:
    """Give the special tokens of a serialised Unigram model names that no text contains."""
    vocab = content["model"]["vocab"]
    for number in special:
        if number < len(vocab):
            vocab[number][0] = f"{HIDDEN}{number}"
    for token in content["added_tokens"]:
        if token["id"] in special:
            token["content"] = f"{HIDDEN}{token['id']}"
    content["post_processor"] = None
