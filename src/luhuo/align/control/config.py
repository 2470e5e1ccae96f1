"""The attributes that answers can be controlled by, and how each is read: from a column, or from the answer itself."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from luhuo.align.rewards.config import RewardConfig, compiled
from luhuo.core.config import Config, field
from luhuo.core.language import tr
from luhuo.verify.script import LANGUAGES

SHOWN = r"^[^\s:：|<>][^\n:：|<>]{0,39}$"
"""What names and classes may look like: they stand in a line of text, and in the name of a token."""
CLASS = re.compile(SHOWN)


class Attribute(Config):
    """What all attributes share."""

    name: str = field(..., "What it is called in the control text.", "控制文本中的名称。", pattern=SHOWN)
    drop: float = field(
        0.1, "Share of the rows in which it is left out, so that it need not be given.", "省略该属性的行所占比例。",
        ge=0, lt=1,
    )  # fmt: skip

    @property
    def known(self) -> list[str]:
        """Its classes, as far as the configuration names them."""
        return []

    @model_validator(mode="after")
    def _fit_to_be_shown(self) -> Self:
        wrong = [name for name in self.known if not CLASS.match(name)]
        if wrong:
            raise ValueError(
                tr("classes are short, without : | < > and line breaks: ", "类名应简短，且不含 : | < > 与换行：")
                + ", ".join(wrong)
            )
        if len(set(self.known)) < len(self.known):
            raise ValueError(tr("two classes have the same name", "有两个类同名"))
        return self


class Binned(Attribute):
    """What the attributes share that are numbers: classes from low to high, with borders between them."""

    classes: list[str] = field(..., "Names of the classes, from low to high.", "各类名称，从低到高。", min_length=2)
    edges: list[float] = field(
        [],
        "Borders between them, each the least of the class above it; none: equally many rows in each.",
        "各类之间的界限，为上一类的下限；不设则各类行数相等。",
    )

    @property
    def known(self) -> list[str]:
        """See `Attribute.known`."""
        return self.classes

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if self.edges and (len(self.edges) != len(self.classes) - 1 or sorted(set(self.edges)) != self.edges):
            raise ValueError(
                tr("edges ascend, and are one fewer than the classes", "edges 须递增，且比 classes 少一个")
            )
        return self


class LengthAttribute(Binned):
    """The length of the answers of a row, on average."""

    kind: Literal["length"] = field("length", "The kind of attribute.", "属性类型。")
    name: str = field("length", "What it is called in the control text.", "控制文本中的名称。", pattern=SHOWN)
    classes: list[str] = field(
        ["short", "medium", "long"], "Names of the classes, from low to high.", "各类名称，从低到高。", min_length=2
    )
    unit: Literal["words", "characters"] = field(
        "words", "What is counted; a Chinese character is a word.", "计数单位；一个汉字算一个词。"
    )


class LanguageAttribute(Attribute):
    """The language of the answers, told by their script."""

    kind: Literal["language"] = field("language", "The kind of attribute.", "属性类型。")
    name: str = field("language", "What it is called in the control text.", "控制文本中的名称。", pattern=SHOWN)
    values: list[str] = field(["en", "zh"], "Languages that are told apart; others are unknown.", "区分的语言。")

    @property
    def known(self) -> list[str]:
        """See `Attribute.known`."""
        return self.values

    @model_validator(mode="after")
    def _spoken(self) -> Self:
        if not set(self.values) <= LANGUAGES.keys():
            raise ValueError(tr("known: ", "可用：") + ", ".join(LANGUAGES))
        return self


class PatternAttribute(Attribute):
    """The form of the answers: the first regular expression that the whole of every one of them matches."""

    kind: Literal["pattern"] = field("pattern", "The kind of attribute.", "属性类型。")
    patterns: dict[str, str] = field(..., "Classes with their expressions.", "各类及其正则表达式。", min_length=1)
    other: str = field("", "Class of what matches none; empty: unknown.", "都不匹配时的类；空：未知。")

    @property
    def known(self) -> list[str]:
        """See `Attribute.known`."""
        return [*self.patterns, *([self.other] if self.other else [])]

    @model_validator(mode="after")
    def _expressions(self) -> Self:
        for pattern in self.patterns.values():
            compiled(pattern)
        return self


class ColumnAttribute(Attribute):
    """What stands in a column: a label, or a number if `classes` are given."""

    kind: Literal["column"] = field("column", "The kind of attribute.", "属性类型。")
    key: str = field(
        ..., "The column, or a path into it: meta.style.", "列名，或其中的路径：meta.style。", min_length=1
    )
    values: list[str] = field(
        [], "Labels that count; others are unknown. None: all there are.", "有效标签，其余视为未知；不设则为全部。"
    )
    classes: list[str] = field(
        [], "The column is a number: names of classes, from low to high.", "该列为数值：各类名称，从低到高。"
    )
    edges: list[float] = field([], "Borders between the classes.", "各类之间的界限。")

    @property
    def known(self) -> list[str]:
        """See `Attribute.known`."""
        return self.classes or self.values

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.values and self.classes:
            raise ValueError(tr("values and classes exclude each other", "values 与 classes 不能同时给出"))
        if self.edges and not self.classes:
            raise ValueError(tr("edges need classes", "edges 须与 classes 同时给出"))
        if self.classes:
            Binned(name=self.name, classes=self.classes, edges=self.edges)
        return self


class RewardAttribute(Binned):
    """How good a reward finds the last answer of a row: the quality of SteerLM."""

    kind: Literal["reward"] = field("reward", "The kind of attribute.", "属性类型。")
    name: str = field("quality", "What it is called in the control text.", "控制文本中的名称。", pattern=SHOWN)
    classes: list[str] = field(
        ["low", "medium", "high"], "Names of the classes, from low to high.", "各类名称，从低到高。", min_length=2
    )
    reward: RewardConfig = field(..., "The reward: {kind: model, model: …}.", "奖励：{kind: model, model: …}。")


AttributeConfig = Annotated[
    LengthAttribute | LanguageAttribute | PatternAttribute | ColumnAttribute | RewardAttribute,
    Field(discriminator="kind"),
]
"""One attribute of a stage: `attributes: list[AttributeConfig]`."""


class AttributeList(Config):
    """Attributes by themselves, as they stand in control.json."""

    attributes: list[AttributeConfig] = field(..., "The attributes.", "属性列表。", min_length=1)

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [attribute.name for attribute in self.attributes]
        if len(set(names)) < len(names):
            raise ValueError(tr("two attributes have the same name", "有两个属性同名"))
        return self


def parse_attributes(values: Any, where: str | None = None) -> list[AttributeConfig]:
    """Attributes from plain values. Raises `LuhuoError` with all mistakes."""
    return AttributeList.parse({"attributes": values}, where).attributes
