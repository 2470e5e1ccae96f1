"""Scoring a reply against an item's check. One function a kind; the kinds are listed in `KINDS`."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.verify import extraction


@dataclass(frozen=True)
class Score:
    """`parsed` is False where no answer could be found in the reply: such a reply is wrong, and counted apart."""

    correct: bool
    parsed: bool


UNPARSED = Score(correct=False, parsed=False)


def score(item: Mapping[str, Any], text: str) -> Score:
    """Judge a reply by `item["check"]`. Raises `LuhuoError` if the check's kind is unknown or lacks a key."""
    check = item["check"]
    kind = check.get("kind")
    if kind not in KINDS:
        raise unknown_key(str(kind), list(KINDS), f"check of item {item.get('id')}", tr("kind of check", "检查类型"))
    if not text.strip():
        return UNPARSED
    try:
        return KINDS[kind](check, text)
    except KeyError as error:
        raise LuhuoError(
            tr(f"The check of kind “{kind}” lacks a key.", f"“{kind}” 类型的检查缺少键。"),
            expected=error.args[0],
            found=", ".join(check),
            where=item.get("id"),
        ) from None


def is_correct(item: Mapping[str, Any], text: str) -> bool:
    """Whether the reply passes the item's check."""
    return score(item, text).correct


def _exact(check: Mapping[str, Any], text: str) -> Score:
    """{"answers": [...]}: the whole reply, or the announced answer, equals one of them after normalisation."""
    found = extraction.short_answers(text)
    accepted = {extraction.normalise(answer) for answer in check["answers"]}
    return Score(any(f in accepted for f in found), parsed=bool(found))


def _number(check: Mapping[str, Any], text: str) -> Score:
    """{"value": N}: the number the reply ends on equals N (relative 1e-6)."""
    found = extraction.last_number(text)
    if found is None:
        return UNPARSED
    return Score(math.isclose(found, float(check["value"]), rel_tol=1e-6, abs_tol=1e-9), parsed=True)


def _set(check: Mapping[str, Any], text: str) -> Score:
    """{"values": [...]}: the members listed are exactly these, in any order; an extra one is wrong."""
    found = extraction.items(text)
    wanted = {extraction.normalise(str(value)) for value in check["values"]}
    return Score(set(found) == wanted, parsed=bool(found))


def _sequence(check: Mapping[str, Any], text: str) -> Score:
    """{"values": [...]}: exactly these members in this order."""
    found = extraction.items(text)
    return Score(found == [extraction.normalise(str(value)) for value in check["values"]], parsed=bool(found))


def _json(check: Mapping[str, Any], text: str) -> Score:
    """{"value": …}: the reply is one JSON value equal to this one; key order and 1 against 1.0 do not matter."""
    found, parsed = extraction.json_value(text)
    return Score(parsed and _same_json(found, check["value"]), parsed)


def _same_json(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_json(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_json, a, b))
    return a == b


def _choice(check: Mapping[str, Any], text: str) -> Score:
    """{"value": "B", "options": [...]}: the one option the reply names, by letter or by its text."""
    found = extraction.choice_letter(text, check["options"])
    return UNPARSED if found is None else Score(found == check["value"], parsed=True)


def _rules(check: Mapping[str, Any], text: str) -> Score:
    """{"rules": [...]}: the reply keeps every rule."""
    for rule in check["rules"]:
        if rule.get("kind") not in RULES:
            raise unknown_key(str(rule.get("kind")), list(RULES), None, tr("kind of rule", "规则类型"))
    return Score(all(RULES[rule["kind"]](rule, text.strip()) for rule in check["rules"]), parsed=True)


def _has_lines(rule: Mapping[str, Any], text: str) -> bool:
    return sum(bool(line.strip()) for line in text.splitlines()) == rule["count"]


def _is_uppercase(rule: Mapping[str, Any], text: str) -> bool:
    return text.isupper()


def _is_repeated(rule: Mapping[str, Any], text: str) -> bool:
    """The text `count` times and nothing else but spaces and punctuation between."""
    unit = re.escape(unicodedata.normalize("NFKC", rule["text"]))
    between = r"[\s,.;:!?、。'\"-]*"
    pattern = rf"{between}(?:{unit}{between}){{{int(rule['count'])}}}"
    return re.fullmatch(pattern, unicodedata.normalize("NFKC", text), re.I) is not None


def words(text: str) -> int:
    """Words of a text: a Chinese character counts as one, a run of other letters or digits as one."""
    return len(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff_]+(?:['’-][^\W\u3400-\u9fff_]+)*", text))


def _is_short(rule: Mapping[str, Any], text: str) -> bool:
    return 0 < words(text) <= rule["count"]


def _starts(rule: Mapping[str, Any], text: str) -> bool:
    return text.startswith(rule["text"])


def _contains(rule: Mapping[str, Any], text: str) -> bool:
    return rule["text"] in text


KINDS: dict[str, Callable[[Mapping[str, Any], str], Score]] = {
    "exact": _exact,
    "number": _number,
    "set": _set,
    "sequence": _sequence,
    "json": _json,
    "choice": _choice,
    "rules": _rules,
}
RULES: dict[str, Callable[[Mapping[str, Any], str], bool]] = {
    "lines": _has_lines,
    "uppercase": _is_uppercase,
    "repeat": _is_repeated,
    "max_words": _is_short,
    "starts_with": _starts,
    "contains": _contains,
}
