"""The template language: `[one|two|]` chooses, `{slot.form}` fills in, `<name>` is a list of synonyms."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

Forms = Mapping[str, str]
"""The forms of one slot: "" is the plain one, others are "a", "the", "he", "past", …"""

SYNONYMS = {
    "said": ("said", "answered", "replied", "told them", "called out", "said with a smile", "murmured", "explained"),
    "very": ("very", "really", "quite", "rather", "truly"),
    "soon": ("soon", "before long", "a little later", "within the hour", "by and by", "not long after"),
    "then": ("then", "after that", "next", "a moment later", "afterwards", "at last", "in the end"),
    "nobody": ("nobody", "no one", "not a soul"),
    "began": ("began to", "started to", "set out to"),
    "quickly": ("quickly", "at once", "without delay", "in a hurry", "right away"),
    "slowly": ("slowly", "carefully", "step by step", "without haste", "patiently"),
    "think": ("thought", "told {a.himself}", "decided", "was sure"),
    "evening": ("evening", "morning", "afternoon", "day", "night"),
    "说": ("说", "说道", "答道", "笑着说", "轻声说", "大声说", "解释说", "点点头说"),
    "很": ("很", "非常", "十分", "特别", "格外", "真的很"),
    "不久": ("不久", "很快", "过了一会儿", "没多久", "一小时之内", "转眼间"),
    "后来": ("后来", "接着", "然后", "随后", "最后", "终于", "片刻之后"),
    "没人": ("没有人", "谁也没", "没有一个人"),
    "赶紧": ("赶紧", "马上", "立刻", "连忙", "急忙", "毫不犹豫地"),
    "慢慢": ("慢慢地", "小心翼翼地", "一步一步地", "不慌不忙地", "耐心地"),
    "早晚": ("早上", "下午", "傍晚", "晚上", "中午"),
}

_TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|<[^>]*>|[^\[\]|{<]+|<")
_SLOT = re.compile(r"\{([a-z]+\d?)")


@cache
def parse(text: str) -> tuple[Any, ...]:
    """The template as nested parts: text, ("slot", name, form) or ("choice", options)."""
    tokens = _TOKEN.findall(text)
    position = 0

    def sequence(closing: bool) -> list[tuple[Any, ...]]:
        nonlocal position
        options: list[list[Any]] = [[]]
        while position < len(tokens):
            token = tokens[position]
            position += 1
            if token == "[":
                options[-1].append(("choice", tuple(sequence(True))))
            elif closing and token == "|":
                options.append([])
            elif closing and token == "]":
                break
            elif token[0] == "{":
                name, _, form = token[1:-1].partition(".")
                options[-1].append(("slot", name, form))
            elif token[0] == "<" and token[1:-1] in SYNONYMS:
                options[-1].append(("choice", tuple(parse(word) for word in SYNONYMS[token[1:-1]])))
            else:
                options[-1].append(token)
        return [tuple(option) for option in options]

    return sequence(False)[0]


@cache
def slots(text: str) -> tuple[str, ...]:
    """Names of the slots a template mentions, in order of first mention."""
    return tuple(dict.fromkeys(_SLOT.findall(text)))


def fill(text: str, forms: Mapping[str, Forms], rng: random.Random) -> str:
    """Render a template. Raises KeyError for a slot or form that does not exist (an error of the grammar)."""
    out: list[str] = []
    _render(parse(text), forms, rng.random, out)
    return "".join(out)


def _render(parts: tuple[Any, ...], forms: Mapping[str, Forms], draw: Any, out: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "slot":
            out.append(forms[part[1]][part[2]])
        else:
            options = part[1]
            _render(options[int(draw() * len(options))], forms, draw, out)
