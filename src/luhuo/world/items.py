"""What a dialogue item is, and the tools shared by its families."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
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
    """The gold reply where it is more than the answer: the sentence that holds it, or the steps that lead to it."""
    before: list[tuple[str, str]] = field(default_factory=list)
    """Earlier exchanges of the conversation: (what was asked, the gold reply)."""

    @property
    def opening(self) -> str:
        """What the user says first."""
        return self.before[0][0] if self.before else self.prompt

    @property
    def gold(self) -> str:
        """What a good assistant says."""
        return self.response or self.answer


OPENERS = {
    "en": ("Quick question: ", "Hello! ", "Please: ", "Now this: ", "Next: ", "One more: ", "Well: ", "I ask you: "),
    "zh": ("小问题：", "你好！", "麻烦你：", "再来：", "下一题：", "还有：", "我问你：", "我想请教：", "照这样看，"),
}
"""Words before a question of training now and then: what is asked does not depend on how one begins to speak."""


@dataclass(frozen=True)
class Maker:
    """The world, language and split an item is made for."""

    world: World
    lang: str
    split: str
    rng: random.Random
    turns: int = 1
    """Most questions asked of one passage, one after another."""

    @property
    def zh(self) -> bool:
        """Whether the item is in Chinese."""
        return self.lang == "zh"

    def pick(self, templates: dict[str, dict[str, tuple[str, ...]]], name: str) -> tuple[str, str]:
        """(template id, template): the last three templates of every list are never used outside the test split."""
        options = templates[name][self.lang]
        held = len(options) - 3
        number = self.rng.randrange(held, len(options)) if self.split == "test" else self.rng.randrange(held)
        opener = self.rng.choice(OPENERS[self.lang]) if self.split != "test" and self.rng.random() < 0.3 else ""
        return f"{name}.{self.lang}.{number}", opener + options[number]

    def fill(self, template: str, **values: str | int) -> str:
        """Fill plain slots."""
        forms: dict[str, Forms] = {key: {"": str(value)} for key, value in values.items()}
        return fill(template, forms, self.rng)

    def size(self) -> int:
        """How many people or things a passage names: two or three; some more where several questions are asked."""
        return self.rng.choice((2, 3) if self.turns == 1 else (2, 3, 4))

    def order(self, count: int) -> list[int]:
        """Which of `count` things are asked about, in which order."""
        return self.rng.sample(range(count), min(count, self.turns))

    def mine(self, key: str) -> bool:
        """Whether a combination (of operands, of words) belongs to this split."""
        return split_of(key) == self.split


@dataclass
class Exchange:
    """One question about a passage, with its gold reply."""

    question: str
    answer: str
    check: dict[str, Any]
    reply: str
    template: str


def conversation(opening: str, exchanges: list[Exchange], chance: float, entities: list[str]) -> Draft:
    """The item that asks the last of the exchanges, after the others; `opening` is the first prompt."""
    prompts = [opening, *(exchange.question for exchange in exchanges[1:])]
    before = [(prompt, e.reply) for prompt, e in zip(prompts, exchanges[:-1], strict=False)]
    last = exchanges[-1]
    return Draft(prompts[-1], last.answer, last.check, chance, last.template, entities, last.reply, before)


def announced(answer: str, zh: bool, steps: str = "") -> str:
    """A reply whose last words are the answer, after the steps that lead to it."""
    return f"{steps}答案：{answer}" if zh else f"{steps} Answer: {answer}".lstrip()


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
