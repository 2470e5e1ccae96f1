"""What a dialogue item is, and the tools shared by its families."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from luhuo.world.facts import World
from luhuo.world.names import split_of
from luhuo.world.template import Forms, fill


@dataclass
class Draft:
    """An item before it gets its id and family."""

    prompt: str
    answer: str
    check: dict[str, Any]
    chance: float
    template: str
    entities: list[str]
    response: str = ""


@dataclass(frozen=True)
class Maker:
    """The world, language and split an item is made for."""

    world: World
    lang: str
    split: str
    rng: random.Random

    @property
    def zh(self) -> bool:
        """Whether the item is in Chinese."""
        return self.lang == "zh"

    def pick(self, templates: dict[str, dict[str, tuple[str, ...]]], name: str) -> tuple[str, str]:
        """(template id, template): the last three templates of every list are never used outside the test split."""
        options = templates[name][self.lang]
        held = len(options) - 3
        number = self.rng.randrange(held, len(options)) if self.split == "test" else self.rng.randrange(held)
        return f"{name}.{self.lang}.{number}", options[number]

    def fill(self, template: str, **values: str | int) -> str:
        """Fill plain slots."""
        forms: dict[str, Forms] = {key: {"": str(value)} for key, value in values.items()}
        return fill(template, forms, self.rng)

    def mine(self, key: str) -> bool:
        """Whether a combination (of operands, of words) belongs to this split."""
        return split_of(key) == self.split


Family = Callable[[Maker], Draft]


def exact(*answers: str) -> dict[str, Any]:
    """Any of these."""
    return {"kind": "exact", "answers": list(dict.fromkeys(answers))}


def number(value: int) -> dict[str, Any]:
    """The last number of the reply."""
    return {"kind": "number", "value": value}


def templates(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Parse blocks `name` / `en: a | b` / `zh: a | b` of question templates (` || ` separates them)."""
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    for block in text.strip().split("\n\n"):
        name, en, zh = block.split("\n")
        table[name] = {"en": tuple(en[4:].split(" || ")), "zh": tuple(zh[4:].split(" || "))}
    return table
