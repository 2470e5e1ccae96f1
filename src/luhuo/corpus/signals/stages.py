"""Stages that train the models of signals: `ngram-lm` and `text-classifier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


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
