"""Rules: which values of a signal a text may have, per language, and why. The files beside this one hold them.

A rule of `rules` drops a document whose value is outside [min, max]; a rule of `flags` only names a reason that stays
with the document (harmful text, the other script): whoever builds a corpus decides what to do with those.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

LANGUAGES = ("en", "zh")
"""Languages with rules of their own; all others have those of `other.yaml`."""
KEYS = {"signal", "min", "max", "reason", "en", "zh", "source"}


@dataclass(frozen=True)
class Rule:
    """One signal, the values it may have (both included; None: no limit), and what is said of a text with others."""

    signal: str
    min: float | None
    max: float | None
    reason: str
    why: str
    source: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is allowed."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


def load(lang: str) -> dict[str, Rule]:
    """The rules that drop texts of a language: signal -> rule, in the order of the file."""
    return _told(lang, "rules")


def flags(lang: str) -> dict[str, Rule]:
    """The rules that only flag: signal -> rule."""
    return _told(lang, "flags")


def broken(table: dict[str, Rule], values: Mapping[str, float]) -> list[str]:
    """The reasons of the rules that a text's signals break. A signal that was not measured breaks none."""
    return [rule.reason for name, rule in table.items() if name in values and not rule.holds(values[name])]


def _told(lang: str, part: str) -> dict[str, Rule]:
    """The rules of one part, with `why` in the reader's language."""
    return {
        row["signal"]: Rule(
            row["signal"], row.get("min"), row.get("max"), row["reason"], tr(row["en"], row["zh"]), row["source"]
        )
        for row in _read(lang)[part]
    }


@functools.cache
def _read(lang: str) -> dict[str, list[dict[str, Any]]]:
    name = f"{lang if lang in LANGUAGES else 'other'}.yaml"
    return parse(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"), name)


def parse(text: str, where: str) -> dict[str, list[dict[str, Any]]]:
    """ "rules" and "flags" of a rule file's text, checked. Raises `LuhuoError`."""
    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LuhuoError(
            tr("The rules are not valid YAML.", "规则不是有效的 YAML。"), found=error, where=where
        ) from None
    if not isinstance(table, dict) or not set(table) <= {"rules", "flags"}:
        raise LuhuoError(
            tr("This is not a file of rules.", "这不是规则文件。"), expected="rules: […], flags: […]", where=where
        )
    parts = {part: table.get(part) or [] for part in ("rules", "flags")}
    for rows in parts.values():
        seen: set[str] = set()
        for row in rows:
            _check(row, where)
            if row["signal"] in seen:
                raise LuhuoError(
                    tr("Two rules are about one signal.", "两条规则针对同一个信号。"), found=row["signal"], where=where
                )
            seen.add(row["signal"])
    return parts


def _check(row: Any, where: str) -> None:
    whole = isinstance(row, dict) and set(row) <= KEYS and KEYS - {"min", "max"} <= set(row)
    numbers = whole and all(isinstance(row.get(side, 0), int | float) for side in ("min", "max"))
    if not numbers or ("min" not in row and "max" not in row):
        raise LuhuoError(
            tr("This rule is not complete.", "这条规则不完整。"),
            expected=tr(
                "signal, min or max (numbers), reason, en, zh, source",
                "signal、min 或 max（数）、reason、en、zh、source",
            ),
            found=row,
            where=where,
        )
