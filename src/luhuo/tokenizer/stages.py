"""Stage `tokenizer`: train a tokenizer on a corpus and measure it on held-out text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class TokenizerStage(Stage):
    """Train a tokenizer."""

    version: ClassVar[int] = 1

    corpus: Input = field(..., "Result of a corpus stage.", "corpus 阶段的产物。")
    kind: Literal["byte_bpe", "bpe", "wordpiece", "unigram"] = field(
        "byte_bpe", "Kind of model; byte_bpe can write every text.", "模型种类；byte_bpe 能表示任何文本。"
    )
    vocab_size: int = field(16384, "Number of tokens, special ones included.", "词元数，含特殊词元。", ge=300)
    max_mb: float = field(
        50.0, "Text to learn from, balanced between languages, in MB.", "训练用文本量（各语言均衡），MB。", gt=0
    )
    han_run: int = field(4, "Longest piece of Han characters.", "汉字片段的最大长度。", ge=1, le=16)
    digit_run: int = field(1, "Longest piece of digits.", "数字片段的最大长度。", ge=1, le=3)
    min_frequency: int = field(2, "A merge must be seen this often.", "合并至少出现这么多次。", ge=1)

    def run(self, out: Workspace) -> None:
        from luhuo.tokenizer.build import build

        build(self, out)
