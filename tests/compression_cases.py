"""A small model's directory and texts in two languages, for the tests of measuring and reporting compression."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from luhuo.core.stage import Stage
from luhuo.model.save import save
from luhuo.stages import STAGES, stage_class
from tests.small_chat import small_model

EN = "hello world how are you today the answer is a good apple and the sky stays blue"
ZH = "你好 世界 今天 天气 很好 苹果 答案 是 我们 学习 语言 的 人"
SIZES = {"layers": 4, "intermediate_size": 96}
"""Of a model whose smaller versions are candidates."""
WORDS = {"en": EN.split(), "zh": ZH.split()}


def sentence(lang: str, chance: random.Random) -> str:
    """A line of words in one language."""
    joint = " " if lang == "en" else ""
    return joint.join(chance.choice(WORDS[lang]) for _ in range(chance.randrange(6, 14))) + "\n"


def write_texts(path: Path, documents: int = 24, lines: int = 6, seed: int = 0) -> Path:
    """Records of alternating language."""
    chance = random.Random(seed)
    rows = []
    for number in range(documents):
        lang = ("en", "zh")[number % 2]
        rows.append({"id": f"d{number}", "lang": lang, "text": "".join(sentence(lang, chance) for _ in range(lines))})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def model_folder(path: Path, **changes: Any) -> Path:
    """A directory of the small model."""
    save(small_model(**changes), path)
    return path


def compressing() -> dict[str, type[Stage]]:
    """The stages of the room, by name."""
    return {n: stage_class(n) for n, entry in STAGES.items() if entry.target.startswith("luhuo.compress.")}
