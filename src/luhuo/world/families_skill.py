"""Families that need a skill and no long passage: arithmetic, calendar, translation, lists, format."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

import json

from luhuo.world.families_reading import people, say
from luhuo.world.items import Draft, Family, Maker, announced, exact, number, templates
from luhuo.world.scene import MONTHS, WEEKDAYS
from luhuo.world.words import (
    COLOURS,
    GOODS,
    JOBS,
    NOUNS,
    adjective,
    article,
    chinese_count,
    english_number,
    modifier,
    pairs,
)

PROMPTS = templates("""
sum
en: What is {q}? || {q} = ? || Work out {q}. || Calculate {q}. || Tell me {q}. || How much is {q}? || Please compute {q}. || Find {q}. || Give the result of {q}. || Do the sum: {q}. || What does {q} make? || Solve {q}.
zh: {q}等于多少？ || {q}=？ || 计算{q}。 || 请算{q}。 || {q}是多少？ || 算一算：{q}。 || {q}得多少？ || 请问{q}等于几？ || 求{q}的结果。 || 做题：{q}。 || {q}的答案是什么？ || 解一下{q}。

day
en: Today is {d}. Which day is it in {k} days? || Today is {d}. What day will it be in {k} days? || It is {d} today. Which day comes {k} days later? || It is {d}. Name the day {k} days later. || If today is {d}, which day is it in {k} days? || Today is {d}. Tell me the day in {k} days. || Start at {d} and count {k} days. Which day is it? || Today is {d}. In {k} days it is which day? || If today is {d}, what day comes {k} days later? || We have {d} today. What do we have in {k} days? || Which day is {k} days after {d}? || Count {k} days from {d}. Which day do you reach?
zh: 今天是{d}，{k}天后是星期几？ || 今天{d}，再过{k}天是星期几？ || 如果今天是{d}，{k}天后是星期几？ || 今天是{d}。请问{k}天后是星期几？ || 从{d}往后数{k}天是星期几？ || 今天是{d}，过{k}天是星期几？ || 今天是{d}，告诉我{k}天后是星期几。 || 假如今天是{d}，再过{k}天是星期几？ || 今天是{d}，说出{k}天后是星期几。 || {d}之后{k}天是星期几？ || {d}再过{k}天，是星期几？ || 从{d}起数{k}天，数到星期几？

month
en: Which month comes after {d}? || What month follows {d}? || Name the month after {d}. || Tell me the month after {d}. || After {d} comes which month? || What is the next month after {d}? || {d} is over. Which month is next? || Which month is next after {d}? || The month after {d} is? || Which month begins when {d} ends? || What comes after {d} in the calendar? || Say the month that follows {d}.
zh: {d}的下一个月是几月？ || {d}之后是几月？ || {d}过后是几月？ || 请问{d}后面是几月？ || 告诉我{d}的下个月。 || {d}结束后是几月？ || {d}完了是几月？ || 说出{d}的下个月。 || {d}的下个月是？ || 接在{d}后面的是几月？ || {d}一过就是几月？ || 日历上{d}后面是几月？

to_zh
en: Translate into Chinese: {t} || How do you say "{t}" in Chinese? || Put this into Chinese: {t} || Write in Chinese: {t} || What is "{t}" in Chinese? || Give the Chinese for: {t} || Say this in Chinese: {t} || English to Chinese: {t} || Please translate into Chinese: {t} || In Chinese, please: {t} || What is the Chinese for "{t}"? || Turn this into Chinese: {t}
zh: 翻译成中文：{t} || “{t}”用中文怎么说？ || 把下面的话译成中文：{t} || 用中文写出：{t} || “{t}”的中文是什么？ || 请翻译成中文：{t} || 英译中：{t} || 请用中文说：{t} || 译成中文：{t} || 中文怎么说：{t} || 请把“{t}”变成中文。 || 下面这句的中文是什么：{t}

to_en
en: Translate into English: {t} || How do you say "{t}" in English? || Put this into English: {t} || Write in English: {t} || What is "{t}" in English? || Give the English for: {t} || Say this in English: {t} || Chinese to English: {t} || Please translate into English: {t} || In English, please: {t} || What is the English for "{t}"? || Turn this into English: {t}
zh: 翻译成英文：{t} || “{t}”用英文怎么说？ || 把下面的话译成英文：{t} || 用英文写出：{t} || “{t}”的英文是什么？ || 请翻译成英文：{t} || 中译英：{t} || 请用英文说：{t} || 译成英文：{t} || 英文怎么说：{t} || 请把“{t}”变成英文。 || 下面这句的英文是什么：{t}

count
en: How many things are in this list: {t}? || Count the things: {t}. || How many items are there: {t}? || Count this list: {t}. || Tell me how many things you see: {t}. || How long is this list: {t}? || Give the number of things: {t}. || How many are these: {t}? || Please count: {t}. || What is the number of items in: {t}? || Say how many things are named: {t}. || The list is: {t}. How many?
zh: 这里有几样东西：{t}？ || 数一数：{t}。一共几样？ || 下面一共有几样东西：{t}？ || 请数一数有几样：{t}。 || 列表里有几样东西：{t}？ || {t}，一共几样？ || 请问这里有几样：{t}？ || 算算有多少样东西：{t}。 || 告诉我有几样：{t}。 || 下面列了几样：{t}？ || 清单是：{t}。有几样？ || 说出东西的数目：{t}。

order
en: Sort from small to large: {t} || Put in order, smallest first: {t} || Order these numbers from small to large: {t} || Sort upwards: {t} || Arrange from low to high: {t} || Write these numbers in rising order: {t} || Sort these numbers: {t} || Smallest number first: {t} || From small to large: {t} || Line these up, smallest first: {t} || Give these numbers in rising order: {t} || Bring into order from low to high: {t}
zh: 从小到大排列：{t} || 请从小到大排序：{t} || 按从小到大的顺序写出：{t} || 把这些数从小到大排好：{t} || 由小到大排列：{t} || 排序，小的在前：{t} || 给这些数排序：{t} || 从小到大写：{t} || 请由小到大写出：{t} || 小的放前面，排好：{t} || 请把数字升序排列：{t} || 由低到高排一排：{t}

reverse
en: Write this list backwards: {t} || Reverse the list: {t} || Give the list in reverse order: {t} || Turn the list around: {t} || Say it from last to first: {t} || List these from last to first: {t} || Backwards, please: {t} || Reverse this: {t} || Write from the end to the start: {t} || Start with the last one: {t} || Read the list backwards: {t} || The other way round: {t}
zh: 把列表倒过来写：{t} || 请倒序写出：{t} || 从后往前写：{t} || 反过来排列：{t} || 把顺序颠倒：{t} || 倒着说一遍：{t} || 请反着写：{t} || 倒序：{t} || 从最后一个写到第一个：{t} || 从末尾开始列出：{t} || 请逆序列出：{t} || 倒过来：{t}

json
en: Write as JSON with the keys name, job and age: {t} || Give JSON with name, job and age: {t} || Turn into JSON (name, job, age): {t} || Make a JSON object with name, job, age: {t} || As JSON with the keys name, job, age: {t} || Put name, job and age into JSON: {t} || Extract name, job and age as JSON: {t} || JSON, please (name, job, age): {t} || Reply in JSON with name, job and age: {t} || Fill a JSON object with name, job and age: {t} || Answer only with JSON (name, job, age): {t} || Convert to JSON, keys name, job, age: {t}
zh: 写成 JSON，键为 name、job、age：{t} || 用 JSON 给出 name、job、age：{t} || 转成 JSON（name、job、age）：{t} || 做一个 JSON 对象，含 name、job、age：{t} || 以 JSON 输出 name、job、age：{t} || 把 name、job、age 放进 JSON：{t} || 提取 name、job、age 为 JSON：{t} || 请用 JSON 回答（name、job、age）：{t} || 输出 JSON，键是 name、job、age：{t} || 填写 JSON 对象（name、job、age）：{t} || 只回答 JSON（name、job、age）：{t} || 转换为 JSON，键用 name、job、age：{t}

repeat
en: Say "{t}" {n} times. || Repeat "{t}" {n} times. || Write "{t}" {n} times. || Write the word "{t}" {n} times. || Say the word "{t}" {n} times. || Give me "{t}" {n} times. || Repeat the word "{t}" {n} times. || I want "{t}" {n} times. || Please write "{t}" {n} times. || Print "{t}" {n} times. || Type "{t}" {n} times. || Let me read "{t}" {n} times.
zh: 把“{t}”说{n}遍。 || 重复“{t}”{n}遍。 || 把“{t}”写{n}遍。 || 把“{t}”这个词写{n}遍。 || 请说{n}遍“{t}”。 || 写{n}遍“{t}”。 || 请重复{n}遍“{t}”。 || 我要{n}遍“{t}”。 || 说{n}遍“{t}”。 || 输出{n}遍“{t}”。 || 打出{n}遍“{t}”。 || 让我看到{n}遍“{t}”。

bullets
en: Write as a bullet list: {t} || Make a bullet list of: {t} || Put each on its own line with a dash: {t} || List with dashes: {t} || One line each, with a dash: {t} || Give a list with dashes: {t} || Turn into a bullet list: {t} || Write a dash list: {t} || A bullet list of: {t} || Please bullet these: {t} || Set out as bullets: {t} || Show as a list with dashes: {t}
zh: 写成项目列表：{t} || 每项一行，前面加短横：{t} || 用短横列出：{t} || 做成列表，每行一项：{t} || 列成清单，加短横：{t} || 用列表写出：{t} || 请逐行列出，加短横：{t} || 变成项目列表：{t} || 分行列出：{t} || 请做成带短横的列表：{t} || 一行一个列出来：{t} || 以列表显示：{t}

upper
en: Write in capital letters: {t} || Put in upper case: {t} || In capitals: {t} || Change to capital letters: {t} || Write this in capitals: {t} || All capitals, please: {t} || Turn into upper case: {t} || Make all letters capital: {t} || Upper case: {t} || Use only capital letters: {t} || Give this in capitals: {t} || Rewrite in upper case: {t}
zh: 用大写字母写：{t} || 改成大写：{t} || 全部大写：{t} || 变成大写字母：{t} || 请用大写写出：{t} || 转成大写：{t} || 写成大写：{t} || 请全部改为大写：{t} || 大写：{t} || 只用大写字母写：{t} || 请转换为大写：{t} || 把它写成大写：{t}
""")


def addition_subtraction(make: Maker) -> Draft:
    """One sum of numbers up to 60; the operands of a split never meet in another."""
    while True:
        a, b = make.rng.randint(1, 50), make.rng.randint(1, 30)
        plus = make.rng.random() < 0.5 or b > a
        if make.mine(f"{a}{'+' if plus else '-'}{b}"):
            break
    total = a + b if plus else a - b
    sign = "+" if plus else "-"
    key, template = make.pick(PROMPTS, "sum")
    question = make.fill(template, q=f"{a} {sign} {b}")
    return Draft(question, str(total), number(total), 0.0, key, [], worked(a, sign, b, make.zh))


def worked(a: int, sign: str, b: int, zh: bool) -> str:
    """A sum or difference of numbers below 100, worked out digit by digit: ones, tens with the carry, result."""
    total = a + b if sign == "+" else a - b
    if max(a, b) < 10:
        return f"{a} {sign} {b} = {total}"
    (tens, ones), (more, less) = divmod(a, 10), divmod(b, 10)
    carry = ones + less >= 10 if sign == "+" else ones < less
    if carry and sign == "-":
        ones += 10
    first = ones + less if sign == "+" else ones - less
    second = f"{tens} {sign} {more}{f' {sign} 1' if carry else ''}"
    steps = f"{a} {sign} {b}: {ones} {sign} {less} = {first}, {second} = {total // 10}"
    return f"{steps}，得{total}" if zh else f"{steps}, so {total}"


def word_problem(make: Maker) -> Draft:
    """Prices: buying several, or change; the reply shows the step."""
    name = people(make, 1)[0]
    noun = make.rng.choice([n for n in GOODS if "pair" not in n.en])
    held = make.split == "test"
    while True:
        n, price = make.rng.randint(2, 9), make.rng.randint(2, 12)
        if make.mine(f"{n}*{price}"):
            break
    if make.rng.random() < 0.5:
        total = n * price
        counted = ", ".join(f"{k}: {k * price}" for k in range(1, n + 1))
        step = f"{n} × {price}. {counted}{'，得' if make.zh else ', so '}{total}"
        en = (
            f"{name.en} buys {n} {noun.plural}. Each costs {price} coins. ",
            f"One {noun.en} costs {price} coins. {name.en} buys {n}. ",
            f"At the market a {noun.en} is {price} coins and {name.en} takes {n}. ".replace(
                "a " + noun.en, article(noun.en)
            ),
        )
        zh = (
            f"{name.zh}买了{n}{noun.measure}{noun.zh}，每{noun.measure}{price}枚硬币。",
            f"一{noun.measure}{noun.zh}{price}枚硬币，{name.zh}买了{n}{noun.measure}。",
            f"集市上{noun.zh}每{noun.measure}卖{price}枚硬币，{name.zh}要了{n}{noun.measure}。",
        )
        ask_en = (
            ("How many coins is that?", "How much does {} pay?", "What is the total?")
            if not held
            else ("What must {} pay in all?", "Find the cost.", "How many coins are needed?")
        )
        ask_zh = (
            ("一共多少枚硬币？", "{}要付多少钱？", "总共多少钱？")
            if not held
            else ("{}总共该付多少？", "求总价。", "需要多少枚硬币？")
        )
        kind = "cost"
    else:
        purse = price + n * 5
        total, step = purse - price, worked(purse, "-", price, make.zh)
        en = (
            f"{name.en} has {purse} coins and buys {article(noun.en)} for {price} coins. ",
            f"{article(noun.en).capitalize()} costs {price} coins. {name.en} pays from {purse} coins. ",
            f"From {purse} coins {name.en} spends {price} on {article(noun.en)}. ",
        )
        zh = (
            f"{name.zh}有{purse}枚硬币，花{price}枚买了一{noun.measure}{noun.zh}。",
            f"一{noun.measure}{noun.zh}{price}枚硬币，{name.zh}带了{purse}枚去买。",
            f"{name.zh}用{purse}枚硬币中的{price}枚买了一{noun.measure}{noun.zh}。",
        )
        ask_en = (
            ("How many coins are left?", "How much does {} have now?", "What is left?")
            if not held
            else ("What remains?", "How many coins does {} keep?", "Find what is left over.")
        )
        ask_zh = (
            ("还剩多少枚硬币？", "{}现在有多少钱？", "剩下多少？")
            if not held
            else ("余下多少？", "{}还留着多少枚硬币？", "求剩下的钱。")
        )
        kind = "change"
    i, j = make.rng.randrange(3), make.rng.randrange(3)
    prompt = (zh[i] + ask_zh[j].format(name.zh)) if make.zh else (en[i] + ask_en[j].format(name.en))
    return Draft(
        prompt, str(total), number(total), 0.0, f"{kind}.{make.lang}.{'held' if held else 'seen'}{j}", [name.en], step
    )


def calendar(make: Maker) -> Draft:
    """The weekday after k days, or the next month."""
    # a speaker now and then: there are few weekdays and months, and items should differ
    speaker = people(make, 1)[0] if make.rng.random() < 0.6 else None
    opening = (f"{speaker.zh}问：" if make.zh else f"{speaker.en} asks: ") if speaker else ""
    entities = [speaker.en] if speaker else []
    if make.rng.random() < 0.25:
        i = make.rng.randrange(12)
        key, template = make.pick(PROMPTS, "month")
        month, answer = say(make, MONTHS[i]), say(make, MONTHS[(i + 1) % 12])
        reply = f"{month}之后是{answer}。" if make.zh else f"After {month} comes {answer}."
        question = opening + make.fill(template, d=month)
        return Draft(question, answer, exact(answer, reply), 1 / 12, key, entities, reply)
    while True:
        i, k = make.rng.randrange(7), make.rng.randint(1, 13)
        if make.mine(f"{WEEKDAYS[i].en}+{k}"):
            break
    key, template = make.pick(PROMPTS, "day")
    day = WEEKDAYS[(i + k) % 7]
    answer = say(make, day)
    question = (
        make.fill(template, d=say(make, WEEKDAYS[i]), k=k)
        .replace("in 1 days", "in 1 day")
        .replace(" 1 days", " 1 day")
    )
    weeks = f"{k} = 7 + {k - 7}{'。' if make.zh else '. '}" if k >= 7 else ""
    counted = [f"{n}{'' if make.zh else ' '}{say(make, WEEKDAYS[(i + n) % 7])}" for n in range(k % 7 + 1)]
    steps = weeks + ("，" if make.zh else ", ").join(counted) + ("。" if make.zh else ".")
    accepted = exact(answer, answer.replace("日", "天"))
    reply = announced(answer, make.zh, steps)
    return Draft(opening + question, answer, accepted, 1 / 7, key, entities, reply)


def phrase(make: Maker) -> tuple[str, str, list[str], list[str], list[str]]:
    """A short text in both languages: (English, Chinese, other English, other Chinese, entities)."""
    while True:
        noun = make.rng.choice((*GOODS, *NOUNS["pet"], *NOUNS["wildanimal"], *NOUNS["furniture"]))
        adj = adjective(noun, make.rng)
        if not make.mine(f"{adj.en if adj else ''} {noun.en}"):
            continue
        words = f"{adj.en} {noun.en}" if adj else noun.en
        bare = (modifier(adj.zh) if adj else "") + noun.zh
        loose = [bare.replace("的", "")] if adj else []
        if make.rng.random() < 0.6:
            en, zh = article(words), f"一{noun.measure}{bare}"
            return (
                en,
                zh,
                [words, f"one {words}", f"the {words}"],
                [f"一{noun.measure}{x}" for x in loose] + [bare],
                [],
            )
        name = people(make, 1)[0]
        verb = make.rng.choice(pairs("saw=看见了; bought=买了; found=捡到了; likes=喜欢; sold=卖了; drew=画了"))
        en = f"{name.en} {verb.en} {article(words)}."
        zh = f"{name.zh}{verb.zh}一{noun.measure}{bare}。"
        others = [f"{name.zh}{verb.zh}一{noun.measure}{x}。" for x in loose]
        return en, zh, [f"{name.en} {verb.en} the {words}."], [*others, f"{name.zh}{verb.zh}{bare}。"], [name.en]


def translate_en_zh(make: Maker) -> Draft:
    """A phrase or a short sentence into Chinese."""
    en, zh, _, others, entities = phrase(make)
    key, template = make.pick(PROMPTS, "to_zh")
    return Draft(make.fill(template, t=en), zh, exact(zh, *others), 0.0, key, entities)


def translate_zh_en(make: Maker) -> Draft:
    """A phrase or a short sentence into English."""
    en, zh, others, _, entities = phrase(make)
    key, template = make.pick(PROMPTS, "to_en")
    return Draft(make.fill(template, t=zh), en, exact(en, *others), 0.0, key, entities)


def _things(make: Maker, count: int) -> list[str]:
    while True:
        nouns = make.rng.sample([n for n in GOODS if " " not in n.en], count)
        if make.mine("|".join(n.en for n in nouns)):
            return [n.zh if make.zh else n.en for n in nouns]


def counting(make: Maker) -> Draft:
    """How many things a list names."""
    count = make.rng.randint(2, 7)
    key, template = make.pick(PROMPTS, "count")
    mark, things = "、" if make.zh else ", ", _things(make, count)
    counted = mark.join(f"{n}{'' if make.zh else ' '}{word}" for n, word in enumerate(things, 1))
    reply = f"{counted}，共{count}样" if make.zh else f"{counted}, so {count}"
    return Draft(make.fill(template, t=mark.join(things)), str(count), number(count), 1 / 6, key, [], reply)


def ordering(make: Maker) -> Draft:
    """Sort three or four numbers, or reverse a list of words."""
    mark = "、" if make.zh else ", "
    if make.rng.random() < 0.5:
        while True:
            values = make.rng.sample(range(1, 60), make.rng.choice((3, 3, 4)))
            if make.mine("<".join(map(str, values))):
                break
        key, template = make.pick(PROMPTS, "order")
        given, wanted = [str(v) for v in values], [str(v) for v in sorted(values)]
    else:
        given = _things(make, make.rng.choice((3, 3, 4)))
        wanted = given[::-1]
        key, template = make.pick(PROMPTS, "reverse")
    chance = 1 / 6 if len(given) == 3 else 1 / 24
    check, answer = {"kind": "sequence", "values": wanted}, mark.join(wanted)
    # behind "Answer:" the first word begins with a blank, like all words of the list
    reply = answer if make.zh else announced(answer, make.zh)
    return Draft(make.fill(template, t=mark.join(given)), answer, check, chance, key, [], reply)


def format_following(make: Maker) -> Draft:
    """JSON from a sentence, a bullet list, repetition, upper case."""
    kind = make.rng.choice(("json", "repeat", "bullets", "upper"))
    key, template = make.pick(PROMPTS, kind)
    if kind == "json":
        name, job, age = people(make, 1)[0], make.rng.choice(JOBS), make.rng.randint(18, 80)
        value = {"name": say(make, name), "job": say(make, job), "age": age}
        text = (
            f"{name.zh}是{job.zh}，今年{age}岁。"
            if make.zh
            else f"{name.en} is {article(job.en)} and is {age} years old."
        )
        answer = json.dumps(value, ensure_ascii=False)
        return Draft(make.fill(template, t=text), answer, {"kind": "json", "value": value}, 0.0, key, [name.en])
    if kind == "repeat":
        word, times = _things(make, 1)[0], make.rng.randint(2, 4)
        rules = [{"kind": "repeat", "text": word, "count": times}]
        shown = chinese_count(times) if make.zh else english_number(times)
        answer = ("，" if make.zh else ", ").join([word] * times)
        return Draft(make.fill(template, t=word, n=shown), answer, {"kind": "rules", "rules": rules}, 0.0, key, [])
    if kind == "bullets":
        words = _things(make, make.rng.choice((2, 3, 4)))
        rules = [{"kind": "lines", "count": len(words)}, *({"kind": "contains", "text": f"- {w}"} for w in words)]
        answer = "\n".join(f"- {w}" for w in words)
        listed = ("、" if make.zh else ", ").join(words)
        return Draft(make.fill(template, t=listed), answer, {"kind": "rules", "rules": rules}, 0.0, key, [])
    name, noun = people(make, 1)[0], make.rng.choice([n for n in GOODS if "pair" not in n.en])
    text = make.rng.choice((f"{name.en} has {article(noun.en)}", name.en, f"{make.rng.choice(COLOURS).en} {noun.en}"))
    rules = [{"kind": "uppercase"}, {"kind": "contains", "text": text.upper()}]
    return Draft(make.fill(template, t=text), text.upper(), {"kind": "rules", "rules": rules}, 0.0, key, [name.en])


FAMILIES: dict[str, Family] = {
    "addition_subtraction": addition_subtraction,
    "word_problem": word_problem,
    "calendar": calendar,
    "translate_en_zh": translate_en_zh,
    "translate_zh_en": translate_zh_en,
    "counting": counting,
    "ordering": ordering,
    "format_following": format_following,
}
