"""Events rendered from schemas: slots are bound once, then the same facts are told in English and in Chinese."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from luhuo.world import lexicon_places, scenes_home, scenes_land, scenes_people, scenes_town, scenes_wonder
from luhuo.world.facts import Person, Town, World, person_forms, town_forms
from luhuo.world.template import Forms, fill, slots
from luhuo.world.words import (
    DEEDS,
    FEELINGS,
    HOBBIES,
    ITEMS,
    MISHAPS,
    NOUNS,
    Noun,
    Pair,
    action_forms,
    adjective,
    capital,
    chinese_number,
    english_number,
    noun_forms,
    pairs,
)

GROUPS = {
    "item": ITEMS,
    "food": (*NOUNS["dish"], *NOUNS["snack"], *NOUNS["fruit"]),
    "animal": (*NOUNS["pet"], *NOUNS["farmanimal"]),
    "plant": (*NOUNS["flower"], *NOUNS["tree"]),
}
BOTHERS = pairs(
    "the neighbours sang all night=邻居唱了一夜的歌; a shutter kept banging=窗板响个不停; the dogs barked at the moon=狗对着月亮叫; of a sore tooth=牙疼; of the heat=天太热; "
    "the bed was too short=床太短; a mosquito would not give up=有只蚊子不肯罢休; of a bad dream=做了个噩梦; the baby next door was teething=隔壁的娃娃在长牙; of too much tea=茶喝多了; "
    "the wind rattled the roof=风吹得屋顶直响; of an unpaid bill=有笔账没还; a letter had upset everyone=一封信让人心烦; of the examination=要考试了"
)
SPOTS, SEASONS = pairs(lexicon_places.SPOTS), pairs(lexicon_places.SEASONS)
WEEKDAYS, MONTHS = pairs(lexicon_places.WEEKDAYS), pairs(lexicon_places.MONTHS)
MONTHS_OF = {season.en: [MONTHS[(2 + 3 * i + k) % 12] for k in range(3)] for i, season in enumerate(SEASONS)}
WEATHER = {season.en: pairs(lexicon_places.WEATHER[season.en]) for season in SEASONS}
LINKS = {
    "en": (
        "Then ",
        "After that ",
        "In the end ",
        "Later ",
        "At that moment ",
        "Meanwhile ",
        "As it happened, ",
        "To everyone's surprise, ",
        "Soon afterwards ",
        "Not much later ",
    ),
    "zh": (
        "后来，",
        "接着，",
        "这时，",
        "不久，",
        "谁知道，",
        "就在这时候，",
        "没想到，",
        "过了一阵子，",
        "第二天，",
        "说来也巧，",
    ),
}


LINKABLE = ("{a} ", "{b} ", "They ", "{a}", "{b}", "他们", "两人")
"""Sentences that start like this, and so with no time of their own, may follow a link."""


@dataclass(frozen=True)
class Beat:
    """One sentence of a schema in both languages."""

    en: str
    zh: str
    optional: bool


@cache
def schemas() -> tuple[tuple[Beat, ...], ...]:
    """All event schemas."""
    out = []
    for table in (scenes_home, scenes_town, scenes_land, scenes_people, scenes_wonder):
        for block in table.SCENES.strip().split("\n\n"):
            beats = []
            for line in block.splitlines():
                en, zh = line.split(" // ")
                beats.append(Beat(en.lstrip("?"), zh, line.startswith("?")))
            out.append(tuple(beats))
    return tuple(out)


class Binding:
    """The slots of one text: people and the town are given, everything else is drawn when first named."""

    def __init__(self, world: World, rng: random.Random, cast: list[Person], town: Town, season: str) -> None:
        self.world, self.rng, self.season = world, rng, season
        self.en: dict[str, Forms] = {}
        self.zh: dict[str, Forms] = {}
        for slot, person in zip("abc", cast, strict=False):
            self.en[slot], self.zh[slot] = person_forms(person)
        self.en["town"], self.zh["town"] = town_forms(town)

    def bind(self, *templates: str) -> None:
        """Draw a value for every slot of the templates that has none yet."""
        for template in templates:
            for slot in slots(template):
                if slot not in self.en:
                    self.en[slot], self.zh[slot] = self._draw(slot)

    def drop(self) -> None:
        """Forget everything but people and town, before the next event."""
        keep = ("a", "b", "c", "town")
        self.en = {k: v for k, v in self.en.items() if k in keep}
        self.zh = {k: v for k, v in self.zh.items() if k in keep}

    def _draw(self, slot: str) -> tuple[Forms, Forms]:
        rng = self.rng
        kind = slot.rstrip("23").removesuffix("two").removesuffix("three")
        if kind in GROUPS or kind in NOUNS:
            noun = rng.choice(GROUPS.get(kind) or NOUNS[kind])
            return noun_forms(noun, adjective(noun, rng))
        if kind in ("act", "mishap"):
            return action_forms(rng, DEEDS if kind == "act" else MISHAPS)
        if kind == "minute":
            minute = rng.randint(2, 58)
            return {"": english_number(minute)}, {"": chinese_number(minute)}
        if kind == "price":
            price = rng.randint(3, 99)
            return {"": rng.choice((str(price), english_number(price)))}, {
                "": rng.choice((str(price), chinese_number(price)))
            }
        if kind == "place":
            return town_forms(rng.choice(self.world.towns))
        choices: dict[str, tuple[Pair, ...]] = {
            "spot": SPOTS, "bother": BOTHERS, "good": FEELINGS["good"], "bad": FEELINGS["bad"], "hobby": HOBBIES,
            "weekday": WEEKDAYS, "month": MONTHS, "weather": WEATHER[self.season],
        }  # fmt: skip
        pair = rng.choice(choices[kind])
        return {"": pair.en}, {"": pair.zh}

    def say(self, lang: str, template: str) -> str:
        """Render one sentence."""
        text = fill(template, self.en if lang == "en" else self.zh, self.rng)
        return capital(text) if lang == "en" else text


def event(binding: Binding, schema: tuple[Beat, ...], langs: tuple[str, ...]) -> dict[str, list[str]]:
    """Tell one event: {language: sentences}; the same optional beats are told in every language."""
    rng = binding.rng
    out: dict[str, list[str]] = {lang: [] for lang in langs}
    for number, beat in enumerate(schema):
        if beat.optional and rng.random() < 0.5:
            continue
        binding.bind(beat.en, beat.zh)
        linked = number > 0 and rng.random() < 0.3
        links = {lang: rng.choice(LINKS[lang]) for lang in langs}
        for lang in langs:
            template = beat.en if lang == "en" else beat.zh
            if linked and template.startswith(LINKABLE):
                template = links[lang] + template[0].lower() + template[1:]
            out[lang].append(binding.say(lang, template))
    return out


def noun_group(kind: str) -> tuple[Noun, ...]:
    """The nouns of a class or group."""
    return GROUPS.get(kind) or NOUNS[kind]
