"""Families answered from a short passage: who, where, what, how many, comparison, kinship, choice, unanswerable."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

from luhuo.world import lexicon_people
from luhuo.world.items import Draft, Exchange, Family, Maker, announced, conversation, exact, number, templates
from luhuo.world.words import GOODS, JOBS, Noun, Pair, article, capital, chinese_count, english_number, pairs

QUESTIONS = templates("""
who
en: Who {did}? || Tell me who {did}. || Which person {did}? || Who was it that {did}? || Find the person who {did}. || Can you say who {did}? || Please name the person who {did}. || From the text: who {did}? || Give the name of the one who {did}. || I want to know who {did}. || According to the text, who {did}? || Name who {did}.
zh: 谁{did}？ || 请问谁{did}？ || 是谁{did}？ || 告诉我谁{did}。 || 哪个人{did}？ || 请说出谁{did}。 || 文中谁{did}？ || 你知道谁{did}吗？ || 找出谁{did}。 || 我想知道谁{did}。 || 根据上文，谁{did}？ || 说说看，谁{did}？

where
en: Where does {name} live? || In which town does {name} live? || Tell me where {name} lives. || What is the home town of {name}? || Which town is {name} living in? || Please name the town where {name} lives. || Can you say where {name} lives? || Where is the home of {name}? || {name} lives in which town? || I want to know where {name} lives. || According to the text, where does {name} live? || Find the town of {name}.
zh: {name}住在哪里？ || {name}住在哪个镇？ || 请问{name}住在哪里？ || 告诉我{name}住在哪里。 || {name}的家在哪里？ || {name}家在哪个镇？ || 文中{name}住在什么地方？ || 请说出{name}住的镇。 || 哪里是{name}的家？ || 我想知道{name}住在哪里。 || 根据上文，{name}住在何处？ || 说说看，{name}住在哪个地方？

what
en: What did {name} {verb}? || Tell me what {name} {past}. || Which thing did {name} {verb}? || What was it that {name} {past}? || Name the thing that {name} {past}. || Can you say what {name} {past}? || What thing did {name} {verb}? || From the text: what did {name} {verb}? || Please say what {name} {past}. || I want to know what {name} {past}. || According to the text, what did {name} {verb}? || Find what {name} {past}.
zh: {name}{verb}了什么？ || 请问{name}{verb}了什么？ || 告诉我{name}{verb}了什么。 || {name}{verb}的是什么？ || {name}{verb}了哪样东西？ || 文中{name}{verb}了什么？ || 请说出{name}{verb}了什么。 || 你知道{name}{verb}了什么吗？ || {name}到底{verb}了什么？ || 我想知道{name}{verb}了什么。 || 根据上文，{name}{verb}了何物？ || 说说看，{name}{verb}了什么？

many
en: How many {things} does {name} have? || How many {things} has {name} got? || Tell me how many {things} {name} has. || What number of {things} does {name} have? || Say how many {things} {name} has. || {name} has how many {things}? || Can you say how many {things} {name} has? || From the text: how many {things} does {name} have? || Please give the number of {things} that {name} has. || I want to know how many {things} {name} has. || According to the text, how many {things} does {name} have? || Find how many {things} {name} has.
zh: {name}有多少{things}？ || {name}有几{m}{things}？ || 请问{name}有多少{things}？ || 告诉我{name}有多少{things}。 || {name}一共有几{m}{things}？ || {name}的{things}有几{m}？ || 文中{name}有几{m}{things}？ || 请说出{name}有几{m}{things}。 || 你知道{name}有几{m}{things}吗？ || 我想知道{name}有多少{things}。 || 根据上文，{name}有几{m}{things}？ || 说说看，{name}有多少{things}？

older
en: Who is {more}? || Which of them is {more}? || Tell me who is {more}. || Who is the {more} one? || Which person is {more}? || Of the two, who is {more}? || Name the one who is {more}. || Can you say who is {more}? || Please say who is {more}. || I want to know who is {more}. || According to the text, who is {more}? || Find out who is {more}.
zh: 谁{more}？ || 两个人中谁{more}？ || 请问谁{more}？ || 告诉我谁{more}。 || 哪个人{more}？ || 他们当中谁{more}？ || 请说出谁{more}。 || 你知道谁{more}吗？ || 到底谁{more}？ || 我想知道谁{more}。 || 根据上文，谁{more}？ || 比一比，谁{more}？

kin
en: Who is the {kin} of {name}? || Tell me the {kin} of {name}. || Name the {kin} of {name}. || What is the name of the {kin} of {name}? || Which person is the {kin} of {name}? || Can you name the {kin} of {name}? || The {kin} of {name} is who? || Please say who the {kin} of {name} is. || From the text: who is the {kin} of {name}? || I want to know who the {kin} of {name} is. || According to the text, who is the {kin} of {name}? || Find the {kin} of {name}.
zh: {name}的{kin}是谁？ || 请问{name}的{kin}是谁？ || 谁是{name}的{kin}？ || 告诉我{name}的{kin}是谁。 || {name}的{kin}叫什么名字？ || 请说出{name}的{kin}。 || 文中{name}的{kin}是谁？ || 你知道{name}的{kin}是谁吗？ || 哪个人是{name}的{kin}？ || 我想知道{name}的{kin}是谁。 || 根据上文，{name}的{kin}是谁？ || 说说看，谁是{name}的{kin}？

attribute
en: What is the {field} of {name}? || Tell me the {field} of {name}. || {name}: what is the {field}? || Give the {field} of {name}. || Please name the {field} of {name}. || Look up the {field} of {name}. || Can you say what the {field} of {name} is? || What does the page give as the {field} of {name}? || The {field} of {name}? || I want to know the {field} of {name}. || According to the page, what is the {field} of {name}? || Find the {field} of {name}.
zh: {name}的{field}是什么？ || 请问{name}的{field}是什么？ || 告诉我{name}的{field}。 || {name}的{field}？ || 查一下{name}的{field}。 || 请说出{name}的{field}。 || 文中{name}的{field}是什么？ || 你知道{name}的{field}吗？ || {name}：{field}是什么？ || 我想知道{name}的{field}。 || 根据上文，{name}的{field}是什么？ || 找出{name}的{field}。

recall
en: What is the {field} of {name}? || Tell me the {field} of {name}. || What do you know of the {field} of {name}? || Name the {field} of {name}. || Do you know the {field} of {name}? || From memory: what is the {field} of {name}? || Can you say what the {field} of {name} is? || {name} has which {field}? || I would like to know the {field} of {name}. || Do you remember the {field} of {name}? || Which {field} belongs to {name}?
zh: {name}的{field}是什么？ || 请问{name}的{field}是什么？ || 告诉我{name}的{field}。 || 你了解{name}的{field}吗？ || 说出{name}的{field}。 || 凭记忆回答：{name}的{field}是什么？ || 你知道{name}的{field}吗？ || {name}有什么{field}？ || 我很想知道{name}的{field}。 || 你还记得{name}的{field}吗？ || 哪个是{name}的{field}？
""")

VERBS = "buy bought=买; sell sold=卖; find found=捡; lose lost=丢; borrow borrowed=借; carry carried=搬; draw drew=画; hide hid=藏; choose chose=挑; wash washed=洗"
UNKNOWN = {"en": "The text does not say.", "zh": "文中没有说。"}
FRAMES = {
    "en": ("{p}\n{q}", "{p} {q}", "Text: {p}\nQuestion: {q}", "Read: {p}\n{q}"),
    "zh": ("{p}\n{q}", "{p}{q}", "短文：{p}\n问题：{q}", "读一读：{p}\n{q}"),
}


def ask(make: Maker, passage: list[str], question: str) -> str:
    """Put sentences and the question together."""
    text = ("" if make.zh else " ").join(passage)
    return make.rng.choice(FRAMES[make.lang]).replace("{p}", text).replace("{q}", question)


def people(make: Maker, count: int) -> list[Pair]:
    """Names of different people of the world."""
    return [person.name for person in make.rng.sample(make.world.people, count)]


def say(make: Maker, pair: Pair) -> str:
    """The word in the item's language."""
    return pair.zh if make.zh else pair.en


def thing(make: Maker, noun: Noun, count: int = 1) -> str:
    """A noun phrase: "a kite", "three kites", 一只风筝."""
    if make.zh:
        return f"{chinese_count(count)}{noun.measure}{noun.zh}"
    return article(noun.en) if count == 1 else f"{english_number(count)} {noun.plural}"


def _talk(make: Maker, lines: list[str], exchanges: list[Exchange], chance: float, entities: list[str]) -> Draft:
    """The first question comes with the passage, the others follow."""
    return conversation(ask(make, lines, exchanges[0].question), exchanges, chance, entities)


def _deeds(make: Maker) -> tuple[list[Pair], list[Noun], list[Pair], list[str]]:
    cast = people(make, make.size())
    things = make.rng.sample(GOODS, len(cast))
    verbs = [make.rng.choice(pairs(VERBS)) for _ in cast]
    lines = []
    for name, noun, verb in zip(cast, things, verbs, strict=True):
        past = f"{verb.zh}了" if make.zh else verb.en.split()[1]
        lines.append(f"{name.zh}{past}{thing(make, noun)}。" if make.zh else f"{name.en} {past} {thing(make, noun)}.")
    return cast, things, verbs, lines


def _through(make: Maker, lines: list[str], last: int) -> str:
    """The sentences up to and with number `last`, as one reads them until the right one is found."""
    return ("" if make.zh else " ").join(lines[: last + 1])


def reading_person(make: Maker) -> Draft:
    """Who did it."""
    cast, things, verbs, lines = _deeds(make)
    exchanges = []
    for i in make.order(len(cast)):
        did = (verbs[i].zh + "了" if make.zh else verbs[i].en.split()[1] + " ") + thing(make, things[i])
        key, template = make.pick(QUESTIONS, "who")
        answer = say(make, cast[i])
        reply = announced(answer, make.zh, _through(make, lines, i))
        exchanges.append(Exchange(make.fill(template, did=did), answer, exact(answer), reply, key))
    return _talk(make, lines, exchanges, 1 / len(cast), [p.en for p in cast])


def _what(make: Maker, name: Pair, verb: Pair) -> tuple[str, str]:
    """(template, question): what somebody did something to."""
    key, template = make.pick(QUESTIONS, "what")
    base, past = (verb.zh, "") if make.zh else verb.en.split()
    return key, make.fill(template, name=say(make, name), verb=base, past=past)


def reading_thing(make: Maker) -> Draft:
    """What somebody did it to."""
    cast, things, verbs, lines = _deeds(make)
    exchanges = []
    for i in make.order(len(cast)):
        key, question = _what(make, cast[i], verbs[i])
        answer, noun = thing(make, things[i]), things[i]
        accepted = exact(answer, noun.zh if make.zh else noun.en, lines[i])
        exchanges.append(Exchange(question, answer, accepted, lines[i], key))
    return _talk(make, lines, exchanges, 1 / len(cast), [p.en for p in cast])


def reading_place(make: Maker) -> Draft:
    """Where somebody lives."""
    cast = people(make, make.size())
    towns = [t.name for t in make.rng.sample(make.world.towns, len(cast))]
    lines, replies = [], []
    for name, town in zip(cast, towns, strict=True):
        job = make.rng.choice(JOBS)
        forms = (
            (f"{name.zh}住在{town.zh}。", f"{name.zh}家在{town.zh}。", f"{name.zh}是{job.zh}，住在{town.zh}。")
            if make.zh
            else (
                f"{name.en} lives in {town.en}.",
                f"The home of {name.en} is in {town.en}.",
                f"{name.en}, the {job.en}, lives in {town.en}.",
            )
        )
        lines.append(make.rng.choice(forms))
        replies.append(forms[0] if lines[-1] == forms[1] else lines[-1])
    exchanges = []
    for i in make.order(len(cast)):
        key, template = make.pick(QUESTIONS, "where")
        answer = say(make, towns[i])
        accepted = exact(answer, f"在{answer}" if make.zh else f"in {answer}", lines[i], replies[i])
        question = make.fill(template, name=say(make, cast[i]))
        exchanges.append(Exchange(question, answer, accepted, replies[i], key))
    return _talk(make, lines, exchanges, 1 / len(cast), [p.en for p in (*cast, *towns)])


def reading_number(make: Maker) -> Draft:
    """How many somebody has."""
    cast = people(make, make.size())
    things = make.rng.sample([n for n in GOODS if "pair" not in n.en], len(cast))
    counts = make.rng.sample(range(2, 20), len(cast))
    lines = [
        f"{p.zh}有{c}{n.measure}{n.zh}。" if make.zh else f"{p.en} has {c} {n.plural}."
        for p, n, c in zip(cast, things, counts, strict=True)
    ]
    exchanges = []
    for i in make.order(len(cast)):
        key, template = make.pick(QUESTIONS, "many")
        noun = things[i]
        words = {"things": noun.zh if make.zh else noun.plural, "m": noun.measure}
        question = make.fill(template, name=say(make, cast[i]), **words)
        reply = announced(str(counts[i]), make.zh, lines[i])
        exchanges.append(Exchange(question, str(counts[i]), number(counts[i]), reply, key))
    return _talk(make, lines, exchanges, 1 / len(cast), [p.en for p in cast])


COMPARED = (
    ("is {} years old", "今年{}岁", ("older", "年纪大"), ("younger", "年纪小")),
    ("has {} coins", "有{}枚硬币", ("richer", "钱多"), ("poorer", "钱少")),
    ("ran the race in {} minutes", "{}分钟跑完全程", ("slower", "跑得慢"), ("faster", "跑得快")),
)
"""What two people are compared in: the sentence of each, the words for the larger and the smaller number."""


def comparison(make: Maker) -> Draft:
    """Who is older, richer, faster, or the contrary."""
    cast = people(make, 2)
    values = make.rng.sample(range(8, 90), 2)
    state_en, state_zh, *words = make.rng.choice(COMPARED)
    state = state_zh + "。" if make.zh else f" {state_en}."
    lines = [f"{say(make, person)}{state.format(value)}" for person, value in zip(cast, values, strict=True)]
    steps = _through(make, lines, 1) + ("" if make.zh else " ")
    steps += f"{values[0]} {'<' if values[0] < values[1] else '>'} {values[1]}{'。' if make.zh else '.'}"
    exchanges = []
    for smaller in make.order(2):
        key, template = make.pick(QUESTIONS, "older")
        answer = say(make, cast[values.index(min(values) if smaller else max(values))])
        question = make.fill(template, more=words[smaller][1 if make.zh else 0])
        exchanges.append(Exchange(question, answer, exact(answer), announced(answer, make.zh, steps), key))
    return _talk(make, lines, exchanges, 0.5, [p.en for p in cast])


KIN = [tuple(entry.strip().split("=")) for entry in lexicon_people.KIN.split(";")]
TWO_HOPS = {
    ("mother", "mother"): "grandmother=外婆", ("mother", "father"): "grandfather=外公", ("father", "mother"): "grandmother=奶奶",
    ("father", "father"): "grandfather=爷爷", ("father", "sister"): "aunt=姑姑", ("father", "brother"): "uncle=叔叔",
    ("mother", "sister"): "aunt=姨妈", ("mother", "brother"): "uncle=舅舅",
}  # fmt: skip
KIN_ZH = {"mother": "母亲", "father": "父亲", "sister": "妹妹", "brother": "弟弟"}


def kinship(make: Maker) -> Draft:
    """Two hops: the father of the mother; the passage names a third relative as a distractor."""
    hops = make.rng.choice(list(TWO_HOPS))
    gender = ["f" if hop in ("mother", "sister") else "m" for hop in hops]
    pool = {g: [p.name for p in make.rng.sample(make.world.people, 40) if p.female == (g == "f")] for g in "fm"}
    child, middle, target, other = pool["f"][0], pool[gender[0]][1], pool[gender[1]][2], pool["m"][3]
    facts = [(middle, hops[0], child), (target, hops[1], middle), (other, "brother", child)]
    make.rng.shuffle(facts)
    lines = [
        f"{a.zh}是{c.zh}的{KIN_ZH[kin]}。" if make.zh else f"{a.en} is the {kin} of {c.en}." for a, kin, c in facts
    ]
    relation = Pair(*TWO_HOPS[hops].split("="))
    key, template = make.pick(QUESTIONS, "kin")
    answer = say(make, target)
    question = make.fill(template, kin=say(make, relation), name=say(make, child))
    reply = announced(answer, make.zh, _through(make, lines, [fact[0] for fact in facts].index(target)))
    exchange = Exchange(question, answer, exact(answer), reply, key)
    return _talk(make, lines, [exchange], 1 / 3, [p.en for p in (child, middle, target, other)])


def page_lookup(make: Maker) -> Draft:
    """One field of a short page about a town or a person."""
    rng = make.rng
    if rng.random() < 0.5:
        town = rng.choice(make.world.towns)
        subject = town.name
        rows = [
            ("river=河流", town.river),
            ("hill=山", town.hill),
            ("country=国家", town.country),
            ("product=特产", town.product),
            ("school=学校", town.school),
        ]
    else:
        person = rng.choice(make.world.people)
        subject = person.name
        rows = [("job=职业", person.job), ("home town=家乡", person.town.name), ("hobby=爱好", person.hobby), ("pet=宠物", Pair(person.pet.en, person.pet.zh)),
                ("favourite food=最爱的食物", Pair(person.food.en, person.food.zh))]  # fmt: skip
    rows = [(say(make, Pair(*name.split("="))), say(make, value)) for name, value in rng.sample(rows, 4)]
    lines = [f"{name}：{value}。" if make.zh else capital(f"{name}: {value}.") for name, value in rows]
    exchanges = []
    for i in make.order(4):
        name, value = rows[i]
        key, template = make.pick(QUESTIONS, "attribute")
        question = make.fill(template, field=name, name=say(make, subject))
        exchanges.append(Exchange(question, value, exact(value, lines[i]), lines[i], key))
    return _talk(make, [say(make, subject) + ("。" if make.zh else "."), *lines], exchanges, 0.25, [subject.en])


def unanswerable(make: Maker) -> Draft:
    """Half of the questions are about somebody the passage does not mention."""
    cast = people(make, 3)
    towns = [t.name for t in make.rng.sample(make.world.towns, 2)]
    lines = [
        f"{p.zh}住在{t.zh}。" if make.zh else f"{p.en} lives in {t.en}." for p, t in zip(cast, towns, strict=False)
    ]
    note = (
        "如果文中没有说，请回答“文中没有说。”"
        if make.zh
        else ' If the text does not say, answer "The text does not say."'
    )
    exchanges = []
    for missing in make.order(2):
        i = 2 if missing else make.rng.randrange(2)
        key, template = make.pick(QUESTIONS, "where")
        name = say(make, cast[i])
        if missing:
            answer = UNKNOWN[make.lang]
            reply = announced(answer, make.zh, f"{name}不在文中。" if make.zh else f"{name} is not in the text.")
            accepted = exact(answer)
        else:
            answer, reply = say(make, towns[i]), lines[i]
            accepted = exact(answer, f"在{answer}" if make.zh else f"in {answer}", reply)
        question = make.fill(template, name=name) + note
        exchanges.append(Exchange(question, answer, accepted, reply, "unknown." + key))
    return _talk(make, lines, exchanges, 1 / 2, [p.en for p in (*cast, *towns)])


def choice(make: Maker) -> Draft:
    """One of four options, A to D; the passage holds the answer."""
    cast, things, verbs, lines = _deeds(make)
    exchanges = []
    for i in make.order(len(cast))[:2]:
        wrong = make.rng.sample([n for n in GOODS if n is not things[i]], 3)
        options = [thing(make, n) for n in (things[i], *wrong)]
        right = options[0]
        make.rng.shuffle(options)
        letter = "ABCD"[options.index(right)]
        key, question = _what(make, cast[i], verbs[i])
        listed = "\n".join(f"{label}. {option}" for label, option in zip("ABCD", options, strict=True))
        check = {"kind": "choice", "value": letter, "options": options}
        exchanges.append(Exchange(f"{question}\n{listed}", letter, check, letter, "choice." + key))
    return _talk(make, lines, exchanges, 0.25, [p.en for p in cast])


def closed_book(make: Maker) -> Draft:
    """A fact of a town that the pages speak of often; asked of the train world in every split."""
    town = make.rng.choice(make.world.towns[:40])
    facts = (("river=河流", town.river), ("country=国家", town.country), ("product=特产", town.product))
    exchanges = []
    for i in make.order(3):
        name, value = facts[i]
        key, template = make.pick(QUESTIONS, "recall")
        answer = say(make, value)
        question = make.fill(template, field=say(make, Pair(*name.split("="))), name=say(make, town.name))
        exchanges.append(Exchange(question, answer, exact(answer), answer, key))
    return conversation(exchanges[0].question, exchanges, 0.0, [town.name.en])


FAMILIES: dict[str, Family] = {
    "reading_person": reading_person,
    "reading_place": reading_place,
    "reading_thing": reading_thing,
    "reading_number": reading_number,
    "page_lookup": page_lookup,
    "comparison": comparison,
    "kinship": kinship,
    "choice": choice,
    "unanswerable": unanswerable,
    "closed_book": closed_book,
}
