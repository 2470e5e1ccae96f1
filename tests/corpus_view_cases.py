"""A small corpus through all stages of the factory, with one of everything that its card and its browser show."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from luhuo.core.artifact import produce
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.factory.stages import AnnotateStage, FilterStage

ATTACK = "<script>document.title='owned'</script> <img src=x onerror=alert(1)> </div> [x](data:text/html,owned)"
PHONE, EMAIL = "13812345678", "zhang.wei@example.cn"
PLACES = ("mill", "harbour", "school", "market", "bridge", "tower", "garden", "library", "station", "bakery")
ANIMALS = ("horse", "cat", "heron", "dog", "goose", "donkey", "swallow", "sheep", "fox", "hare")
WEATHER = ("fog", "rain", "snow", "wind", "heat", "thunder", "frost", "sunshine")
地方 = ("磨坊", "港口", "学校", "集市", "石桥", "钟楼", "花园", "图书馆", "车站", "面包铺")
动物 = ("马", "猫", "白鹭", "狗", "鹅", "驴", "燕子", "绵羊", "狐狸", "野兔")
天气 = ("大雾", "细雨", "大雪", "北风", "酷热", "雷声", "霜冻", "晴天")


def english(number: int) -> str:
    """A short tale; any two have few words in common."""
    rng = random.Random(number)
    lines = []
    for _ in range(5):
        place, animal, weather = rng.choice(PLACES), rng.choice(ANIMALS), rng.choice(WEATHER)
        count, name = rng.randrange(2, 900), "".join(rng.choices("bdklmnrst", k=3)) + rng.choice("aeiou") + "n"
        lines.append(
            rng.choice(
                (
                    f"In the {weather} the {animal} of {name} walked {count} steps from the {place} and sat down.",
                    f"{name.title()} counted {count} windows at the {place}, while a {animal} slept in the {weather}.",
                    f"Nobody at the {place} had seen so much {weather}; the {animal} ate {count} berries near {name}.",
                    f"When the {weather} came, {count} people with one {animal} left {name} for the old {place}.",
                )
            )
        )
    return " ".join(lines)


def chinese(number: int) -> str:
    """A short tale in Chinese."""
    rng = random.Random(number)
    lines = []
    for _ in range(5):
        place, animal, weather = rng.choice(地方), rng.choice(动物), rng.choice(天气)
        name, count = "".join(rng.choices("春江花月夜山川湖海云松竹梅兰", k=2)), rng.randrange(2, 900)
        lines.append(
            rng.choice(
                (
                    f"{weather}之中，{name}家的{animal}从{place}走了{count}步，然后坐下来休息。",
                    f"{name}在{place}数了{count}扇窗户，那时有一只{animal}睡在{weather}里。",
                    f"{place}里的人从没见过这样的{weather}，{animal}在{name}附近吃了{count}颗果子。",
                    f"{weather}来的时候，{count}个人带着一只{animal}离开{name}，去了旧{place}。",
                )
            )
        )
    return "".join(lines)


QUESTION = english(950)
"""An item of an evaluation set that is also in the corpus."""


def village(count: int) -> list[dict[str, Any]]:
    """Documents of the first source: clean ones, and some of everything that is cleaned."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        found += [{"text": english(number)}, {"text": chinese(number)}]
    found += [{"text": english(0)}, {"text": english(0)}]  # exact
    found += [{"text": english(1).replace(" sat down", " lay down") + " So it was."}]  # near
    found += [{"text": f"{chinese(900)}请打电话 {PHONE} 或写信到 {EMAIL}，{PHONE} 一直有人接。{chinese(901)}"}]
    found += [{"text": f"{ATTACK} {english(902)}"}]
    found += [{"text": chinese(903).encode().decode("latin-1")}]
    found += [{"text": f"{english(951)} {QUESTION} {english(952)}"}]
    found += [{"text": "锟斤拷烫烫烫屯屯屯" * 9 + str(n)} for n in range(3)]
    found += [{"text": f"{ATTACK} " + "Click here to win now! " * 20}]
    return found


def village_with_notices() -> list[dict[str, Any]]:
    """The village, with a paragraph that six documents share."""
    notice = (
        "\n\nThis tale was brought to you by the village council, and all rights of it are with those who tell it, "
        "whoever they may be, in all of its versions.\n\n"
    )
    documents = village(40)
    for number in range(6):
        documents[4 * number + 20]["text"] += notice + english(3000 + number)
    return documents


def write(path: Path, documents: list[dict[str, Any]], more: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in documents)
    path.write_text("".join(rows) + more, encoding="utf-8")
    return path


def make_corpus(root: Path, count: int = 40, documents: list[dict[str, Any]] | None = None, **settings: Any) -> Path:
    """A filter artifact `root/clean` with its ancestors beside it."""
    first = write(root / "raw/village.jsonl", documents or village(count), 'no json\n{"text": 3}\n')
    second = write(
        root / "raw/papers.jsonl", [{"text": english(2)}, *({"text": english(2000 + n)} for n in range(10))]
    )
    sources = [
        {"name": "village", "path": str(first), "licence": "CC0-1.0"},
        {"name": "papers", "path": str(second), "licence": "CC-BY-4.0"},
    ]
    quiz = write(root / "raw/quiz.jsonl", [{"id": "quiz-7", "question": QUESTION, "answer": "the goose"}])
    inline: dict[str, Any] = {"executor": "inline"}
    reading = {"sources": sources, "benchmarks": {"quiz": str(quiz)}, **inline}
    annotated = produce("annotate", AnnotateStage.parse(reading), root / "annotated").path
    values = {"annotated": str(annotated), **inline}
    duplicates = produce("deduplicate", DeduplicateStage.parse(values), root / "duplicates").path
    values |= {"duplicates": str(duplicates), "valid": 0.1, "test": 0.1} | settings
    return produce("filter", FilterStage.parse(values), root / "clean").path
