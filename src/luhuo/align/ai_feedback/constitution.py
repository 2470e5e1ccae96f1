"""The constitution: principles by which answers are criticised, revised and judged, and the words around them.

Bai et al. 2022, "Constitutional AI", sections 3.1 (critique and revision) and 4.1 (judging); the principles and all
wording are our own. A principle is drawn by chance for each use, so that no single wording is learned.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from luhuo.core.config import Config, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.verify.script import language_of

BUNDLED = Path(__file__).with_name("principles.yaml")
MOST_BYTES = 1 << 20
Language = Literal["en", "zh"]
LABELS = ("A", "B")


class Wording(Config):
    """A principle in one language."""

    critique: str = field("", "What to look for in an answer.", "检查回答的哪一方面。")
    revision: str = field("", "What to do about it.", "如何修改。")
    choice: str = field("", "What the better of two answers is.", "两个回答中何者更好。")


class Principle(Config):
    """A principle; in a language that it lacks, it is used in the other one."""

    id: str = field(..., "Its name, which data made by it carry.", "名称，写入由其产生的数据。", min_length=1)
    en: Wording = field(Wording(), "In English.", "英文。")
    zh: Wording = field(Wording(), "In Chinese.", "中文。")

    def words(self, language: Language) -> Wording:
        """The principle in a language, or in the one there is."""
        own, other = (self.zh, self.en) if language == "zh" else (self.en, self.zh)
        return Wording(**{name: getattr(own, name) or getattr(other, name) for name in Wording.model_fields})


class Constitution(Config):
    """Principles, as they stand in a YAML file."""

    principles: list[Principle] = field(..., "The principles.", "原则列表。", min_length=1)

    def draw(self, use: Literal["critique", "choice"], chance: random.Random) -> Principle:
        """A principle that can be used so, by chance. Raises `LuhuoError` if there is none."""
        fit = [
            p
            for p in self.principles
            if (words := p.words("en")) and (words.choice if use == "choice" else words.critique and words.revision)
        ]
        if not fit:
            raise LuhuoError(
                tr("The constitution has no principle for this use.", "原则文件中没有可用于此步骤的原则。"),
                expected="choice" if use == "choice" else "critique, revision",
            )
        return chance.choice(fit)


def read_constitution(reference: str | None) -> Constitution:
    """The principles of a YAML file, or the bundled ones. Raises `LuhuoError` for a file that holds none."""
    file = BUNDLED if reference is None else resolve(reference).path
    with file.open("rb") as handle:
        content = handle.read(MOST_BYTES + 1)
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(tr(f"more than {MOST_BYTES:,} bytes", f"超过 {MOST_BYTES:,} 字节"))
        values = yaml.safe_load(content)
        if not isinstance(values, dict):
            raise ValueError(type(values).__name__)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LuhuoError(
            tr("This is no file of principles.", "这不是原则文件。"),
            expected="principles: [{id, en: {critique, revision, choice}, zh: {…}}]",
            found=str(error)[:200],
            where=file,
        ) from None
    found = Constitution.parse(values, str(file))
    names = [principle.id for principle in found.principles]
    if len(set(names)) < len(names):
        raise LuhuoError(tr("Two principles have the same id.", "有两条原则 id 相同。"), where=file)
    return found


@dataclass(frozen=True)
class Words:
    """What is said around principles, in one language."""

    critique: str
    revision: str
    compare: str
    thought: str
    only: str
    roles: Mapping[str, str]


WORDS: dict[Language, Words] = {
    "en": Words(
        critique="Look at your last answer. {principle} Name what should be better, in a few sentences.",
        revision="Now write your last answer anew. {principle} Write only the new answer, without any remark on it.",
        compare="Here is a conversation, and two answers that could follow.\n\n{conversation}\n\n"
        "[Answer A]\n{a}\n\n[Answer B]\n{b}\n\n{principle}",
        thought="Compare the two in a few sentences, without naming the better one yet.",
        only="Reply with one letter only: A or B.",
        roles={"user": "Person", "assistant": "Assistant", "system": "Instruction", "tool": "Tool"},
    ),
    "zh": Words(
        critique="请审视你上一个回答。{principle}用几句话指出需要改进之处。",
        revision="请重写你上一个回答。{principle}只写出新的回答，不要附加任何说明。",
        compare="下面是一段对话，以及两个可能的回答。\n\n{conversation}\n\n"
        "[回答 A]\n{a}\n\n[回答 B]\n{b}\n\n{principle}",
        thought="请用几句话比较二者，暂不说出哪个更好。",
        only="只回复一个字母：A 或 B。",
        roles={"user": "用户", "assistant": "助手", "system": "指示", "tool": "工具"},
    ),
}


def language_asked(messages: Sequence[Mapping[str, Any]]) -> Language:
    """The language that the constitution is used in for a conversation: that of its last user turn."""
    asked = [str(message["content"]) for message in messages if message["role"] == "user"]
    return "zh" if asked and language_of(asked[-1]) == "zh" else "en"


def comparison(messages: Sequence[Mapping[str, Any]], a: str, b: str, principle: Principle) -> str:
    """The question which of two answers is better, up to how it is to be answered."""
    language = language_asked(messages)
    words = WORDS[language]
    conversation = "\n".join(f"{words.roles[m['role']]}: {m['content']}" for m in messages)
    choice = principle.words(language).choice
    # One pass: what an answer says is not searched for places to fill in.
    return words.compare.format(conversation=conversation, a=a, b=b, principle=choice)
