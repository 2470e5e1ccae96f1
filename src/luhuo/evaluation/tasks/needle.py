"""Needle in a haystack, made by rule: numbers of towns hidden in a long text of small events.

Lengths are shares of the model's context in its own tokens, so that the last column is always the full context. Each
text hides four numbers and asks for one of them: a model that repeats whatever number it saw is right a quarter of the
time and not always.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.evaluation.asking import AskSettings
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.verify.answers import contains, split_reasoning

SHARES = (0.125, 0.25, 0.5, 1.0)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
REPEATS = 2
ANSWER_TOKENS = 32
DECOYS = 3
_SPARE = 32
"""Tokens of small events that the shortest text has at least."""


@dataclass(frozen=True)
class Words:
    """The parts of the text in one language."""

    who: tuple[str, ...]
    did: tuple[str, ...]
    where: tuple[str, ...]
    when: tuple[str, ...]
    event: str
    towns: tuple[str, ...]
    needle: str
    ask: str
    answer: str
    gap: str


EN = Words(
    ("A gardener", "The old teacher", "A baker", "Two sailors", "The young painter", "A postman", "The clockmaker"),
    ("repaired a wooden gate", "counted the boats", "carried flour home", "watched the rain", "wrote a long letter",
     "looked for a lost dog", "planted three rows of beans", "cleaned the windows"),
    ("near the mill", "behind the station", "on the north bank", "in the small square", "below the old wall"),
    ("on a quiet morning", "before supper", "after the market closed", "in early spring", "late in the evening"),
    "{who} {did} {where} {when}.",
    ("Orvane", "Tellmark", "Sundrey", "Pelwick", "Marrowby", "Quillon", "Halvern", "Istrey"),
    "The secret number of {town} is {number}.",
    "Read the text and answer the question.\n\n{text}\n\nQuestion: What is the secret number of {town}?",
    "Answer: The secret number of {town} is",
    " ",
)  # fmt: skip
ZH = Words(
    ("一位园丁", "老教师", "面包师", "两个水手", "年轻的画家", "邮差", "钟表匠"),
    ("修好了木门", "数了数船只", "把面粉背回家", "看着雨落下", "写了一封长信", "寻找走失的狗", "种下三行豆子",
     "擦净了窗户"),
    ("在磨坊旁边", "在车站后面", "在北岸", "在小广场上", "在旧城墙下"),
    ("一个安静的早晨", "晚饭之前", "集市散后", "初春时节", "深夜里"),
    "{when}，{who}{where}{did}。",
    ("奥瓦城", "泰马城", "桑瑞城", "佩威城", "马罗城", "奎隆城", "哈文城", "伊斯城"),
    "{town}的秘密数字是{number}。",
    "阅读下面的文字并回答问题。\n\n{text}\n\n问题：{town}的秘密数字是多少？",
    "答案：{town}的秘密数字是",
    "",
)  # fmt: skip
LANGUAGES = {"en": EN, "zh": ZH}


def evaluate(engine: Engine, folder: object, settings: AskSettings) -> Iterator[dict[str, Any]]:
    """Every length, depth and language, `REPEATS` times; with `limit` so many of them, chosen by seed."""
    chat = settings.mode == "chat"
    room = min(engine.context, settings.context or engine.context) - ANSWER_TOKENS
    shortest = _SPARE + max(_bare(engine, lang, chat=chat) for lang in LANGUAGES)
    lengths = [int(room * share) for share in SHARES if room * share >= shortest]
    if not lengths:
        raise LuhuoError(
            tr("The context is too short to hide anything in.", "上下文太短，无法藏入内容。"),
            expected=f">= {shortest + ANSWER_TOKENS}",
            found=room + ANSWER_TOKENS,
        )
    cells = list(product(LANGUAGES, lengths, DEPTHS, range(REPEATS)))
    if settings.limit is not None:
        cells = sorted(cells, key=lambda cell: derive_seed(0, "needle", *map(str, cell)))[: settings.limit]
    for cell in sorted(cells, key=lambda cell: (cell[1], cell)):
        yield _asked(engine, *cell, chat=chat)


def _bare(engine: Engine, lang: str, *, chat: bool) -> int:
    """Tokens of a prompt whose text has the needle and the decoys only."""
    words = LANGUAGES[lang]
    needles = [words.needle.format(town=town, number=99_999) for town in words.towns[: DECOYS + 1]]
    prompt = _fitted(engine, words, needles, words.towns[0], 0.0, 0, random.Random(0), chat=chat)
    return len(engine.prompt_ids(prompt))


def _asked(engine: Engine, lang: str, length: int, depth: float, repeat: int, *, chat: bool) -> dict[str, Any]:
    words, draw = LANGUAGES[lang], random.Random(derive_seed(0, "needle", lang, str(length), str(depth), str(repeat)))
    towns = draw.sample(words.towns, DECOYS + 1)
    numbers = [str(number) for number in draw.sample(range(10_000, 100_000), DECOYS + 1)]
    needles = [words.needle.format(town=t, number=n) for t, n in zip(towns, numbers, strict=True)]
    prompt = _fitted(engine, words, needles, towns[0], depth, length, draw, chat=chat)
    reply = engine.generate([prompt], Sampling(max_tokens=ANSWER_TOKENS, temperature=0))[0]
    said = split_reasoning(reply.text)[1]
    first = next(iter(said.split()), "").strip("。.,，")
    return {
        "id": f"{lang}-{length}-{depth}-{repeat}",
        "lang": lang,
        "subject": f"{length} tokens",
        "group": f"depth {depth:.2f}",
        "outputs": [reply.text],
        "reference": numbers[0],
        "flags": {"truncated": reply.finish_reason == "length"} if chat else {},
        "scores": {"found": float(contains(said, numbers[0])), "exact": float(first.startswith(numbers[0]))},
    }


def _fitted(
    engine: Engine, words: Words, needles: list[str], town: str, depth: float, length: int, draw: random.Random, *,
    chat: bool,
) -> str | Conversation:  # fmt: skip
    """The prompt with as many sentences as `length` tokens hold, the first needle at `depth`, the others anywhere."""
    sentences = [_event(words, draw) for _ in range(length // 4)]
    places = [draw.random() for _ in needles[1:]]

    def made(count: int) -> str | Conversation:
        lines = sentences[:count]
        for needle, place in zip(needles[1:], places, strict=True):
            lines.insert(int(place * len(lines)), needle)
        lines.insert(round(depth * len(lines)), needles[0])
        asked = words.ask.format(text=words.gap.join(lines), town=town)
        if chat:
            return Conversation.of([{"role": "user", "content": asked}])
        return f"{asked}\n{words.answer.format(town=town)}"

    low, high = 0, len(sentences)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(engine.prompt_ids(made(middle))) <= length
        low, high = (middle, high) if fits else (low, middle - 1)
    return made(low)


def _event(words: Words, draw: random.Random) -> str:
    parts = {key: draw.choice(getattr(words, key)) for key in ("who", "did", "where", "when")}
    return words.event.format(**parts)
