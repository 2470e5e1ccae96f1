"""Stages that train the models of signals: `ngram-lm` and `text-classifier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class SignalModels(Config):
    """Trained models whose signals are measured beside the others."""

    perplexity: list[Input] = field(
        [],
        "Results of ngram-lm, one a language (perplexity.char).",
        "ngram-lm 的产物，每种语言一个（perplexity.char）。",
    )
    quality: dict[str, Input] = field(
        {}, "Language: result of text-classifier (quality.score).", "语言：text-classifier 的产物（quality.score）。"
    )
    harmful: dict[str, Input] = field(
        {},
        "Language: result of text-classifier trained on harmful text (harmful.score).",
        "语言：以有害文本训练的 text-classifier 产物（harmful.score）。",
    )


class NgramLmStage(Stage):
    """Train a character n-gram model, whose perplexity is a signal (`perplexity.char`)."""

    version: ClassVar[int] = 1

    corpus: Input = field(
        ..., "Clean text: a corpus artifact (stage corpus or filter).", "干净文本：corpus 或 filter 阶段的产物。"
    )
    lang: str = field(..., "Language of the texts to take.", "取哪种语言的文本。", pattern=r"^[a-z]{2,3}$")
    order: int = field(
        5,
        "Length of the n-grams; 5 has room for 4,094 different characters, 4 for 65,534.",
        "n-gram 的长度；5 可容纳 4094 个不同字符，4 可容纳 65534 个。",
        ge=2,
        le=6,
    )
    size: int = field(
        1_000_000, "n-grams of each order that are kept, about.", "每一阶大约保留的 n-gram 数。", ge=1000
    )
    max_mb: float = field(32.0, "Text to count at most, in MB of UTF-8.", "最多统计的文本（UTF-8 MB）。", gt=0)

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.signals.perplexity import train

        train(self, out)

    def disk_bytes(self) -> int:
        return 10_000_000 + 24 * self.size * self.order


class TextClassifierStage(Stage):
    """Train a classifier of texts (hashed n-grams, logistic regression), whose score is a signal."""

    version: ClassVar[int] = 1

    data: list[Input] = field(
        ..., "Labelled texts (jsonl, csv, parquet).", "带标签的文本（jsonl、csv、parquet）。", min_length=1
    )
    test: list[Input] = field(
        [], "Texts that are only measured; none: a part of the data.", "仅用于测量的文本；不给则取数据的一部分。"
    )
    positive: str = field("good", "The label whose probability is the score.", "以哪个标签的概率为分数。")
    text_field: str = field("text", "Field of the text.", "正文字段。")
    label_field: str = field("label", "Field of the label.", "标签字段。")
    ngrams: int = field(
        2, "Longest n-gram of words or Chinese characters.", "词（中文为字）n-gram 的最大长度。", ge=1, le=6
    )
    letters: int = field(
        4, "Length of character sequences across words (0: none).", "跨词字符序列的长度（0：不用）。", ge=0, le=8
    )
    bits: int = field(18, "2 to this many weights.", "权重数为 2 的这么多次方。", ge=10, le=24)
    epochs: int = field(6, "Passes over the texts.", "遍历文本的次数。", ge=1)
    rate: float = field(0.3, "Learning rate of AdaGrad.", "AdaGrad 的学习率。", gt=0)
    l2: float = field(1e-4, "Weight decay.", "权重衰减。", ge=0)
    balanced: bool = field(True, "Count both kinds alike.", "两类同等计权。")
    max_chars: int = field(20_000, "Characters of a text that are read.", "每篇文本读取的字符数。", ge=10)
    held_out: float = field(
        0.1,
        "Share of the data for calibration, and as much for the test.",
        "用于校准的数据比例；测试也取同样多。",
        gt=0,
        lt=0.4,
    )

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.signals.classifier_train import train

        train(self, out)
