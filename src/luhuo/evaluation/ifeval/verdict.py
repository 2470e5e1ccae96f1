"""From a row of the set to its instructions, and from a reply to the four numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.ifeval.checks import CHECKS

RELATIONS = ("less than", "at least")


@dataclass(frozen=True)
class Instruction:
    """One instruction with its parameters."""

    name: str
    parameters: Mapping[str, Any]

    def kept(self, reply: str) -> bool:
        """Whether a reply keeps to it. An empty reply keeps to none."""
        return bool(reply.strip()) and CHECKS[self.name][0](reply, **self.parameters)


@dataclass(frozen=True)
class Verdict:
    """Which instructions of a row were kept, by each of the two readings."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def instructions(row: Mapping[str, Any]) -> list[Instruction]:
    """The instructions of a row with `prompt`, `instruction_id_list` and `kwargs` (parameters that are null count as
    absent). Raises `LuhuoError` for an unknown instruction, or one whose parameters are missing or of a wrong type."""
    names, given = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list) or not isinstance(given, list) or not names or len(names) != len(given):
        raise LuhuoError(
            tr("This row has no instructions to check.", "这一行没有可检查的指令。"),
            expected="instruction_id_list, kwargs",
            found=", ".join(map(str, row)),
            where=row.get("key"),
        )
    return [_instruction(str(name), values or {}, row) for name, values in zip(names, given, strict=True)]


def _instruction(name: str, values: Mapping[str, Any], row: Mapping[str, Any]) -> Instruction:
    if name not in CHECKS:
        raise unknown_key(name, list(CHECKS), str(row.get("key", "")), tr("instruction", "指令"))
    wanted = CHECKS[name][1]
    known = {key: value for key, value in values.items() if value is not None}
    if "prompt_to_repeat" in wanted:
        known.setdefault("prompt_to_repeat", row.get("prompt"))
    parameters = {key: _read(known.get(key), kind) for key, kind in wanted.items()}
    wrong = [key for key, value in parameters.items() if value is None]
    if wrong:
        raise LuhuoError(
            tr(f"The instruction {name} lacks a parameter.", f"指令 {name} 缺少参数。"),
            expected=", ".join(f"{key}: {_kind(wanted[key])}" for key in wrong),
            found=dict(values),
            where=row.get("key"),
        )
    return Instruction(name, parameters)


def _read(value: Any, kind: Any) -> Any:
    """The value if it is of the kind, a whole number also as a float; else None."""
    if kind == "r":
        return value if value in RELATIONS else None
    if kind is int:
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)
        return int(value) if whole else None
    if kind is list:
        return value if isinstance(value, list) and all(isinstance(one, str) and one for one in value) else None
    return value if isinstance(value, str) and value.strip() else None


def _kind(kind: Any) -> str:
    return " | ".join(RELATIONS) if kind == "r" else kind.__name__


def judge(wanted: Iterable[Instruction], reply: str) -> Verdict:
    """Strictly: the reply as it is. Loosely: any of its eight variants."""
    listed, readings = list(wanted), variants(reply)
    strict = tuple(one.kept(reply) for one in listed)
    loose = tuple(known or any(map(one.kept, readings)) for one, known in zip(listed, strict, strict=True))
    return Verdict(strict, loose)


def variants(reply: str) -> list[str]:
    """The reply; without its first line, its last line, both; and each of these without asterisks: what a model says
    around its answer ("Sure, here it is:") and Markdown are not held against it."""
    lines = reply.split("\n")
    cut = [reply, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def four_numbers(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Shares of prompts with every instruction kept and of all instructions kept (pooled over prompts, no mean of
    means), read strictly and loosely. Raises ValueError without verdicts."""
    rows = list(verdicts)
    if not rows:
        raise ValueError("there are no verdicts")
    found = {}
    for name in ("strict", "loose"):
        kept = [getattr(row, name) for row in rows]
        found[f"prompt_{name}"] = sum(map(all, kept)) / len(kept)
        found[f"instruction_{name}"] = sum(map(sum, kept)) / sum(map(len, kept))
    return found
