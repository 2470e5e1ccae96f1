"""Stages `annotate` (raw text to records with signals) and `filter` (records to a corpus, by rules)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage
from luhuo.corpus.decontaminate.rules import Rules as Leaks
from luhuo.corpus.signals.stages import SignalModels

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace

Executor = Literal["inline", "process", "ray"]


class RawSource(Config):
    """One source of raw text."""

    name: str = field(..., "Name in reports and documents.", "在报告和文档中的名称。", pattern=r"^[\w.-]+$")
    path: Input = field(..., "File, folder or reference (pypi:, hf:, ms:).", "文件、目录或引用（pypi:、hf:、ms:）。")
    lang: str = field(
        "auto",
        "Language code; auto: told from each text.",
        "语言代码；auto：按每篇文本判断。",
        pattern=r"^(auto|[a-z]{2,3})$",
    )
    licence: str = field("unknown", "Licence of the text, as an SPDX name.", "文本许可证（SPDX 名称）。")
    text_field: str = field(
        "text",
        "Field of the text in JSON, CSV or Parquet; dots go deeper.",
        "JSON、CSV、Parquet 中正文的字段；点号进入下层。",
    )
    encoding: str = field("auto", "Encoding of the files; auto: told from each file.", "文件编码；auto：按文件判断。")
    share: float = field(
        1.0, "Share of the documents that is read, chosen by their hash.", "读取的文档比例，按哈希选取。", gt=0, le=1
    )
    max_chars: int = field(
        1_000_000,
        "Longer documents are divided at paragraph borders, in characters.",
        "更长的文档在段落处切开，单位字符。",
        ge=1000,
    )


class Benchmark(Config):
    """An evaluation set to look for; a path alone will do where its fields have usual names."""

    path: Input = field(..., "File or folder with its items.", "题目所在的文件或目录。")
    question: list[str] | None = field(None, "Fields of the question.", "题目所在字段。")
    answer: list[str] | None = field(None, "Fields of the answer.", "答案所在字段。")
    context: list[str] | None = field(None, "Fields of a passage.", "材料所在字段。")
    options: list[str] | None = field(None, "Fields of the options.", "选项所在字段。")
    id: list[str] | None = field(None, "Fields of the item's name.", "题号所在字段。")

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class AnnotateStage(Stage):
    """Read raw text, normalise it, tell its language, and measure it. Nothing is deleted."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True

    sources: list[RawSource] = field(..., "Where the text comes from.", "文本来源。", min_length=1)
    signals: list[str] | None = field(
        None, "Families of signals to measure (null: all).", "要测量的信号族（null：全部）。"
    )
    models: SignalModels = field(SignalModels(), "Trained models that measure as well.", "同时用于测量的已训练模型。")
    benchmarks: dict[str, Benchmark] = field(
        {}, "Evaluation sets to look for in the text, by name.", "要在文本中查找的评测集，按名称给出。"
    )
    leaks: Leaks = field(Leaks(), "What counts as an item in a text.", "怎样算作文本中含有题目。")
    privacy: bool = field(True, "Look for personal data.", "查找个人信息。")
    unit_mb: float = field(16, "Input of a work unit, in MB.", "一个工作单元的输入大小，单位 MB。", gt=0)
    script: Literal["keep", "Hans", "Hant"] = field(
        "keep",
        "Convert Chinese to simplified or traditional characters; the original script is recorded.",
        "把中文转换为简体或繁体；会记录原字形。",
    )
    executor: Executor = field(
        "process",
        "inline: in this process; process: workers here; ray: a cluster.",
        "inline：本进程；process：本机多进程；ray：集群。",
        watch=True,
    )
    workers: int = field(0, "Worker processes (0: one a core).", "工作进程数（0：每核一个）。", ge=0, watch=True)
    record_s: float = field(
        300,
        "A document that takes longer is left out, in seconds.",
        "处理超过该秒数的文档会被跳过。",
        gt=0,
        watch=True,
    )

    @model_validator(mode="after")
    def _names_differ(self) -> AnnotateStage:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        return self

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.factory.annotate import annotate

        annotate(self, out)

    def disk_bytes(self) -> int:
        return 1_000_000_000


class Limits(Config):
    """What a signal may be."""

    min: float | None = field(None, "Smallest value that is kept.", "保留的最小值。")
    max: float | None = field(None, "Largest value that is kept.", "保留的最大值。")


class FilterStage(Stage):
    """Decide by rules which records are kept, replace personal data, split, and write a corpus."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True

    annotated: Input = field(..., "Result of an annotate stage.", "annotate 阶段的产物。")
    duplicates: Input | None = field(
        None, "Result of a deduplicate stage over it.", "对其运行 deduplicate 阶段的产物。"
    )
    standard: bool = field(True, "Apply the rules that come with Luhuo.", "应用炉火自带的规则。")
    rules: dict[str, dict[str, Limits | None]] = field(
        {},
        "Limits by language and signal, over those that come with Luhuo; null takes a rule away.",
        "按语言和信号给出的阈值，覆盖内置规则；null 表示去掉该规则。",
    )
    languages: list[str] | None = field(
        None, "Languages that are kept (null: all).", "保留的语言（null：全部）。", min_length=1
    )
    scripts: list[Literal["Hans", "Hant", "mixed"]] | None = field(
        None, "Scripts of Chinese that are kept (null: all).", "保留的中文字形（null：全部）。", min_length=1
    )
    min_chars: int = field(1, "Shorter documents are dropped, in characters.", "更短的文档会被丢弃，单位字符。", ge=1)
    leaks: Literal["drop", "keep"] = field(
        "drop", "What becomes of documents that hold benchmark items.", "含有评测题目的文档如何处理。"
    )
    privacy: Literal["placeholder", "synthetic", "drop", "keep"] = field(
        "placeholder", "What becomes of personal data.", "个人信息如何处理。"
    )
    privacy_key: str = field(
        "",
        "Environment variable that holds the secret of synthetic values: whoever knows it can try values out.",
        "存放合成值密钥的环境变量名：知道密钥的人可以逐个试值。",
    )
    valid: float = field(0.01, "Share of documents for validation.", "验证集文档比例。", ge=0, lt=1)
    test: float = field(0.01, "Share of documents for testing.", "测试集文档比例。", ge=0, lt=1)
    executor: Executor = field(
        "process",
        "inline: in this process; process: workers here; ray: a cluster.",
        "inline：本进程；process：本机多进程；ray：集群。",
        watch=True,
    )
    workers: int = field(0, "Worker processes (0: one a core).", "工作进程数（0：每核一个）。", ge=0, watch=True)

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.factory.filter import filter_records

        filter_records(self, out)

    def disk_bytes(self) -> int:
        from pathlib import Path

        return 50_000_000 + 3 * sum(f.stat().st_size for f in Path(self.annotated).glob("records/*.zst"))
