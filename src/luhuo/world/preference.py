"""Preference pairs: the gold reply against one with a labelled defect, balanced in length over the set."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from luhuo.world.facts import World
from luhuo.world.words import GOODS

Item = dict[str, Any]
REFUSALS = {
    "en": (
        "I cannot help with that.",
        "Sorry, no.",
        "I will not answer this question, because it may be unsafe.",
        "No comment.",
    ),
    "zh": ("这个我不能帮忙。", "抱歉，不行。", "这个问题可能不安全，所以我不会回答。", "无可奉告。"),
}
WRAPS = {
    "en": ("{}", "The answer is: {}", "Answer: {}", "It is this: {}", "Here is the answer to your question: {}"),
    "zh": ("{}", "答案是：{}", "答：{}", "是这样的：{}", "你问的问题，答案如下：{}"),
}


def _wrong_number(item: Item, rng: random.Random, world: World) -> str | None:
    found = list(re.finditer(r"\d+", item["response"]))
    if not found:
        return None
    last = found[-1]
    value = int(last[0]) + rng.choice((-3, -2, -1, 1, 2, 3, 10))
    return item["response"][: last.start()] + str(abs(value) if value != 0 else 4) + item["response"][last.end() :]


def _wrong_entity(item: Item, rng: random.Random, world: World) -> str | None:
    if item["family"] not in (
        "reading_person",
        "reading_place",
        "comparison",
        "kinship",
        "closed_book",
        "reading_thing",
    ):
        return None
    if item["family"] == "reading_thing":
        noun = rng.choice(GOODS)
        other = noun.zh if item["lang"] == "zh" else noun.en
    else:
        source = world.towns if item["family"] == "reading_place" else world.people
        name = rng.choice(source).name
        other = name.zh if item["lang"] == "zh" else name.en
    return None if other in item["response"] else _exchanged(item, other)


def _wrong_language(item: Item, rng: random.Random, world: World) -> str | None:
    noun, person = rng.choice(GOODS), rng.choice(world.people).name
    if item["family"] in ("reading_person", "comparison", "kinship"):
        return _exchanged(item, person.en if item["lang"] == "zh" else person.zh)
    if item["family"] in ("reading_thing", "translate_en_zh", "translate_zh_en"):
        chinese = any("一" <= c <= "鿿" for c in item["answer"])
        return _exchanged(item, noun.en if chinese else noun.zh)
    return None


def _exchanged(item: Item, other: str) -> str:
    """The gold reply with something else where it says the answer for the last time."""
    before, _, after = item["response"].rpartition(item["answer"])
    return before + other + after


def _broken_format(item: Item, rng: random.Random, world: World) -> str | None:
    text = item["response"]
    if item["check"]["kind"] == "json":
        return (
            text.replace("{", "").replace('"', "", 3) if rng.random() < 0.5 else "JSON " + text.replace(":", " is", 2)
        )
    if item["check"]["kind"] == "rules":
        broken = text.lower() if text.isupper() else text.replace("- ", "* ").replace("\n", "; ")
        return broken if broken != text else f"{text} {text.split(',')[0]}"
    return None


def _truncation(item: Item, rng: random.Random, world: World) -> str | None:
    text = item["response"]
    return text[: max(1, len(text) * rng.randint(3, 6) // 10)].rstrip() if len(text) >= 4 else None


def _repetition(item: Item, rng: random.Random, world: World) -> str | None:
    return (" " if item["lang"] == "en" else "").join([item["response"]] * rng.randint(2, 4))


def _wrong_refusal(item: Item, rng: random.Random, world: World) -> str | None:
    return rng.choice(REFUSALS[item["lang"]])


DEFECTS: dict[str, Callable[[Item, random.Random, World], str | None]] = {
    "wrong_number": _wrong_number,
    "wrong_entity": _wrong_entity,
    "wrong_language": _wrong_language,
    "broken_format": _broken_format,
    "truncation": _truncation,
    "repetition": _repetition,
    "wrong_refusal": _wrong_refusal,
}


def pairs(items: Iterable[Item], world: World, count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """`count` pairs. Wrapping one side in an announcing phrase keeps "rejected is longer" as frequent as shorter.

    The JSON, rules and sequence families are never wrapped: there the wrapping itself would be a defect.
    """
    longer, made = 0, 0
    used = Counter[str]()
    for item in items:
        if made == count:
            return
        for name in sorted(DEFECTS, key=lambda defect: (used[defect], rng.random())):
            rejected = DEFECTS[name](item, rng, world)
            if rejected is not None and rejected != item["response"]:
                break
        else:
            continue
        chosen, rejected = _balance(item, rejected, longer, rng)
        if len(chosen) == len(rejected):
            continue
        longer += 1 if len(rejected) > len(chosen) else -1
        made += 1
        used[name] += 1
        yield {
            "prompt": item["messages"],
            "chosen": chosen,
            "rejected": rejected,
            "defect": name,
            "family": item["family"],
            "lang": item["lang"],
        }


def _balance(item: Item, rejected: str, longer: int, rng: random.Random) -> tuple[str, str]:
    """Wrap the sides so that the running difference of longer and shorter rejections goes to zero."""
    chosen = item["response"]
    if item["check"]["kind"] in ("json", "rules", "sequence", "set"):
        return chosen, rejected
    wraps = WRAPS[item["lang"]]
    tries = [(rng.choice(wraps).format(chosen), rng.choice(wraps).format(rejected)) for _ in range(6)]
    want_longer = longer < 0 or (longer == 0 and rng.random() < 0.5)
    fitting = [t for t in tries if len(t[0]) != len(t[1]) and (len(t[1]) > len(t[0])) == want_longer]
    return fitting[0] if fitting else tries[0]
