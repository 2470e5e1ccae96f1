"""Stages `corpus` (raw text to documents) and `shards` (documents to tokens)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class SourceConfig(Config):
    """One source of text."""

    name: str = field(..., "Name in reports and documents.", "在报告和文档中的名称。", pattern=r"^[\w.-]+$")
    path: Input = field(..., "File, folder or reference (pypi:, hf:, ms:).", "文件、目录或引用（pypi:、hf:、ms:）。")
    lang: Literal["auto", "zh", "en"] = field(
        "auto", "Language; auto: each record's own, else by its script.", "语言；auto：取记录自带的，否则按文字判断。"
    )
    licence: str = field("unknown", "Licence of the text, as an SPDX name.", "文本许可证（SPDX 名称）。")
    text_field: str = field(
        "text",
        "Field of the text in JSON, CSV or Parquet; dots go deeper.",
        "JSON、CSV、Parquet 中正文的字段；点号进入下层。",
    )
    encoding: str = field("utf-8", "Encoding of the files; auto: told from each file.", "文件编码；auto：按文件判断。")
    max_mb: float | None = field(
        None, "Stop after this much text, in MB of UTF-8.", "读到这么多文本（UTF-8 MB）为止。", gt=0
    )
    min_chars: int = field(
        1, "Shorter documents go to quarantine, in characters.", "更短的文档进隔离区，单位字符。", ge=1
    )
    piece_chars: int | None = field(
        None, "Cut longer documents at paragraph borders, in characters.", "更长的文档在段落处切开，单位字符。", ge=100
    )
    valid: float = field(0.01, "Share of documents for validation.", "验证集文档比例。", ge=0, lt=1)
    test: float = field(0.01, "Share of documents for testing.", "测试集文档比例。", ge=0, lt=1)
    presplit: bool = field(
        False,
        "The folder holds train, valid and test files; keep that split.",
        "目录已有 train、valid、test 文件，沿用其划分。",
    )


class CorpusStage(Stage):
    """Read, normalise, deduplicate and split raw text."""

    version: ClassVar[int] = 1

    sources: list[SourceConfig] = field(..., "Where the text comes from.", "文本来源。", min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> CorpusStage:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        return self

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.build import build

        build(self.sources, self.seed, out)

    def disk_bytes(self) -> int:
        return 50_000_000 + sum(int((s.max_mb or 50) * 2e6) for s in self.sources)


class ShardsStage(Stage):
    """Tokenise a corpus into memory-mapped shards."""

    version: ClassVar[int] = 1

    corpus: Input = field(..., "Result of a corpus stage.", "corpus 阶段的产物。")
    tokenizer: Input = field(..., "Folder with a tokenizer.", "分词器目录。")
    weights: dict[str, float] = field(
        {},
        "How often a source is repeated in training (2.5: twice, and half of it once more).",
        "各来源在训练集中重复的次数（2.5：两遍，外加一半再一遍）。",
    )
    shard_mb: int = field(256, "Size of one shard file, in MB.", "单个分片文件大小，单位 MB。", ge=1)

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.shards import write_shards

        write_shards(self, out)

    def disk_bytes(self) -> int:
        from pathlib import Path

        size = sum(f.stat().st_size for f in Path(self.corpus).glob("documents/*.zst")) if self.corpus else 0
        return 10_000_000 + int(3 * size * max(1.0, *self.weights.values()) if self.weights else 3 * size)
