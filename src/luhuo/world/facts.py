"""The facts of one world: countries, towns, people with kin, jobs and homes. Every text is rendered from them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from luhuo.core.seeds import derive_seed
from luhuo.world import lexicon_places, names
from luhuo.world.words import HOBBIES, JOBS, NOUNS, SUBJECTS, TRAITS, Noun, Pair, pairs

YEAR = 1990
"""The present of the world."""

SIZES = {"train": (2400, 300, 60), "valid": (400, 60, 20), "test": (900, 110, 30)}
"""People, towns and countries of each split."""


@dataclass
class Town:
    """A town and what an encyclopaedia says of it."""

    name: Pair
    country: Pair
    river: Pair
    hill: Pair
    school: Pair
    product: Pair
    festival: Pair
    landmark: Pair
    people: int
    founded: int
    neighbour: Town | None = None
    distance: int = 0


@dataclass
class Person:
    """A person of the world."""

    name: Pair
    female: bool
    born: int
    job: Pair
    town: Town
    hobby: Pair
    trait: Pair
    subject: Pair
    food: Noun
    pet: Noun
    pet_count: int
    spouse: Person | None = None
    parents: list[Person] = field(default_factory=list)
    children: list[Person] = field(default_factory=list)

    @property
    def age(self) -> int:
        """Age in years in the present of the world."""
        return YEAR - self.born


@dataclass
class World:
    """One split's part of the world; names never occur in another split."""

    split: str
    towns: list[Town]
    people: list[Person]
    famous: list[Person]
    """A few people (and `towns[:40]`) that pages speak of often: what closed-book questions ask about."""


def build(seed: int, split: str) -> World:
    """The world of a split, from one seed."""
    rng = random.Random(derive_seed(seed, "facts", split))
    count, town_count, country_count = SIZES[split]
    towns = _towns(rng, split, town_count, country_count)
    people = _people(rng, split, count, towns)
    return World(split, towns, people, people[:40])


def _towns(rng: random.Random, split: str, count: int, countries: int) -> list[Town]:
    nations = names.draw(names.country_names(split), countries, rng)
    rivers, hills, schools = (names.nature_names(split, k) for k in ("river", "hill", "school"))
    products, festivals, landmarks = (
        pairs(t) for t in (lexicon_places.PRODUCTS, lexicon_places.FESTIVALS, lexicon_places.BUILDINGS)
    )
    towns = []
    for name in names.draw(names.town_names(split), count, rng):
        place = [rng.choice(options) for options in (nations, rivers, hills, schools, products, festivals, landmarks)]
        towns.append(Town(name, *place, people=rng.randint(4, 980) * 100, founded=rng.randint(900, 1900)))
    for town in towns:
        town.neighbour = rng.choice([other for other in towns if other is not town])
        town.distance = rng.randint(3, 95)
    return towns


def _people(rng: random.Random, split: str, count: int, towns: list[Town]) -> list[Person]:
    people = []
    for gender in ("f", "m"):
        for name in names.draw(names.person_names(split, gender), count // 2, rng):
            people.append(
                Person(
                    name,
                    gender == "f",
                    YEAR - rng.randint(8, 78),
                    job=rng.choice(JOBS),
                    town=rng.choice(towns),
                    hobby=rng.choice(HOBBIES),
                    trait=rng.choice(TRAITS),
                    subject=rng.choice(SUBJECTS),
                    food=rng.choice(NOUNS[rng.choice(("dish", "snack", "fruit"))]),
                    pet=rng.choice(NOUNS["pet"]),
                    pet_count=rng.randint(1, 4),
                )
            )
    rng.shuffle(people)
    _marry(rng, people)
    return people


def _marry(rng: random.Random, people: list[Person]) -> None:
    women = [p for p in people if p.female and p.age >= 30]
    men = [p for p in people if not p.female and p.age >= 30]
    young = [p for p in people if p.age < 30]
    for wife, husband in zip(women, men, strict=False):
        wife.spouse, husband.spouse = husband, wife
        for child in rng.sample(young, min(3, len(young))):
            if not child.parents and min(wife.age, husband.age) - child.age in range(18, 45):
                child.parents = [wife, husband]
                wife.children.append(child)
                husband.children.append(child)
                child.town = wife.town


def person_forms(person: Person) -> tuple[dict[str, str], dict[str, str]]:
    """The slot forms of a person: "", he, him, his, himself, job, man; the same in Chinese."""
    female = person.female
    en = {"": person.name.en, "job": person.job.en, "trait": person.trait.en}
    en |= dict(
        zip(
            ("he", "him", "his", "himself", "man"),
            ("she her her herself woman" if female else "he him his himself man").split(),
            strict=True,
        )
    )
    he = "她" if female else "他"
    zh = {
        "": person.name.zh,
        "he": he,
        "him": he,
        "his": he + "的",
        "himself": he + "自己",
        "man": "女人" if female else "男人",
    }
    return en, zh | {"job": person.job.zh, "trait": person.trait.zh}


def town_forms(town: Town) -> tuple[dict[str, str], dict[str, str]]:
    """The slot forms of a town: "", river, hill, country, school, product, landmark, festival."""
    parts = ("country", "river", "hill", "school", "product", "festival", "landmark")
    en = {"": town.name.en} | {part: getattr(town, part).en for part in parts}
    en |= {"river": "the " + town.river.en, "festival": "the " + town.festival.en}
    return en, {"": town.name.zh} | {part: getattr(town, part).zh for part in parts}
