"""Dialogue items of all families for one split."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from luhuo.core.seeds import derive_seed
from luhuo.world import chat_turns, families_reading, families_skill
from luhuo.world.facts import World
from luhuo.world.items import Draft, Family, Maker, exact

FAMILIES: dict[str, Family] = {**families_reading.FAMILIES, **families_skill.FAMILIES}
LANGUAGES = ("en", "zh")


def record(draft: Draft, family: str, lang: str, name: str) -> dict[str, Any]:
    """The item as it is written."""
    return {
        "id": name,
        "family": family,
        "lang": lang,
        "messages": [{"role": "user", "content": draft.prompt}],
        "answer": draft.answer,
        "response": draft.response or draft.answer,
        "check": draft.check,
        "chance": round(draft.chance, 4),
        "entities": draft.entities,
        "template": draft.template,
    }


def items(seed: int, name: str, world: World, train: World, count: int) -> Iterator[dict[str, Any]]:
    """`count` items, families and languages in turn; closed-book questions are about the train world.

    Prompts do not repeat within a file unless a family has run out of new ones.
    """
    seen: set[str] = set()
    makers = {
        (family, lang): Maker(
            train if family == "closed_book" else world,
            lang,
            world.split,
            random.Random(derive_seed(seed, name, family, lang)),
        )
        for family in FAMILIES
        for lang in LANGUAGES
    }
    order = [(family, lang) for family in FAMILIES for lang in LANGUAGES]
    for number in range(count):
        family, lang = order[number % len(order)]
        draft = FAMILIES[family](makers[family, lang])
        for _ in range(20):
            if draft.prompt not in seen:
                break
            draft = FAMILIES[family](makers[family, lang])
        seen.add(draft.prompt)
        yield record(draft, family, lang, f"{name}-{number:06d}")


def chat(name: str, repeat: int) -> Iterator[dict[str, Any]]:
    """The hand-written conversations, each `repeat` times."""
    for copy in range(repeat):
        for number, turns in enumerate(chat_turns.conversations()):
            *before, answer = turns
            roles = ("user", "assistant")
            lang = "zh" if any("一" <= c <= "鿿" for c in turns[0]) else "en"
            draft = Draft("", answer, exact(answer), 0.0, f"chat.{lang}.{number}", [])
            row = record(draft, "chat", lang, f"{name}-chat-{copy}-{number:04d}")
            row["messages"] = [{"role": roles[i % 2], "content": text} for i, text in enumerate(before)]
            yield row
