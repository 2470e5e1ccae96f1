"""Forms of words: English articles and plurals, Chinese measure words and numerals; parsed lexicon tables."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from luhuo.world import lexicon_actions, lexicon_people, lexicon_things


@dataclass(frozen=True)
class Noun:
    """A common noun with its price range in coins."""

    en: str
    plural: str
    zh: str
    measure: str
    kind: str
    low: int
    high: int
    mass: bool


@dataclass(frozen=True)
class Pair:
    """A word in both languages; `extra` is a measure word or empty."""

    en: str
    zh: str
    extra: str = ""


def article(phrase: str) -> str:
    """The phrase with "a" or "an"."""
    first = phrase.split()[0].lower()
    vowel = first[0] in "aeiou" and not first.startswith(("uni", "use", "eu", "one"))
    return f"an {phrase}" if vowel or first.startswith(("hour", "honest")) else f"a {phrase}"


def plural(word: str) -> str:
    """The regular plural of a noun phrase."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("tomato", "potato", "mango")) else "s")


def capital(sentence: str) -> str:
    """The sentence with its first letter in upper case, also behind an opening quotation mark."""
    at = 1 if sentence[:1] == '"' else 0
    return sentence[:at] + sentence[at : at + 1].upper() + sentence[at + 1 :]


DIGITS = "零一二三四五六七八九"
SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def english_number(n: int) -> str:
    """0 to 999 in words."""
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10] + (f"-{SMALL[n % 10]}" if n % 10 else "")
    return f"{SMALL[n // 100]} hundred" + (f" and {english_number(n % 100)}" if n % 100 else "")


def chinese_number(n: int) -> str:
    """0 to 999 in Chinese numerals."""
    if n < 10:
        return DIGITS[n]
    if n < 20:
        return "十" + (DIGITS[n % 10] if n % 10 else "")
    if n < 100:
        return DIGITS[n // 10] + "十" + (DIGITS[n % 10] if n % 10 else "")
    rest = n % 100
    tail = (
        "" if not rest else ("零" + DIGITS[rest] if rest < 10 else ("一" if rest < 20 else "") + chinese_number(rest))
    )
    return DIGITS[n // 100] + "百" + tail


def chinese_count(n: int) -> str:
    """A number before a measure word: 两 instead of 二."""
    return "两" if n == 2 else chinese_number(n)


def join_en(items: list[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def join_zh(items: list[str]) -> str:
    """ "甲、乙和丙"。"""
    return items[0] if len(items) == 1 else "、".join(items[:-1]) + "和" + items[-1]


@cache
def pairs(table: str) -> tuple[Pair, ...]:
    """Parse `en=zh/extra; …`."""
    out = []
    for entry in table.split(";"):
        en, _, zh = entry.strip().partition("=")
        word, _, extra = zh.partition("/")
        out.append(Pair(en, word, extra))
    return tuple(out)


@cache
def syllables(table: str) -> tuple[Pair, ...]:
    """Parse `Lin 林 Wang 王 …`, keeping the first of equal spellings."""
    parts = table.split()
    found: dict[str, Pair] = {}
    for en, zh in zip(parts[::2], parts[1::2], strict=True):
        found.setdefault(en, Pair(en, zh))
    return tuple(found.values())


def _nouns() -> dict[str, tuple[Noun, ...]]:
    classes: dict[str, tuple[Noun, ...]] = {}
    for block in lexicon_things.NOUNS.strip().split("\n\n"):
        head, body = block.split("\n", 1)
        kind, measure, low, high, countable = head.split()
        nouns = []
        for entry in body.replace("\n", " ").split(";"):
            en, _, zh = entry.strip().partition("=")
            name, _, many = en.partition("+")
            word, _, own = zh.partition("/")
            mass = countable == "mass"
            nouns.append(Noun(name, many or plural(name), word, own or measure, kind, int(low), int(high), mass))
        classes[kind] = tuple(nouns)
    classes["cow"] = tuple(n for n in classes["farmanimal"] if n.en in ("cow", "goat", "sheep"))
    blades = ("saw", "axe", "hoe", "sickle", "chisel", "pair of scissors", "pencil", "knife", "paper knife")
    classes["blade"] = tuple(n for kind in ("tool", "kitchen", "stationery") for n in classes[kind] if n.en in blades)
    for name, (sources, members) in USES.items():
        classes[name] = tuple(n for kind in sources for n in classes[kind] if n.en in members)
    return classes


USES = {
    "vessel": (("kitchen", "tool"), ("kettle", "pot", "pan", "bowl", "jar", "jug", "basket", "mixing bowl", "bucket")),
    "staple": (("material",), ("salt", "flour", "rice", "sugar", "honey", "oil", "vinegar")),
    "craft": (("material",), ("paper", "straw", "wax", "silk", "bamboo", "glass", "linen", "clay")),
}
"""Nouns by what they are good for: things that hold water, things a cook needs, things a lantern is made of."""
NOUNS = _nouns()
ITEMS = tuple(n for kind in ("treasure", "toy", "stationery", "clothing", "tool", "kitchen") for n in NOUNS[kind])
"""Things a person can lose, give or carry."""
GOODS = tuple(
    n for n in (*ITEMS, *NOUNS["fruit"], *NOUNS["vegetable"], *NOUNS["snack"], *NOUNS["flower"]) if " of " not in n.en
)
"""Things sold by the piece, with simple plurals."""
COLOURS = pairs(lexicon_things.COLOURS)
ADJECTIVES = {kind: pairs(table) for kind, table in lexicon_things.ADJECTIVES.items()}
FEELINGS = {kind: pairs(table) for kind, table in lexicon_people.FEELINGS.items()}
JOBS, HOBBIES, TRAITS, SUBJECTS = (
    pairs(t) for t in (lexicon_people.JOBS, lexicon_people.HOBBIES, lexicon_people.TRAITS, lexicon_people.SUBJECTS)
)


def adjective(noun: Noun, rng: random.Random) -> Pair | None:
    """An adjective that suits the noun, or None half of the time."""
    if rng.random() < 0.45:
        return None
    kind = lexicon_things.SUITS.get(noun.kind)
    if kind:
        found = rng.choice(ADJECTIVES[kind])
        return None if found.en in noun.en.split() else found
    if rng.random() < 0.35:
        colour = rng.choice(COLOURS)
        return None if colour.en in noun.en.split() else Pair(colour.en, colour.zh + "色的")
    found = rng.choice(ADJECTIVES[rng.choice(("size", "made", "made"))])
    return None if found.en in noun.en.split() else found


def modifier(adjective_zh: str) -> str:
    """A Chinese adjective ready to stand before its noun."""
    return adjective_zh if adjective_zh.endswith("的") or len(adjective_zh) == 1 else adjective_zh + "的"


def noun_forms(noun: Noun, adj: Pair | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """The slot forms of a noun phrase: English "", a, the, s, that; Chinese "", a, the, s, that."""
    phrase = f"{adj.en} {noun.en}" if adj else noun.en
    # "pair of" and mass nouns: the article goes with the phrase as it stands, or with "some".
    single = f"some {phrase}" if noun.mass or (noun.plural == noun.en and noun.kind == "dish") else article(phrase)
    mass = noun.mass
    many = noun.en if mass else noun.plural
    english = {"": noun.en, "a": single, "the": f"the {phrase}", "s": many, "that": f"the {noun.en}", "bare": phrase}
    full = (modifier(adj.zh) if adj else "") + noun.zh
    chinese = {
        "": noun.zh,
        "a": f"一{noun.measure}{full}",
        "the": f"那{noun.measure}{full}",
        "s": noun.zh,
        "that": f"那{noun.measure}{noun.zh}",
        "bare": full,
    }
    return english, chinese


def _actions() -> tuple[tuple[str, str, str, str, tuple[str, ...]], ...]:
    rows = []
    for line in lexicon_actions.ACTIONS.strip().splitlines():
        forms, zh, kinds = line.split("|")
        base, past, ing = forms.split("+") if "+" in forms else forms.split()
        rows.append((base, past, ing, zh, tuple(kinds.split())))
    for line in lexicon_actions.PLAIN.strip().splitlines():
        forms, zh = line.split("|")
        words = forms.split()
        third = len(words) // 3
        base, past, ing = (" ".join(words[i * third : (i + 1) * third]) for i in range(3))
        rows.append((base, past, ing, zh, ()))
    return tuple(rows)


ACTIONS = _actions()


MISHAPS = tuple(row for row in ACTIONS if row[0] in ("lose", "break", "drop", "throw away", "burn"))
DEEDS = tuple(row for row in ACTIONS if row not in MISHAPS)
"""What people do on purpose; the rest happens to them."""


def action_forms(
    rng: random.Random, rows: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = DEEDS
) -> tuple[dict[str, str], dict[str, str]]:
    """A random action with its object: English "" (base), past, ing; Chinese "" (verb phrase)."""
    base, past, ing, zh, kinds = rows[int(rng.random() * len(rows))]
    if not kinds:
        return {"": base, "past": past, "ing": ing}, {"": zh}
    noun = rng.choice(NOUNS[rng.choice(kinds)])
    en_noun, zh_noun = noun_forms(noun, adjective(noun, rng))
    form = rng.choice(("a", "a", "the"))
    target = zh_noun[form]
    phrase = zh.replace("…", target) if "…" in zh else zh + target
    return {"": f"{base} {en_noun[form]}", "past": f"{past} {en_noun[form]}", "ing": f"{ing} {en_noun[form]}"}, {
        "": phrase
    }
