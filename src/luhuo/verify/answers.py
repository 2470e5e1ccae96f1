"""Where a reply states its answer: after the reasoning, in tags, in a box, after a marker or an announcement.

Two readings of every reply. The *strict* one takes the place where an answer is stated and nothing else; the
*lenient* one takes the answer from anywhere in the reply. Both are reported, because what looks like learning is
often only the format being learned: a model that solved half of its problems all along and says so in another form
gains under strict reading and not under lenient reading.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from luhuo.verify import extraction

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BOXES = 20
"""Boxes at a reply's end of which the last whole one is looked for, so that no reply takes long."""
_MARKER = re.compile(r"^\s*####\s*(.+?)\s*$", re.M)


@dataclass(frozen=True)
class Match:
    """Is a reply right, read strictly and leniently; `parsed`: whether the strict reading found an answer at all."""

    strict: bool
    lenient: bool
    parsed: bool


def split_reasoning(text: str, tag: str = "think") -> tuple[str, str]:
    """(reasoning, what is said after it). Reasoning that was begun and never ended leaves nothing said.

    The opening tag may be missing, because chat templates put it at the end of the prompt.
    """
    reasoning, closed, said = text.rpartition(f"</{tag}>")
    if closed:
        return reasoning.removeprefix(f"<{tag}>").strip(), said.strip()
    opened = text.partition(f"<{tag}>")
    return (opened[2].strip(), opened[0].strip()) if opened[1] else ("", text.strip())


def tagged(text: str, tag: str) -> list[str]:
    """What stands between <tag> and </tag>, each time; an opening tag inside starts anew."""
    return [part.strip() for part in re.findall(rf"<{tag}>((?:(?!<{tag}>).)*?)</{tag}>", text, re.S)]


def boxed(text: str) -> str | None:
    r"""The content of the last \boxed{…} whose braces are balanced; None without one."""
    for match in list(_BOX.finditer(text))[: -_BOXES - 1 : -1]:
        depth = 1
        for place in range(match.end(), len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if not depth:
                return text[match.end() : place].strip()
    return None


def stated(text: str) -> str | None:
    r"""The answer a reply states: the one <answer>, the last \boxed, the last `####` line or announcement, in this
    order; None where it states none, or several <answer>s."""
    said = split_reasoning(text)[1]
    in_tags = tagged(said, "answer")
    if len(in_tags) > 1:
        return None
    said = in_tags[0] if in_tags else said
    box = boxed(said)
    if box is not None:
        return box
    marked = _MARKER.findall(said)
    if marked:
        return marked[-1]
    rest = extraction.announced(said)
    return rest if rest is not None else (said if in_tags else None)


def match_exact(text: str, accepted: list[str]) -> Match:
    """Strictly: the stated answer, or the whole reply, equals one of `accepted` after normalisation.
    Leniently: one of them stands somewhere in what is said after the reasoning, as whole words."""
    said = split_reasoning(text)[1]
    wanted = {extraction.normalise(answer) for answer in accepted} - {""}
    answer = stated(text)
    found = extraction.normalise(answer if answer is not None else said)
    parsed = bool(found)
    strict = found in wanted
    return Match(strict, strict or any(contains(said, answer) for answer in wanted), parsed)


def contains(text: str, phrase: str) -> bool:
    """Whether a normalised phrase stands in a text. Latin words and numbers must be whole; Chinese has no spaces."""
    body = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    body = re.sub(r"(?<=[\u3400-\u9fff])\s+(?=[\u3400-\u9fff])", "", body)
    left = r"(?<![^\W\u3400-\u9fff])" if re.match(r"[^\W\u3400-\u9fff]", phrase) else ""
    right = r"(?![^\W\u3400-\u9fff])" if re.search(r"[^\W\u3400-\u9fff]$", phrase) else ""
    return re.search(left + re.escape(phrase) + right, body) is not None
