"""Finding the answer inside a reply, for English and Chinese alike.

The rule is strict on purpose: an answer is the whole reply, or what follows the last announcement
("Answer:", "The answer is", 答案：, 答案是). A reply that merely mentions the right name
among others has not answered.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from luhuo.verify.numerals import numbers

_ANNOUNCEMENT = re.compile(
    r"(?:\b(?:the\s+)?(?:final\s+)?answer(?:\s+is\b\s*:?|\s*:)|(?:答案|回答)(?:是|为)?\s*:|答案(?:是|为))", re.I
)
_ARTICLE = re.compile(r"^(?:a|an|the)\s+", re.I)
_HAN_SPACE = re.compile(r"(?<=[\u3400-\u9fff])\s+(?=[\u3400-\u9fff])")
_SEPARATOR = re.compile(r"\s*(?:[,、;\n]|->|=>|→|\band\b|以及|和|与)\s*", re.I)
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)](?=\s|\D))\s*")
_FENCE = re.compile(r"^```[a-zA-Z]*\s*\n(.*?)\n?```$", re.S)
_LETTER = re.compile(r"^[(\[]?([A-Z])(?:[)\].:、。,]|$)", re.S)
_CHOSEN = re.compile(r"(?:选择?|选项|故选|应选|choose|choice is|option)\s*[:是]?\s*[(\[]?([A-Z])(?![A-Za-z])", re.I)


def normalise(text: str) -> str:
    """The form in which answers are compared: NFKC, no case, outer punctuation or leading article."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _HAN_SPACE.sub("", " ".join(text.split()))
    text = strip_punctuation(text)
    return strip_punctuation(_ARTICLE.sub("", text))


def strip_punctuation(text: str) -> str:
    """Remove punctuation and spaces at both ends (a minus sign before a digit stays)."""
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]) and not re.match(r"[-+.]\d", text[start:]):
        start += 1
    while end > start and _is_edge(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_edge(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] == "P" or character in "`~$"


def announced(text: str) -> str | None:
    """What follows the last announcement of an answer, up to the end of its line; None without an announcement."""
    matches = list(_ANNOUNCEMENT.finditer(unicodedata.normalize("NFKC", text)))
    if not matches:
        return None
    rest = unicodedata.normalize("NFKC", text)[matches[-1].end() :].strip()
    return rest.split("\n", 1)[0]


def short_answers(text: str) -> list[str]:
    """The normalised strings a reply may be compared with: the whole reply and the announced answer."""
    found = [normalise(text)]
    rest = announced(text)
    if rest is not None:
        found.append(normalise(rest))
    return [f for f in found if f]


def last_number(text: str) -> float | None:
    """The number a reply ends on: the last one after an announcement, else the last one of the whole reply."""
    for part in (announced(text), text):
        found = list(numbers(part)) if part else []
        if found:
            return found[-1]
    return None


def items(text: str) -> list[str]:
    """The normalised members of a listing, split at commas, 、, semicolons, arrows, lines, "and", 和, else spaces."""
    body = unicodedata.normalize("NFKC", announced(text) or text).strip()
    lines = [_BULLET.sub("", line) for line in body.splitlines()]
    parts = [p for line in lines for p in _SEPARATOR.split(line)]
    members = [m for m in map(normalise, parts) if m]
    if len(members) == 1 and " " in members[0]:
        members = members[0].split()
    return members


def json_value(text: str) -> tuple[Any, bool]:
    """(value, True) if the reply is one JSON value, bare or in a code fence; (None, False) otherwise."""
    body = text.strip()
    fenced = _FENCE.match(body)
    try:
        return json.loads(fenced[1] if fenced else body), True
    except (ValueError, RecursionError):
        return None, False


def choice_letter(text: str, options: list[str]) -> str | None:
    """The option letter a reply settles on, or None where it names none or several; never a guess."""
    letters = [chr(ord("A") + i) for i in range(len(options))]
    body = unicodedata.normalize("NFKC", text).strip()
    said = set(short_answers(text))
    by_text = [
        letter
        for letter, option in zip(letters, options, strict=True)
        if said & {normalise(option), normalise(f"{letter} {option}")}
    ]
    if len(by_text) == 1:
        return by_text[0]
    for part in (announced(text), body):
        match = _LETTER.match(part.strip().upper() if part and len(part.strip()) <= 2 else (part or "").strip())
        if match and match[1] in letters and not _several(part or "", letters):
            return match[1]
    chosen = {m.upper() for m in _CHOSEN.findall(body)} & set(letters)
    return chosen.pop() if len(chosen) == 1 else None


def _several(text: str, letters: list[str]) -> bool:
    """Whether a reply names more than one option letter ("A, B", "A or C", "A/B")."""
    named = re.findall(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'])", text)
    return len({n for n in named if n in letters}) > 1
