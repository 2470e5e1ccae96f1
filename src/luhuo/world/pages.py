"""Kinds of pages beside stories: encyclopaedia, letters, diaries, how-tos, news, lists, sums, questions, glossaries."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

from dataclasses import dataclass, replace

from luhuo.world.facts import Person, Town
from luhuo.world.items import Maker
from luhuo.world.scene import MONTHS_OF, SEASONS, WEEKDAYS, Binding, event, schemas
from luhuo.world.template import fill
from luhuo.world.words import (
    GOODS,
    NOUNS,
    action_forms,
    article,
    capital,
    chinese_count,
    chinese_number,
    english_number,
    join_en,
    join_zh,
)


@dataclass
class Page:
    """A raw document."""

    text: str
    lang: str
    kind: str
    entities: list[str]


def _binding(make: Maker, count: int = 3) -> tuple[Binding, list[Person], Town, list[str]]:
    rng = make.rng
    cast = rng.sample(make.world.people, count)
    if rng.random() < 0.3:
        cast[0] = rng.choice([p for p in make.world.famous if p not in cast])
    town = rng.choice(make.world.towns[:40]) if rng.random() < 0.3 else cast[0].town
    binding = Binding(make.world, rng, cast, town, rng.choice(SEASONS).en)
    return binding, cast, town, [p.name.en for p in cast] + [town.name.en]


def _opening(make: Maker, binding: Binding, person: Person, langs: tuple[str, ...]) -> dict[str, str]:
    """Who, where, when: one or two sentences."""
    binding.bind("{weather}")
    job, trait = person.job, person.trait
    en = make.rng.choice(
        (
            f"{{a}} was {article(job.en)} in {{town}}, known as a {trait.en} {{a.man}}. It was {binding.season}, and {{weather}}.",
            f"It was {binding.season} in {{town}}, and {{weather}}. {{a}}, {article(job.en)}, [was on the way home|had just woken up|stood at the window].",
            f"In {{town}}, by {{town.river}}, lived {article(trait.en)} {job.en} [named|called] {{a}}. One day in {binding.season}, {{weather}}.",
            f"[People in {{town}} still tell|They still tell in {{town}}] this story about {{a}}, the {job.en}. That {binding.season}, {{weather}}.",
        )
    ).replace("known as a " + trait.en, "known as " + article(trait.en))
    season = next(s.zh for s in SEASONS if s.en == binding.season)
    zh = make.rng.choice(
        (
            f"{{a}}是{{town}}的{job.zh}，人人都说{{a.he}}{trait.zh}。那是{season}，{{weather}}。",
            f"{{town}}的{season}，{{weather}}。{job.zh}{{a}}[正走在回家的路上|刚刚睡醒|站在窗前]。",
            f"{{town}}的{{town.river}}边住着一个{trait.zh}的{job.zh}，[名叫|叫做]{{a}}。{season}里的一天，{{weather}}。",
            f"{{town}}人至今还[讲着|记得]{job.zh}{{a}}的故事。那年{season}，{{weather}}。",
        )
    )
    return {lang: binding.say(lang, en if lang == "en" else zh) for lang in langs}


ENDINGS = (
    ("[That night|Later] {a} felt {good}[, and slept soundly|].", "[那天夜里|后来]，{a}觉得{good}[，睡得很香|]。"),
    (
        "{a} and {b} [never spoke of it again|still laugh about it today|have been friends ever since].",
        "{a}和{b}[再也没提过这件事|至今说起来还会笑|从此成了好朋友]。",
    ),
    (
        'When {c} heard of it, {c.he} only said: "[So it goes|I knew it|Tell me again tomorrow]."',
        "{c}听说以后，只说了一句：“[世事就是这样|我早就知道|明天再讲一遍吧]。”",
    ),
    (
        "[Since then|Ever since], nobody in {town} [leaves the house without {item.a}|laughs at {hobby}].",
        "从那以后，{town}[没有人出门不带{item.a}|再没有人笑话{hobby}了]。",
    ),
    (
        "{a} wrote it all down in {a.his} diary, between {dish} and {machine}.",
        "{a}把这些都写进了日记，夹在{dish}和{machine}两条中间。",
    ),
)


def story(make: Maker, langs: tuple[str, ...] | None = None, kind: str = "story") -> Page:
    """Opening, one to three events with changing roles, an ending; parallel when two languages are asked for."""
    rng = make.rng
    langs = langs or (make.lang,)
    binding, cast, _, entities = _binding(make)
    opening = _opening(make, binding, cast[0], langs)
    paragraphs: dict[str, list[str]] = {lang: [opening[lang]] for lang in langs}
    for number, schema in enumerate(rng.sample(schemas(), rng.choice((1, 1, 2, 2, 3)))):
        binding.drop()
        if number:  # another pair of the three people
            for forms in (binding.en, binding.zh):
                forms["b"], forms["c"] = forms["c"], forms["b"]
        told = event(binding, schema, langs)
        cut = rng.randrange(1, len(told[langs[0]])) if rng.random() < 0.5 else 0
        for lang in langs:
            glue = " " if lang == "en" else ""
            parts = (told[lang][:cut], told[lang][cut:]) if cut else (told[lang],)
            paragraphs[lang] += [glue.join(part) for part in parts]
    if rng.random() < 0.6:
        binding.drop()
        en, zh = rng.choice(ENDINGS)
        binding.bind(en, zh)
        for lang in langs:
            paragraphs[lang].append(binding.say(lang, en if lang == "en" else zh))
    if len(langs) == 1:
        return Page("\n".join(paragraphs[langs[0]]), langs[0], kind, entities)
    text = "\n".join(line for pair in zip(*(paragraphs[lang] for lang in langs), strict=True) for line in pair)
    return Page(text, "mixed", "parallel", entities)


def parallel(make: Maker) -> Page:
    """The same story in both languages, paragraph by paragraph."""
    return story(make, ("en", "zh") if make.rng.random() < 0.5 else ("zh", "en"))


def town_page(make: Maker) -> Page:
    """An encyclopaedia entry of a town."""
    rng = make.rng
    town = rng.choice(make.world.towns[:40] if rng.random() < 0.6 else make.world.towns)
    near = town.neighbour or town
    if make.zh:
        name = town.name.zh
        facts = [
            f"[{name}的|当地的]特产是{town.product.zh}。", f"{town.river.zh}[流过镇子|从镇边流过|穿镇而过]。", f"[镇后面是|北面是|最近的山是]{town.hill.zh}。",
            f"[这里|镇上]住着{town.people}人。", f"{name}[始建于|建于]{town.founded}年。", f"[每年最热闹的是|人们最看重的节日是]{town.festival.zh}。",
            f"[孩子们上的是|镇上的学校叫]{town.school.zh}。", f"最[有名|好看]的建筑是那座{town.landmark.zh}。", f"{name}离{near.name.zh}{town.distance}公里。",
        ]  # fmt: skip
        first = f"{name}是{town.country.zh}的[一座小镇|一个镇|一座老镇]。"
    else:
        name = town.name.en
        facts = [
            f"[{name}|The town] is known for its {town.product.en}.", f"The {town.river.en} [flows through the town|passes the town|runs below its walls].", f"[Behind it rises|The nearest mountain is|To the north stands] {town.hill.en}.",
            f"[About|Some] {town.people} people live [here|in the town].", f"[{name}|It] was founded in {town.founded}.", f"The [great day of the year|festival everyone waits for] is the {town.festival.en}.",
            f"Children go to {town.school.en}.", f"Visitors come to see the {town.landmark.en}.", f"{name} is {town.distance} kilometres from {near.name.en}.",
        ]  # fmt: skip
        first = f"{name} is a [small town|town|market town|quiet town] in {town.country.en}."
    chosen = [first, *rng.sample(facts, rng.randint(4, len(facts)))]
    text = ("" if make.zh else " ").join(fill(s, {}, rng) for s in chosen)
    return Page(f"{name}\n{text}", make.lang, "town", [town.name.en, near.name.en])


def person_page(make: Maker) -> Page:
    """A short life."""
    rng = make.rng
    person = rng.choice(make.world.famous if rng.random() < 0.5 else make.world.people)
    binding = Binding(make.world, rng, [person], person.town, "spring")
    spouse, children = person.spouse, person.children
    if make.zh:
        lines = [f"{person.name.zh}，{person.born}年生于{person.town.name.zh}，[现在是|职业是]{person.job.zh}。", f"{{a.he}}最爱吃{person.food.zh}，[闲时喜欢|爱好是]{person.hobby.zh}。",
                 f"{{a.he}}养了{chinese_count(person.pet_count)}{person.pet.measure}{person.pet.zh}。", f"[上学时|小时候]，{{a.he}}最喜欢的课是{person.subject.zh}。", f"[认识{{a.him}}的人|邻居们]都说{{a.he}}{person.trait.zh}。"]  # fmt: skip
        lines += [f"{{a.his}}{'丈夫' if person.female else '妻子'}是{spouse.name.zh}。"] if spouse else []
        lines += [f"孩子叫{join_zh([c.name.zh for c in children])}。"] if children else []
        lines += [
            "{a.he}年轻时曾经{act}，这件事[全镇都知道|上过报纸|没几个人知道]。",
            "{a.he}说，自己{bad}的时候就去{acttwo}。",
        ]
    else:
        lines = [f"{person.name.en}, born in {person.town.name.en} in {person.born}, is {article(person.job.en)}.", f"{{a.his}} favourite food is {person.food.en if person.food.mass else person.food.plural}, and {{a.his}} hobby is {person.hobby.en}.",
                 f"{{a.he}} keeps {english_number(person.pet_count)} {person.pet.plural if person.pet_count > 1 else person.pet.en}.", f"At school {{a.he}} liked {person.subject.en} best.", f"[Neighbours|Those who know {{a.him}}] call {{a.him}} {person.trait.en}."]  # fmt: skip
        lines += [f"{{a.his}} {'husband' if person.female else 'wife'} is {spouse.name.en}."] if spouse else []
        lines += (
            [
                f"{{a.his}} {'child is' if len(children) == 1 else 'children are'} {join_en([c.name.en for c in children])}."
            ]
            if children
            else []
        )
        lines += [
            "When young, {a.he} once {act.past}, which [the whole town remembers|was in the newspaper|few people know].",
            "When {bad}, {a.he} says, the best cure is {acttwo.ing}.",
        ]
    chosen = [lines[0], *rng.sample(lines[1:], rng.randint(3, len(lines) - 1))]
    for line in chosen:
        binding.bind(line)
    text = ("" if make.zh else " ").join(binding.say(make.lang, line) for line in chosen)
    return Page(text, make.lang, "person", [person.name.en, person.town.name.en])


def letter(make: Maker) -> Page:
    """A letter or a diary entry by somebody who saw an event."""
    rng = make.rng
    binding, cast, _, entities = _binding(make, 4)
    told = event(binding, rng.choice(schemas()), (make.lang,))[make.lang]
    day, month = rng.choice(WEEKDAYS), rng.choice(MONTHS_OF[binding.season])
    binding.bind("{good} {act} {acttwo} {weather} {snack} {bother}")
    if rng.random() < 0.5:
        head = (
            f"{month.zh}{rng.randint(1, 28)}日，{day.zh}，{{weather}}。"
            if make.zh
            else f"{day.en}, {rng.randint(1, 28)} {month.en}. Today {{weather}}."
        )
        tail = rng.choice(
            ("明天我要{acttwo}。", "写到这里，我觉得{good}。", "因为{bother}，今天就写到这里。")
            if make.zh
            else ("Tomorrow I will {acttwo}.", "As I write this I feel {good}.", "I stop here, because {bother}.")
        )
        kind = "diary"
    else:
        head = (
            f"亲爱的{cast[3].name.zh}：\n[谢谢你的信|好久没给你写信了|你寄来的{{snack}}收到了]。"
            if make.zh
            else f"Dear {cast[3].name.en},\n[Thank you for your letter|I have not written for a long time|The {{snack.s}} arrived safely]."
        )
        tail = rng.choice(
            ("盼望你来，我们一起{act}。\n你的朋友{c}", "代我向大家问好。\n{c}", "祝你平安。\n{c}")
            if make.zh
            else (
                "Come soon, and we will {act} together.\nYour friend {c}",
                "Greetings to everyone at home.\n{c}",
                "I hope you are {good}.\nYours, {c}",
            )
        )
        kind = "letter"
    glue = "" if make.zh else " "
    text = f"{binding.say(make.lang, head)}\n{glue.join(told)}\n{binding.say(make.lang, tail)}"
    return Page(text, make.lang, kind, entities)


def price_list(make: Maker) -> Page:
    """A price list and a small bill worked out."""
    rng = make.rng
    person, town = rng.choice(make.world.people), rng.choice(make.world.towns)
    nouns = rng.sample([n for n in GOODS if "pair" not in n.en], rng.randint(3, 6))
    prices = [rng.randint(n.low, n.high) for n in nouns]
    k = rng.randrange(len(nouns))
    n = rng.choice([count for count in range(2, 8) if make.mine(f"{count}*{prices[k]}")] or [2])
    pick, price = nouns[k], prices[k]
    if make.zh:
        rows = [f"{x.zh}：每{x.measure}{p}枚硬币" for x, p in zip(nouns, prices, strict=True)]
        head = f"{town.name.zh}{town.landmark.zh}旁的价目表"
        tail = f"{person.name.zh}买了{chinese_count(n)}{pick.measure}{pick.zh}：{n} × {price} = {n * price}，一共{n * price}枚硬币。"
    else:
        rows = [f"{capital(x.en)}: {p} coins" for x, p in zip(nouns, prices, strict=True)]
        head = f"Prices at the shop beside the {town.landmark.en} of {town.name.en}"
        tail = f"{person.name.en} bought {english_number(n)} {pick.plural}: {n} × {price} = {n * price}, so {n * price} coins in all."
    return Page("\n".join([head, *rows, tail]), make.lang, "prices", [person.name.en, town.name.en])


def glossary(make: Maker) -> Page:
    """Words, phrases, names and short sentences in both languages."""
    from luhuo.world.families_skill import phrase

    rng = make.rng
    lines, entities = [], []
    for _ in range(rng.randint(6, 12)):
        kind = rng.random()
        if kind < 0.6:
            en, zh, _, _, named = phrase(make)
            entities += named
        elif kind < 0.75:
            person = rng.choice(make.world.people)
            en, zh = person.name.en, person.name.zh
            entities.append(en)
        elif kind < 0.9:
            noun = rng.choice(NOUNS[rng.choice(list(NOUNS))])
            en, zh = noun.en, noun.zh
        else:
            en_action, zh_action = action_forms(rng)
            en, zh = "to " + en_action[""], zh_action[""]
        left, right = (zh, en) if rng.random() < 0.5 else (en, zh)
        lines.append(f"{left}{rng.choice((' = ', ': ', ' - '))}{right}")
    return Page("\n".join(lines), "mixed", "glossary", entities)


def sums(make: Maker) -> Page:
    """Arithmetic in figures and words; operands of the train split only."""
    from luhuo.world import families_skill

    rng = make.rng
    lines = []
    while len(lines) < 8:
        a, b = rng.randint(1, 50), rng.randint(1, 30)
        plus = rng.random() < 0.5 or b > a
        if not make.mine(f"{a}{'+' if plus else '-'}{b}"):
            continue
        c, sign = (a + b, "+") if plus else (a - b, "-")
        words = (
            f"{chinese_number(a)}{'加' if plus else '减'}{chinese_number(b)}等于{chinese_number(c)}。"
            if make.zh
            else capital(
                f"{english_number(a)} {'plus' if plus else 'minus'} {english_number(b)} is {english_number(c)}."
            )
        )
        shown = families_skill.worked(a, sign, b, make.zh)
        lines.append(rng.choice((f"{a} {sign} {b} = {c}", shown, shown, words)))
    return Page("\n".join(lines), make.lang, "sums", [])


def how_to(make: Maker) -> Page:
    """Steps of a job."""
    rng = make.rng
    binding, _, _, entities = _binding(make)
    binding.bind("{act} {tool} {material} {drink} {item} {price}")
    steps = [
        ("Get {tool.a} and some {material}.", "先准备{tool.a}和一些{material}。"), ("Ask {b} for advice; {b.he} has done it often.", "请教一下{b}，{b.he}做过很多次。"),
        ("Work <slowly>, and stop when you are tired.", "<慢慢>做，累了就歇。"), ("Put {item.the} where it cannot fall.", "把{item}放在掉不下来的地方。"),
        ("Wait about {price} minutes.", "等{price}分钟左右。"), ("Drink {drink.a} while you wait.", "等的时候喝一杯{drink}。"),
        ("Check everything once more {spot}.", "{spot}再检查一遍。"), ("Clean up, and thank those who helped.", "收拾干净，谢谢帮忙的人。"), ("If it fails, {acttwo} first and try again.", "要是不成，先去{acttwo}，再试一次。"),
    ]  # fmt: skip
    chosen = rng.sample(steps, rng.randint(3, 6))
    head = "怎样{act}（{a}的办法）" if make.zh else "How to {act}, as {a} does it"
    lines = [binding.say(make.lang, head)]
    for number, step in enumerate(chosen, 1):
        binding.bind(*step)
        lines.append(f"{number}. {binding.say(make.lang, step[1] if make.zh else step[0])}")
    return Page("\n".join(lines), make.lang, "howto", entities)


def talk(make: Maker) -> Page:
    """A conversation written as a play."""
    rng = make.rng
    binding, cast, _, entities = _binding(make, 3)
    turns = [
        ("[Good morning|Hello], {b}. Have you seen my {item}?", "[早上好|你好]，{b}。你看见我的{item}了吗？"), ("Yes, {c} had it {spot}.", "看见了，{c}刚才{spot}拿着呢。"),
        ("What are you doing on {weekday}?", "{weekday}你打算做什么？"), ("I want to {act}. Will you come along?", "我想{act}。你一起来吗？"), ("I would rather {acttwo}.", "我宁愿{acttwo}。"),
        ("Is it true that {c} {mishap.past}?", "听说{c}{mishap}了，是真的吗？"), ("So they say in {town}.", "{town}的人都这么说。"), ("You look {bad} today.", "你今天看上去很{bad}。"),
        ("No wonder, {bother}.", "难怪，{bother}。"), ("How much was {treasure.the}?", "{treasure.the}多少钱？"), ("{price} coins, and worth every one.", "{price}枚硬币，值得很。"),
        ("Take {snack.a} for the road.", "带上{snack.a}路上吃吧。"), ("Thank you, that is kind.", "谢谢，你真好。"), ("Look, {weather}.", "看哪，{weather}。"),
    ]  # fmt: skip
    start = rng.randrange(len(turns) - 4)
    chosen = (
        [turns[0], *sorted(rng.sample(turns[1:], rng.randint(3, 7)), key=turns.index)]
        if start % 2
        else turns[start : start + rng.randint(3, 5)]
    )
    lines = []
    for number, turn in enumerate(chosen):
        speaker = cast[number % 2].name
        if number % 2:
            turn = tuple(text.replace("{b}", "{a}") for text in turn)
        binding.bind(*turn)
        spoken = binding.say(make.lang, turn[1] if make.zh else turn[0])
        lines.append(f"{speaker.zh}：{spoken}" if make.zh else f"{speaker.en}: {spoken}")
    return Page("\n".join(lines), make.lang, "talk", entities)


def news(make: Maker) -> Page:
    """A news item: headline, event, figures."""
    rng = make.rng
    binding, _, town, entities = _binding(make)
    told = event(binding, rng.choice(schemas()), (make.lang,))[make.lang]
    day = rng.choice(WEEKDAYS)
    if make.zh:
        head, tail = (
            f"{town.name.zh}讯（{day.zh}）",
            rng.choice(
                (
                    f"镇上{town.people}名居民正在准备{town.festival.zh}。",
                    f"{town.product.zh}的价钱没有变动。",
                    f"{town.river.zh}水位正常。",
                )
            ),
        )
    else:
        head, tail = (
            f"{town.name.en}, {day.en}.",
            rng.choice(
                (
                    f"The town's {town.people} people are preparing for the {town.festival.en}.",
                    f"The price of {town.product.en} has not changed.",
                    f"The {town.river.en} is at its usual level.",
                )
            ),
        )
    return Page("\n".join([head, ("" if make.zh else " ").join(told), tail]), make.lang, "news", entities)


def questions(make: Maker) -> Page:
    """A passage with questions and answers as plain text, in another shape than the dialogue items."""
    from luhuo.world import families_reading, families_skill

    rng = make.rng
    families = {**families_reading.FAMILIES, **families_skill.FAMILIES}
    names = [n for n in families if n not in ("closed_book", "unanswerable", "format_following")]
    lines, entities = [], []
    marks = ("问：", "答：") if make.zh else ("Q: ", "A: ")
    for _ in range(rng.randint(1, 3)):
        draft = families[rng.choice(names)](replace(make, turns=3))
        entities += draft.entities
        lines += [
            f"{marks[0]}{asked}\n{marks[1]}{reply}" for asked, reply in (*draft.before, (draft.prompt, draft.gold))
        ]
    return Page("\n\n".join(lines), make.lang, "questions", entities)
