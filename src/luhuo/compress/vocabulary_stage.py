"""The stage `trim-vocabulary`: a model without the tokens that a language or domain does not use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class TrimVocabularyStage(Stage):
    """Keep the tokens that texts use, and drop the others from tokenizer, embedding and output matrix (Abdaoui et al.
    2020, "Load What You Need"). A text that needs a dropped token is written with smaller ones; one that needs none
    gets the same tokens as before, and the same logits for them."""

    model: Input = field(..., "Model directory or reference.", "模型目录或引用。")
    data: list[Input] = field(
        ...,
        "Texts whose tokens are kept: files, corpora, shards or conversations.",
        "据以保留词元的文本：文件、语料、分片或对话。",
        min_length=1,
    )
    test: list[Input] = field(
        [], "Further texts to measure on (default: those of data).", "另用于测量的文本（默认即 data）。"
    )
    coverage: float = field(
        0.9999,
        "Share of the tokens in data that stay as they are; 1: all.",
        "data 中保持原样的词元占比；1 为全部。",
        gt=0,
        le=1,
    )
    min_count: int = field(1, "Tokens seen less often are dropped.", "出现次数少于此值的词元被删去。", ge=1)
    size: int | None = field(None, "Most tokens to keep, whatever the coverage.", "最多保留的词元数。", ge=1)
    texts: int = field(
        0, "At most so many texts of each input are read; 0: all.", "每项输入最多读取的文本数；0 为全部。", ge=0
    )

    def run(self, out: Workspace) -> None:
        """Write the smaller model directory and `vocabulary.json`: sizes, and tokens per character by language."""
        from luhuo.compress.vocabulary import trim_stage

        trim_stage(self, out)
