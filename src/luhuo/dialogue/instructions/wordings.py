"""Sets of wordings: YAML files of templates in both languages, rendered in the sandbox that chat templates have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import LANGUAGES, tr
from luhuo.dialogue.template import render_text

LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class Wording:
    """One way to put a task. `name` says where it stands: set, language and number."""

    name: str
    ask: str
    answer: str
    inverted: bool

    def filled(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """(question, answer) for the values of a row. Raises `LuhuoError` for a template that cannot be rendered, and
        for one that leaves either empty."""
        try:
            asked, answer = (
                render_text(source, (), variables={**values, "letters": LETTERS}).strip()
                for source in (self.ask, self.answer)
            )
        except LuhuoError as error:
            raise LuhuoError(
                tr("A wording cannot be rendered.", "该表述模板无法渲染。"), found=error.found, where=self.name
            ) from None
        if not asked or not answer:
            raise LuhuoError(tr("A wording gives no text.", "该表述模板没有给出文字。"), where=self.name)
        return asked, answer


@dataclass(frozen=True)
class Wordings:
    """A set of wordings and the fields that they need."""

    fields: tuple[str, ...]
    by_lang: Mapping[str, tuple[Wording, ...]]

    def of(self, lang: str, *, inverted: bool) -> list[Wording]:
        """Those of a language."""
        return [wording for wording in self.by_lang[lang] if wording.inverted == inverted]


def built_in() -> list[str]:
    """Names of the sets that come with Luhuo."""
    folder = resources.files("luhuo.dialogue.instructions") / "templates"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load(name: str) -> Wordings:
    """The set of this name, or of a YAML file. Raises `LuhuoError` for what is neither."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise LuhuoError(tr("There is no such file of templates.", "没有这个模板文件。"), where=path)
        text, stem = path.read_text(encoding="utf-8"), path.stem
    elif name in built_in():
        folder = resources.files("luhuo.dialogue.instructions") / "templates"
        text, stem = (folder / f"{name}.yaml").read_text(encoding="utf-8"), name
    else:
        raise unknown_key(name, built_in(), None, tr("set of templates", "模板集"))
    try:
        return _parsed(yaml.safe_load(text), stem)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise LuhuoError(
            tr("This is no set of templates.", "这不是模板集。"),
            expected="fields: [text, label], en: [{ask: …, answer: …, inverted: false}], zh: […]",
            found=f"{type(error).__name__}: {error}",
            where=name,
        ) from None


def _parsed(raw: Any, stem: str) -> Wordings:
    by_lang: dict[str, tuple[Wording, ...]] = {}
    for lang in LANGUAGES:
        listed = enumerate(raw.get(lang, []), 1)
        by_lang[lang] = tuple(_wording(one, f"{stem}/{lang}/{number}") for number, one in listed)
    if not any(not wording.inverted for found in by_lang.values() for wording in found):
        raise ValueError("no wording")
    return Wordings(tuple(map(str, raw["fields"])), by_lang)


def _wording(raw: Any, name: str) -> Wording:
    ask, answer = raw["ask"], raw["answer"]
    strange = set(raw) - {"ask", "answer", "inverted"}
    if strange or not isinstance(ask, str) or not isinstance(answer, str):
        raise ValueError(f"{name}: {', '.join(map(str, strange)) or 'ask, answer'}")
    return Wording(name, ask, answer, bool(raw.get("inverted", False)))
