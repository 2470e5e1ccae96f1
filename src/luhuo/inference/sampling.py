"""How the next token is chosen: the settings of one request. The arithmetic is in `sampler.py`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.core.language import tr


class OutputFormat(Config):
    """What the text of an answer must be: exactly one of these. `constraints.py` enforces it token by token."""

    json_schema: dict[str, Any] | bool | None = field(
        None, "JSON that this JSON Schema accepts.", "符合此 JSON Schema 的 JSON。"
    )
    json_object: bool = field(False, "Any JSON object.", "任意 JSON 对象。")
    regex: str | None = field(None, "Text that this regular expression matches.", "与此正则表达式完全匹配的文本。")
    choices: tuple[str, ...] = field((), "One of these texts.", "这些文本之一。")
    grammar: str | None = field(
        None, "Text of this grammar: Lark, or EBNF with `::=`.", "符合此文法的文本：Lark，或使用 `::=` 的 EBNF。"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [
            name
            for name in type(self).model_fields
            if getattr(self, name) is not None and getattr(self, name) not in (False, ())
        ]
        if self.json_schema is False:
            raise ValueError(tr("the schema `false` accepts nothing", "schema 为 false，什么都不接受"))
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            raise ValueError(tr(f"give exactly one of {names}", f"以下各项必须且只能给出一个：{names}"))
        return self


COLDEST = 1e-3
"""Below this temperature the best token has all the probability, and dividing by less overflows."""


class Sampling(Config):
    """Settings of one generation request. Temperature 0 (below `COLDEST`) is greedy."""

    max_tokens: int = field(256, "Most tokens to generate.", "最多生成的词元数。", ge=1)
    min_tokens: int = field(0, "Tokens before the answer may end.", "回答结束前至少生成的词元数。", ge=0)
    temperature: float = field(
        1.0, "Divides the logits; 0 takes the best token.", "除以对数几率；0 表示取最优词元。", ge=0, le=1e4
    )
    top_k: int = field(
        0, "Keep the k most probable tokens; 0 keeps all.", "只保留概率最高的 k 个词元；0 为全部。", ge=0
    )
    top_p: float = field(
        1.0, "Keep the most probable tokens that reach this mass.", "只保留累计概率达到此值的最可能词元。", gt=0, le=1
    )
    min_p: float = field(
        0.0,
        "Drop tokens below this share of the best one's probability.",
        "去掉概率低于最优词元此比例的词元。",
        ge=0,
        le=1,
    )
    typical_p: float = field(
        1.0,
        "Keep the tokens whose surprise is nearest the expected one, up to this mass.",
        "按信息量与期望最接近的顺序保留词元，直到累计概率达到此值。",
        gt=0,
        le=1,
    )
    top_n_sigma: float = field(
        0.0,
        "Drop logits further below the best than this many standard deviations; 0: none.",
        "去掉比最优对数几率低超过此倍标准差的词元；0 为不用。",
        ge=0,
    )
    repetition_penalty: float = field(
        1.0,
        "Above 1: tokens seen in prompt or answer become less likely.",
        "大于 1 时降低提示和回答中已出现词元的概率。",
        ge=0.05,
        le=20,
    )
    presence_penalty: float = field(
        0.0,
        "Taken off the logit of every token in the answer.",
        "从回答中已出现词元的对数几率中减去。",
        ge=-100,
        le=100,
    )
    frequency_penalty: float = field(
        0.0,
        "Taken off once for every time a token is in the answer.",
        "按词元在回答中出现的次数从对数几率中减去。",
        ge=-100,
        le=100,
    )
    logit_bias: dict[int, float] = field(
        {}, "Added to the logits of these token ids.", "加到这些词元编号的对数几率上。"
    )
    bad_words: tuple[str, ...] = field((), "Words whose tokens are never completed.", "永不生成的词语。")
    stop: tuple[str, ...] = field((), "Texts that end the answer; they are cut off.", "遇到即结束的文本（会被截去）。")
    stop_token_ids: tuple[int, ...] = field(
        (), "Token ids that end the answer; they are no text.", "遇到即结束的词元编号（不计入文本）。"
    )
    include_stop: bool = field(False, "Keep the stop text that ended the answer.", "在回答中保留触发结束的文本。")
    seed: int | None = field(
        None,
        "Equal seed and prompt give equal tokens; none: fresh chance.",
        "种子和提示相同则结果相同；不设则随机。",
        ge=0,
    )
    n: int = field(1, "Answers per prompt.", "每个提示的回答数。", ge=1)
    best_of: int | None = field(
        None,
        "Generate this many and return the `n` with the best mean log-probability.",
        "生成这么多个回答，返回平均对数概率最高的 n 个。",
        ge=1,
    )
    beams: int = field(1, "Beam search with this many beams; 1 is none.", "束搜索的束宽；1 为不用。", ge=1)
    length_penalty: float = field(
        1.0, "Beam search divides scores by length to this power.", "束搜索的得分除以长度的此次幂。"
    )
    early_stopping: bool | Literal["never"] = field(
        False,
        "Beam search: true stops at the first full set of answers, never searches to the end.",
        "束搜索：true 表示集齐回答即停；never 表示搜索到底。",
    )
    logprobs: int | None = field(
        None,
        "Report each token's log-probability and this many best ones.",
        "给出每个词元的对数概率及最优的若干个。",
        ge=0,
    )
    logprobs_mode: Literal["raw", "processed"] = field(
        "raw",
        "raw: of the model itself; processed: of the distribution that was sampled from.",
        "raw：模型本身的分布；processed：实际采样所用的分布。",
    )
    prompt_logprobs: int | None = field(
        None, "The same for the tokens of the prompt.", "对提示中的词元同样给出。", ge=0
    )
    echo: bool = field(False, "The text begins with the prompt.", "文本以提示开头。")
    ignore_eos: bool = field(False, "Go on behind an end token.", "遇到结束词元也继续。")
    show_special: bool = field(False, "Special tokens are part of the text.", "文本中保留特殊词元。")
    format: OutputFormat | None = field(None, "What the answer must be.", "回答必须符合的格式。")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(tr("min_tokens is above max_tokens", "min_tokens 大于 max_tokens"))
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(tr("best_of is below n", "best_of 小于 n"))
        if self.beams > 1 and self.n > self.beams:
            raise ValueError(tr("n is above the number of beams", "n 大于束宽"))
        if self.beams > 1 and self.format is not None:
            raise ValueError(tr("beam search takes no output format", "束搜索不支持输出格式"))
        if "" in self.stop:
            raise ValueError(tr("an empty text cannot be a stop string", "空文本不能作为停止串"))
        if any(value != value for value in self.logit_bias.values()):
            raise ValueError(tr("a logit bias is not a number", "logit_bias 的值不是数字"))
        return self

    @property
    def greedy(self) -> bool:
        """Whether chance plays no part."""
        return self.temperature < COLDEST

    @property
    def rounds(self) -> int:
        """Answers to generate: `best_of`, or `n`."""
        return self.best_of or self.n

    @property
    def edits(self) -> bool:
        """Whether logits are changed by what was written before or by a list of tokens."""
        return bool(
            self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.logit_bias
            or self.bad_words
            or self.min_tokens
        )
