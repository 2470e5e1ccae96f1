"""Dialogue items of all families for one split."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

from luhuo.core.seeds import derive_seed
from luhuo.world import chat_turns, families_reading, families_skill
from luhuo.world.facts import World
from luhuo.world.items import Draft, Family, Maker, exact

FAMILIES: dict[str, Family] = {**families_reading.FAMILIES, **families_skill.FAMILIES}
LANGUAGES = ("en", "zh")
SHARES = {
    "reading_person": 2, "reading_place": 2, "reading_thing": 2, "reading_number": 2, "page_lookup": 1,
    "comparison": 3, "kinship": 3, "choice": 2, "unanswerable": 2, "closed_book": 3,
    "addition_subtraction": 6, "word_problem": 3, "calendar": 4, "translate_en_zh": 6, "translate_zh_en": 6,
    "counting": 2, "ordering": 5, "format_following": 4,
}  # fmt: skip
"""How often each family comes among train dialogues: what is short or slow to learn more often."""
THOUGHT = ("addition_subtraction", "word_problem", "calendar", "counting", "comparison", "kinship")
"""Families whose gold reply works something out before it states the answer."""
THINK = {"en": "Think, then answer.", "zh": "先想，再回答。"}
"""What the system message of such an item says, so that a model can do both."""


def messages(turns: list[str]) -> list[dict[str, str]]:
    """Turns as messages, the user's first."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def record(draft: Draft, family: str, lang: str, name: str) -> dict[str, Any]:
    """The item as it is written."""
    turns = [*(turn for exchange in draft.before for turn in exchange), draft.prompt]
    return {
        "id": name,
        "family": family,
        "lang": lang,
        "messages": messages(turns),
        "answer": draft.answer,
        "response": draft.gold,
        "check": draft.check,
        "chance": round(draft.chance, 4),
        "entities": draft.entities,
        "template": draft.template,
    }


def items(seed: int, name: str, world: World, train: World, count: int, turns: int = 1) -> Iterator[dict[str, Any]]:
    """`count` items, families (by `SHARES` in train) and languages in turn.

    Closed-book questions are about the train world. Up to `turns` questions are asked about one passage; the
    item is the last of them, the others stand before it.
    Prompts do not repeat within a file unless a family has run out of new ones.
    """
    seen: set[str] = set()
    makers = {
        (family, lang): Maker(
            train if family == "closed_book" else world,
            lang,
            world.split,
            random.Random(derive_seed(seed, name, family, lang)),
            turns,
        )
        for family in FAMILIES
        for lang in LANGUAGES
    }
    shares = SHARES if world.split == "train" else dict.fromkeys(FAMILIES, 1)
    order = [(family, lang) for family in FAMILIES for lang in LANGUAGES for _ in range(shares[family])]
    for number in range(count):
        family, lang = order[number % len(order)]
        draft = FAMILIES[family](makers[family, lang])
        for _ in range(20):
            if draft.opening not in seen:
                break
            draft = FAMILIES[family](makers[family, lang])
        seen.add(draft.opening)
        yield record(draft, family, lang, f"{name}-{number:06d}")


def thoughts(seed: int, name: str, world: World, train: World, count: int) -> Iterator[dict[str, Any]]:
    """`count` items of the families that want thinking: the system message asks for it, and the gold reply is
    `<think>the steps</think>the answer`."""
    share = sum(SHARES[family] for family in THOUGHT) / sum(SHARES.values())
    source = items(seed, name, world, train, math.ceil(1.2 * count / share) + 400)
    found = (row for row in source if row["family"] in THOUGHT)
    for row in itertools.islice(found, count):
        told = [{"role": "system", "content": THINK[row["lang"]]}, *row["messages"]]
        yield row | {"messages": told, "response": f"<think>{row['response']}</think>{row['answer']}"}


NARROW = str.maketrans("！。？，", "!.?,")


def chat(name: str, repeat: int) -> Iterator[dict[str, Any]]:
    """The hand-written conversations, each `repeat` times, what the user says typed in another way each time."""
    for copy in range(repeat):
        for number, turns in enumerate(chat_turns.conversations()):
            *before, answer = turns
            before[::2] = [_typed(turn, copy) for turn in before[::2]]
            lang = "zh" if any("一" <= c <= "鿿" for c in turns[0]) else "en"
            draft = Draft("", answer, exact(answer), 0.0, f"chat.{lang}.{number}", [])
            row = record(draft, "chat", lang, f"{name}-chat-{copy}-{number:04d}")
            row["messages"] = messages(before)
            yield row


def _typed(text: str, way: int) -> str:
    """As written, without the last mark, or in small letters and narrow marks."""
    return (text, text.rstrip("！。？!.?"), text.lower().translate(NARROW))[way % 3]
