"""The rewards a stage can be given: `rewards: [{kind: exact, weight: 1.0}, {kind: format, tags: [think, answer]}]`.

Each class says what one kind of reward needs and opens its scorer; `open` imports the working module, so that reading
a configuration stays fast.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from luhuo.core.config import Config, Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.sandbox.limits import Limits

if TYPE_CHECKING:
    from luhuo.align.rewards.score import Scorer

Extraction = Literal["strict", "lenient"]


class Reward(Config, abc.ABC):
    """What all rewards share."""

    weight: float = field(1.0, "What its value is multiplied by in the sum.", "求和时的权重。", allow_inf_nan=False)
    name: str = field("", "Its name in the logs; empty: the kind.", "日志中的名字；空：用 kind。")

    @property
    def label(self) -> str:
        """The name under which it is logged."""
        return self.name or str(getattr(self, "kind", ""))

    @abc.abstractmethod
    def open(self) -> Scorer:
        """The scorer of this reward, ready for use."""


class ReadReward(Reward):
    """What the rewards share that read an answer out of a reply."""

    extraction: Extraction = field(
        "strict",
        "Which reading of the reply counts; both are logged. strict: the stated answer; lenient: anywhere in it.",
        "以哪种读法计分；两种都会记录。strict：明确给出的答案；lenient：回答中任意位置。",
    )


class AnswerReward(ReadReward):
    """What the rewards share that compare a reply with a gold answer."""

    key: str = field("answer", "Where the gold answer stands in a prompt's row.", "标准答案在数据行中的键。")


class ExactReward(AnswerReward):
    """1 if the reply's answer equals the gold answer (or one of several), else 0."""

    kind: Literal["exact"] = field("exact", "The kind of reward.", "奖励类型。")

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.answers import exact

        return exact(self)


class NumberReward(AnswerReward):
    """1 if the reply's number equals the gold number (fractions, percent, Chinese numerals are read too), else 0."""

    kind: Literal["number"] = field("number", "The kind of reward.", "奖励类型。")
    tolerance: float = field(1e-6, "Relative difference allowed.", "允许的相对误差。", ge=0)

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.answers import number

        return number(self)


class CheckReward(ReadReward):
    """1 if the reply passes the check of a world item (`check` in the row), else 0."""

    kind: Literal["check"] = field("check", "The kind of reward.", "奖励类型。")

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.answers import check

        return check(self)


class FormatReward(Reward):
    """1 if the reply has the form asked for, else 0."""

    kind: Literal["format"] = field("format", "The kind of reward.", "奖励类型。")
    tags: tuple[str, ...] = field(
        (), "Blocks the reply consists of, in this order, each once.", "回答须由这些标签块依次组成，各一次。"
    )
    opened: str | None = field(None, "The tag that the prompt has opened already.", "提示词结尾已经打开的标签。")
    pattern: str = field("", "A regular expression for the whole reply.", "整个回答须匹配的正则表达式。")

    @model_validator(mode="after")
    def _one_form(self) -> FormatReward:
        if bool(self.tags) == bool(self.pattern):
            raise ValueError(tr("give either tags or pattern", "tags 与 pattern 须给出且只给出一个"))
        if self.opened is not None and (not self.tags or self.opened != self.tags[0]):
            raise ValueError(tr("opened must be the first of tags", "opened 须是 tags 中的第一个"))
        compiled(self.pattern)
        return self

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.form import layout

        return layout(self)


class LanguageReward(Reward):
    """The share of the words of a reply, or of its reasoning, that are in the language wanted, 0 to 1."""

    kind: Literal["language"] = field("language", "The kind of reward.", "奖励类型。")
    language: str = field(
        "question",
        "A language (en, zh, …), or question: the one that is asked in.",
        "语言（en、zh 等），或 question：与提问相同。",
    )
    part: Literal["all", "reasoning", "answer"] = field("all", "What is looked at.", "检查的部分：全部、推理或回答。")
    at_least: float | None = field(
        None,
        "1 if the share is at least this, else 0; null: the share itself.",
        "占比达到此值得 1，否则 0；null：直接用占比。",
        gt=0,
        le=1,
    )

    @model_validator(mode="after")
    def _known(self) -> LanguageReward:
        from luhuo.verify.script import LANGUAGES

        if self.language not in ("question", *LANGUAGES):
            raise ValueError(tr("known: question, ", "可用：question、") + ", ".join(LANGUAGES))
        return self

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.form import language

        return language(self)


class LengthReward(Reward):
    """1 within a band of lengths, falling to 0 outside."""

    kind: Literal["length"] = field("length", "The kind of reward.", "奖励类型。")
    low: int = field(0, "The shortest length with full reward.", "满分的最短长度。", ge=0)
    high: int = field(..., "The longest length with full reward.", "满分的最长长度。", ge=1)
    unit: Literal["tokens", "words"] = field(
        "tokens", "What is counted; a Chinese character is a word.", "计数单位；一个汉字算一个词。"
    )

    @model_validator(mode="after")
    def _ordered(self) -> LengthReward:
        if self.low > self.high:
            raise ValueError(tr("low must not be above high", "low 不能大于 high"))
        return self

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.form import length

        return length(self)


class OverlongReward(Reward):
    """Soft punishment of overlong replies (DAPO): 0, then falling to -1 over the last `margin` tokens."""

    kind: Literal["overlong"] = field("overlong", "The kind of reward.", "奖励类型。")
    limit: int = field(
        0, "Tokens at which it is -1; 0: the most that are sampled.", "到达 -1 的词元数；0：采样上限。", ge=0
    )
    margin: int = field(..., "Tokens before the limit over which it falls.", "在上限之前多少词元内逐渐下降。", ge=0)

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.form import overlong

        return overlong(self)


class RepetitionReward(Reward):
    """Minus the share of repeated n-grams, 0 to -1."""

    kind: Literal["repetition"] = field("repetition", "The kind of reward.", "奖励类型。")
    n: int = field(4, "Words of an n-gram; a Chinese character is a word.", "n 元组的词数；一个汉字算一个词。", ge=1)

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.form import repetition

        return repetition(self)


class MathReward(AnswerReward):
    """1 if the reply's answer is mathematically equal to the gold answer (1/2 = 0.5, x+1 = 1+x, sets), else 0.

    Numbers are compared here; everything else by the package math-verify (`pip install 'luhuo[math]'`), in the
    sandbox, because it evaluates what a model wrote. Without the package only numbers can be scored.
    """

    kind: Literal["math"] = field("math", "The kind of reward.", "奖励类型。")
    seconds: float = field(20.0, "Longest time for one comparison.", "单次比较的最长秒数。", gt=0)

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.mathematics import mathematics

        return mathematics(self)


class SchemaReward(ReadReward):
    """1 if the reply is JSON that keeps a schema, else 0. Needs `pip install 'luhuo[schema]'`."""

    kind: Literal["schema"] = field("schema", "The kind of reward.", "奖励类型。")
    json_schema: dict[str, Any] | None = field(
        None, "The schema for all prompts; null: each row has its own.", "所有提示共用的 schema；null：各行自带。"
    )
    key: str = field("schema", "Where a row has its schema.", "数据行中 schema 的键。")

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.answers import schema

        return schema(self)


class CodeReward(ReadReward):
    """The reply's Python program, tried on the row's test cases in the sandbox: 1 if all pass, else 0."""

    kind: Literal["code"] = field("code", "The kind of reward.", "奖励类型。")
    key: str = field("tests", "Where the test cases stand in a row (docs/sandbox.md).", "测试用例在数据行中的键。")
    partial: bool = field(False, "The share of cases passed instead of 1 or 0.", "用通过比例代替 0/1。")
    limits: Limits = field(Limits(), "What a program may use in each case.", "每个用例的资源上限。")
    packages: bool = field(False, "Installed packages can be imported.", "可导入已安装的软件包。")
    weak: bool = field(
        False, "Run it also where protections are missing (`luhuo doctor`).", "缺少防护时也运行（见 luhuo doctor）。"
    )
    workers: int = field(0, "Programs tried at the same time; 0: one a core.", "同时测试的程序数；0：每核一个。", ge=0)

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.code import code

        return code(self)


class FunctionReward(Reward):
    """A function of yours: `def reward(item, text, info) -> float | None` in a Python file. The file is run."""

    kind: Literal["function"] = field("function", "The kind of reward.", "奖励类型。")
    file: Input = field(..., "The Python file.", "Python 文件。")
    function: str = field("reward", "The function's name in it.", "文件中的函数名。")

    @property
    def label(self) -> str:
        """The name under which it is logged: the function's, if it was given none."""
        return self.name or self.function

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.function import function

        return function(self)


class HttpReward(Reward):
    """The rewards that a server of yours gives: it is sent {"items": […], "completions": […]} and answers
    {"rewards": […]}, numbers or null (does not apply)."""

    kind: Literal["http"] = field("http", "The kind of reward.", "奖励类型。")
    url: str = field(..., "Where it is sent (POST).", "发送地址（POST）。", pattern=r"^https?://")
    key_from: str = field(
        "", "Environment variable with a bearer token for the server.", "存放服务器令牌的环境变量名。"
    )
    batch: int = field(64, "Completions in one request.", "每个请求的回答数。", ge=1)
    seconds: float = field(60.0, "Longest time for one answer.", "单次应答的最长秒数。", gt=0)
    tries: int = field(3, "Tries before a request counts as failed.", "请求失败前的尝试次数。", ge=1)

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.server import server

        return server(self)


class ModelReward(Reward):
    """The score of a reward model: made by the stage `reward`, or any published one with one label."""

    kind: Literal["model"] = field("model", "The kind of reward.", "奖励类型。")
    model: Input = field(..., "The reward model.", "奖励模型。")
    tokens: int = field(16384, "Most tokens scored at once.", "一次打分的最多词元数。", ge=1)
    dtype: str = field("fp32", "Number format: fp32, bf16, fp16 or auto.", "数值格式：fp32、bf16、fp16 或 auto。")
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")

    def open(self) -> Scorer:
        """See `Reward.open`."""
        from luhuo.align.rewards.model import model

        return model(self)


RewardConfig = Annotated[
    ExactReward
    | NumberReward
    | MathReward
    | CheckReward
    | SchemaReward
    | CodeReward
    | FormatReward
    | LanguageReward
    | LengthReward
    | OverlongReward
    | RepetitionReward
    | FunctionReward
    | HttpReward
    | ModelReward,
    Field(discriminator="kind"),
]
"""One reward of a stage: `rewards: list[RewardConfig]`."""


class RewardList(Config):
    """Rewards by themselves, as they stand in a file."""

    rewards: list[RewardConfig] = field(..., "The rewards.", "奖励列表。", min_length=1)


def parse_rewards(values: list[dict[str, Any]], where: str | None = None) -> list[Reward]:
    """Rewards from plain values. Raises `LuhuoError` with all mistakes."""
    return list(RewardList.parse({"rewards": values}, where).rewards)


def compiled(pattern: str) -> None:
    """Raise ValueError with a readable reason where a pattern is no regular expression."""
    import re

    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(tr(f"no regular expression: {error}", f"不是正则表达式：{error}")) from None


def labels(rewards: list[Reward]) -> list[str]:
    """The names of the rewards. Raises `LuhuoError` if two are equal: their logs would run together."""
    names = [reward.label for reward in rewards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LuhuoError(
            tr("Two rewards have the same name.", "有两个奖励同名。"),
            found=", ".join(twice),
            fix=tr("Give one of them another `name`.", "请给其中一个设置不同的 `name`。"),
        )
    return names
