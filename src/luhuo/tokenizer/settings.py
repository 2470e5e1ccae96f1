"""What the JSON files of a model directory say about its tokenizer: special and added tokens, chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MAX_JSON_BYTES = 512 << 20


@dataclass(frozen=True)
class Added:
    """A token that a file adds to the vocabulary; `number` is its id where the file gives one."""

    text: str
    number: int | None = None
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class Settings:
    """The files together. `config`: `tokenizer_config.json` with every role as plain text. `model`: `config.json`."""

    config: dict[str, Any] = field(default_factory=dict)
    added: tuple[Added, ...] = ()
    template: str | None = None
    stop_ids: tuple[int, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The tokenizer's class name in `transformers`, without "Fast"; empty if none is given."""
        return str(self.config.get("tokenizer_class") or "").removesuffix("Fast")


def read(folder: Path) -> Settings:
    """Read what is there; every file may be missing. Raises `LuhuoError` for one that is no JSON object."""
    config = read_json(folder / "tokenizer_config.json")
    special = read_json(folder / "special_tokens_map.json")
    added = _added(config, read_json(folder / "added_tokens.json"))
    for role in ROLES:
        found = config.get(role, special.get(role))
        if found is not None or role in config:
            config[role] = _content(found)
    named = [_content(t) for m in (config, special) for t in _listed(m)]
    known = {token.text for token in added}
    added += [Added(text) for text in dict.fromkeys(named) if text and text not in known]
    generation = read_json(folder / "generation_config.json")
    return Settings(
        config=config,
        added=tuple(added),
        template=_template(folder, config),
        stop_ids=_numbers(generation.get("eos_token_id")),
        model=read_json(folder / "config.json"),
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file; {} if there is no file. Raises `LuhuoError` if it holds anything else."""
    if not file.is_file():
        return {}
    problem: object = None
    if file.stat().st_size > MAX_JSON_BYTES:
        problem = f"{file.stat().st_size:,} bytes"
    else:
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(value, dict):
                return value
            problem = type(value).__name__
        except (ValueError, RecursionError) as error:
            problem = error
    raise LuhuoError(
        tr("A settings file of the tokenizer cannot be read.", "无法读取分词器的设置文件。"),
        expected=tr("a JSON object", "JSON 对象"),
        found=problem,
        where=file,
    )


def _content(value: Any) -> str | None:
    """A token written as text or as an object with `content`."""
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) and text else None


def _listed(values: Mapping[str, Any]) -> list[Any]:
    """Tokens under the names for further special tokens: a list, or (newer files) an object of name to token."""
    found: list[Any] = []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = values.get(key) or []
        found += list(more.values()) if isinstance(more, Mapping) else more if isinstance(more, list) else []
    return found


def _added(config: Mapping[str, Any], old: Mapping[str, Any]) -> list[Added]:
    """The tokens of `added_tokens_decoder` (id -> token) and of the older `added_tokens.json` (token -> id), by id."""
    found: dict[str, Added] = {}
    decoder = config.get("added_tokens_decoder")
    for key, value in (decoder if isinstance(decoder, Mapping) else {}).items():
        text = _content(value)
        if text and str(key).isdigit():
            flags = {
                name: bool(value.get(name)) for name in ("special", "lstrip", "rstrip", "single_word", "normalized")
            }
            found[text] = Added(text, int(key), **flags)
    for text, number in old.items():
        if text and isinstance(number, int) and number >= 0:
            found.setdefault(text, Added(text, number, special=False, normalized=True))
    return sorted(found.values(), key=lambda token: token.number or 0)


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The chat template: its own file, else the settings; of several named ones the one called default."""
    separate = folder / "chat_template.jinja"
    if separate.is_file():
        return separate.read_text(encoding="utf-8", errors="replace")
    found = config.get("chat_template") or read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, Mapping)}
        found = named.get("default", next(iter(named.values()), None))
    return found if isinstance(found, str) else None


def _numbers(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0)
