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
from luhuo.tokenizer.chat import CHAT_TEMPLATE, END_OF_TEXT, PAD, TURN_END
from luhuo.tokenizer.incremental import ByteDecoder, IncrementalDecoder, WindowDecoder

TURN_ENDS = (TURN_END, "<|eot_id|>", "<end_of_turn>", "<|end|>")
"""How published chat models end a turn; the first one in the vocabulary counts."""

BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")

VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
"""Bytes that byte-level tokenizers (GPT-2) write as themselves; the others are shifted to U+0100 and up."""


class Tokenizer:
    """Encodes text to ids and back. Text is text: special tokens inside it are not recognised unless asked for."""

    def __init__(self, core: tokenizers.Tokenizer, config: dict[str, Any], chat_template: str | None) -> None:
        core.no_truncation()
        core.no_padding()
        core.encode_special_tokens = True  # "<|im_end|>" in a document or a user's message is only text
        self._core, self._config = core, config
        self.chat_template = chat_template
        self.eos_id = self._first(END_OF_TEXT, self._named("eos_token"))
        self.end_of_turn_id = self._first(*TURN_ENDS, self._named("eos_token"), END_OF_TEXT)
        self.pad_id = self._first(self._named("pad_token"), PAD, self._named("eos_token"), END_OF_TEXT)
        self.bos_id = core.token_to_id(self._named("bos_token") or "")

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """Read `tokenizer.json` and `tokenizer_config.json` from a folder; `LuhuoError` without them."""
        folder = Path(directory)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise LuhuoError(
                tr("There is no tokenizer here.", "这里没有分词器。"), expected="tokenizer.json", where=folder
            )
        try:
            core = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception for every defect of the file
            raise LuhuoError(
                tr("The tokenizer cannot be read.", "无法读取分词器。"), found=error, where=file
            ) from error
        settings = folder / "tokenizer_config.json"
        config = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        separate = folder / "chat_template.jinja"
        template = separate.read_text(encoding="utf-8") if separate.is_file() else config.get("chat_template")
        if isinstance(template, list):  # several named templates: the default one counts
            template = next((t["template"] for t in template if t["name"] == "default"), None)
        return cls(core, config, template)

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
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        text = self._core.to_str(pretty=False)
        write_text(folder / "tokenizer.json", text)
        write_json(folder / "tokenizer_config.json", config)
        named = {k: config[k] for k in ("bos_token", "eos_token", "pad_token", "unk_token") if config.get(k)}
        write_json(folder / "special_tokens_map.json", named)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._core.get_vocab_size()

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids and prompts: the model in canonical form and the chat template."""
        content = json.loads(self._core.to_str())
        content |= {"truncation": None, "padding": None}
        return digest.value_digest({"tokenizer": content, "chat_template": self.chat_template})

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of the text. With `special`, special tokens written in the text become their ids."""
        core = self._recognising if special else self._core
        return core.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Ids of several texts, on all cores."""
        core = self._recognising if special else self._core
        return [e.ids for e in core.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of the ids. Bytes that are no UTF-8 become U+FFFD."""
        if not self._byte_exact:
            return self._core.decode(list(ids), skip_special_tokens=skip_special)
        skipped = self.special_ids if skip_special else ()
        return b"".join(self.token_bytes(i) for i in ids if i not in skipped).decode("utf-8", "replace")

    def decoder(self, *, skip_special: bool = False) -> IncrementalDecoder:
        """A decoder for one stream of tokens."""
        if not self._byte_exact:
            return WindowDecoder(lambda ids: self.decode(ids, skip_special=skip_special))
        return ByteDecoder(lambda i: b"" if skip_special and i in self.special_ids else self.token_bytes(i))

    def token_id(self, token: str) -> int:
        """The id of a token written as in the vocabulary. Raises `LuhuoError` if there is none."""
        found = self._core.token_to_id(token)
        if found is None:
            raise LuhuoError(tr(f"The tokenizer has no token {token}", f"分词器里没有 {token} 这个词元"))
        return found

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for (empty for an id without a token). Not for WordPiece and the like, whose
        text depends on the token before."""
        text = self._core.id_to_token(token)
        if text is None:
            return b""
        if token in self._added:
            return text.encode()
        if not self._byte_level:
            return bytes([int(text[3:5], 16)]) if BYTE_TOKEN.fullmatch(text) else text.encode()
        if any(c not in _byte_of() for c in text):
            return text.encode()
        return bytes(_byte_of()[c] for c in text)

    @functools.cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens."""
        return frozenset(i for i, token in self._core.get_added_tokens_decoder().items() if token.special)

    @functools.cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self._core.get_added_tokens_decoder())

    @functools.cached_property
    def _recognising(self) -> tokenizers.Tokenizer:
        core = tokenizers.Tokenizer.from_str(self._core.to_str())
        core.encode_special_tokens = False
        return core

    @functools.cached_property
    def _decoders(self) -> tuple[str, ...]:
        decoder: dict[str, Any] = json.loads(self._core.to_str())["decoder"] or {"type": ""}
        return tuple(d["type"] for d in decoder.get("decoders", [decoder]))

    @property
    def _byte_level(self) -> bool:
        return "ByteLevel" in self._decoders

    @property
    def _byte_exact(self) -> bool:
        """Whether each token is a fixed string of bytes: byte-level kinds, and the BPE and Unigram trained here."""
        return self._byte_level or self._decoders == ("ByteFallback", "Fuse")

    def _named(self, key: str) -> str | None:
        """A token named in `tokenizer_config.json`, written as text or as an object with `content`."""
        value = self._config.get(key)
        return value.get("content") if isinstance(value, dict) else value

    def _first(self, *candidates: str | None) -> int:
        for token in candidates:
            found = self._core.token_to_id(token) if token else None
            if found is not None:
                return found
        raise LuhuoError(
            tr("The tokenizer names no token that ends a text.", "分词器没有指明文本结束的词元。"),
            expected=tr("eos_token in tokenizer_config.json", "tokenizer_config.json 里的 eos_token"),
        )


@functools.cache
def _byte_of() -> dict[str, int]:
    """{visible character: byte} of the byte-level alphabet (GPT-2, Radford et al. 2019, section 2.2)."""
    hidden = [b for b in range(256) if b not in VISIBLE]
    return {chr(b): b for b in VISIBLE} | {chr(0x100 + i): b for i, b in enumerate(hidden)}
