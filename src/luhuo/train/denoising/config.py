"""Settings of the objectives of pretraining, one class each."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import model_validator

from luhuo.core.config import Config, Input, field

ObjectiveName = Literal["causal", "masked", "span", "infilling", "prefix", "fim"]


class MaskedConfig(Config):
    """Masked language modelling (Devlin et al. 2019, section 3.1)."""

    layout: Literal["modernbert", "bert"] = field("modernbert", "Architecture of a new encoder.", "新建编码器的架构。")
    rate: float = field(
        0.3,
        "Share of the tokens to predict: BERT 0.15, ModernBERT 0.3.",
        "要预测的词元比例：BERT 0.15，ModernBERT 0.3。",
        gt=0,
        lt=1,
    )
    masked: float = field(0.8, "Share of them replaced by the mask.", "其中替换为掩码的比例。", ge=0, le=1)
    random: float = field(
        0.1,
        "Share of them replaced by a random token; the rest stays.",
        "其中替换为随机词元的比例；其余不变。",
        ge=0,
        le=1,
    )
    whole_words: bool = field(
        False, "The tokens of one word are masked together, Chinese words too.", "同一个词的词元一起遮蔽，中文按词。"
    )
    relation: Literal["none", "next", "order"] = field(
        "none",
        "Second task of pairs of texts: is it the next (BERT), or are they in order (ALBERT); layout bert.",
        "文本对任务：是否为下文（BERT），或顺序是否正确（ALBERT）；需 layout=bert。",
    )

    @model_validator(mode="after")
    def _fits(self) -> MaskedConfig:
        if self.masked + self.random > 1:
            raise ValueError("masked and random together are more than 1")
        if self.relation != "none" and self.layout != "bert":
            raise ValueError("relation needs layout: bert, which has a head for it")
        return self


class SpanConfig(Config):
    """Span corruption (Raffel et al. 2020, section 3.1.4), or UL2's mixture of it (Tay et al. 2022, table 1)."""

    rate: float = field(0.15, "Share of the tokens taken out.", "被取出的词元比例。", gt=0, lt=1)
    mean: float = field(3.0, "Mean length of a span, in tokens.", "片段平均长度（词元）。", ge=1)
    mixture: bool = field(
        False,
        "UL2: short and long spans, and endings, each text with the token of its kind.",
        "UL2：混合短片段、长片段与续写，并以词元标明种类。",
    )


class InfillingConfig(Config):
    """Text infilling (Lewis et al. 2020, section 2.2): spans become one mask each; the whole text is written."""

    rate: float = field(0.3, "Share of the tokens taken out.", "被取出的词元比例。", gt=0, lt=1)
    mean: float = field(3.0, "Mean of the spans' Poisson lengths.", "片段长度的泊松均值。", gt=0)
    permute: float = field(
        1.0, "Share of the texts whose sentences are put in random order.", "打乱句子顺序的文本比例。", ge=0, le=1
    )


class PrefixConfig(Config):
    """Prefix language modelling and blank infilling (Du et al. 2022, section 2.1)."""

    middle: float = field(
        0.5,
        "Share of the texts whose part to write lies inside instead of at the end.",
        "空缺在文本中间（而非结尾）的比例。",
        ge=0,
        le=1,
    )


class FimConfig(Config):
    """Fill-in-the-middle (Bavarian et al. 2022, section 3)."""

    rate: float = field(0.5, "Share of the texts that are rearranged.", "重排的文本比例。", ge=0, le=1)
    spm: float = field(
        0.5, "Share of those in the order suffix, prefix, middle.", "其中采用后缀、前缀、中间次序的比例。", ge=0, le=1
    )
    split: Literal["characters", "tokens"] = field(
        "characters",
        "Where a text may be cut: at every character, or between tokens.",
        "切分位置：任意字符，或词元之间。",
    )


class ReplayConfig(Config):
    """Old text among the new, against forgetting (Ibrahim et al. 2024)."""

    shards: Input = field(..., "Shards of the old text, of the same tokenizer.", "旧文本的分片（同一分词器）。")
    share: float = field(0.1, "Share of the rows that are old.", "旧文本的行所占比例。", gt=0, lt=1)


class Objectives(Config):
    """What is learned from the text: one objective, and the settings of each kind."""

    objective: ObjectiveName = field(
        "causal",
        "causal (a decoder: the next token), masked (an encoder), span or infilling (an encoder-decoder), prefix or "
        "fim (a decoder that fills gaps).",
        "causal（解码器：下一词元）、masked（编码器）、span 或 infilling（编码器-解码器）、"
        "prefix 或 fim（会填空的解码器）。",
    )
    masked: MaskedConfig = field(MaskedConfig(), "Of objective masked.", "masked 目标的设置。")
    span: SpanConfig = field(SpanConfig(), "Of objective span.", "span 目标的设置。")
    infilling: InfillingConfig = field(InfillingConfig(), "Of objective infilling.", "infilling 目标的设置。")
    prefix: PrefixConfig = field(PrefixConfig(), "Of objective prefix.", "prefix 目标的设置。")
    fim: FimConfig = field(FimConfig(), "Of objective fim.", "fim 目标的设置。")
    replay: ReplayConfig | None = field(None, "Old text mixed in, against forgetting.", "混入旧文本以防遗忘。")

    @model_validator(mode="after")
    def _settings_have_effect(self) -> Self:
        for name in get_args(ObjectiveName):
            if name not in ("causal", self.objective) and getattr(self, name) != type(getattr(self, name))():
                raise ValueError(f"settings of {name} have no effect with objective: {self.objective}")
        return self
