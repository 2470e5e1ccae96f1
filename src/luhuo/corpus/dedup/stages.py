"""The stage `deduplicate`: which records of an annotate artifact repeat others, wholly or in part."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from luhuo.core.config import Config, Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace

Executor = Literal["inline", "process", "ray"]


class Near(Config):
    """Documents that are nearly equal."""

    method: Literal["minhash", "simhash"] = field(
        "minhash",
        "How candidates are found; simhash takes less space and finds only what is nearly equal.",
        "候选的查找方法；simhash 占用更小，但只能找到几乎相同的文档。",
    )
    pieces: Literal["characters", "words"] = field(
        "characters",
        "Pieces that are compared: 5 or 6 characters in any language; or, outside Chinese and its like, 5 words.",
        "比较的片段：任何语言都用 5 或 6 个字符；或在中文等之外用 5 个单词。",
    )
    threshold: float = field(
        0.5,
        "Jaccard similarity of the pieces from which at least 95% of the pairs become candidates.",
        "片段的 Jaccard 相似度达到此值时，至少 95% 的文档对成为候选。",
        ge=0.3,
        lt=1,
    )
    similarity: float = field(
        0.88,
        "A candidate is a duplicate if this share of its characters agrees (1 - edits / length).",
        "候选文档对中有这一比例的字符一致（1 - 编辑数 / 长度）即为重复。",
        gt=0.5,
        le=1,
    )
    jaccard: float = field(
        0.8,
        "Or if the true Jaccard similarity of the pieces is at least this: parts moved, added or taken away.",
        "或片段的真实 Jaccard 相似度至少为此值：移动、增加或删去了部分内容。",
        gt=0.3,
        le=1,
    )
    min_columns: int = field(
        100,
        "Shorter documents are only compared exactly; a Chinese character counts as two.",
        "更短的文档只做精确比较；一个汉字算两个。",
        ge=12,
    )

    @cached_property
    def bands(self) -> tuple[int, int]:
        """(bands, rows) of MinHash for the threshold."""
        from luhuo.corpus.dedup.minhash import choose_bands

        return choose_bands(self.threshold)


class Repeats(Config):
    """Paragraphs or lines that occur again and again."""

    min_columns: int = field(
        ..., "Shorter ones are left alone; a Chinese character counts as two.", "更短的不处理；一个汉字算两个。", ge=2
    )
    times: int = field(..., "Occurrences from which they are cut.", "出现多少次起删去。", ge=2)
    keep: Literal[0, 1] = field(
        1, "1: one occurrence stays, in the best document; 0: none does.", "1：在最优文档中保留一处；0：一处也不保留。"
    )


class Substrings(Config):
    """Exactly repeated spans that keep to no borders."""

    tokens: int = field(
        50, "Shortest span, in words (Chinese: characters).", "最短的片段，单位为词（中文为字）。", ge=10, le=1000
    )


class Semantic(Config):
    """Documents that say the same in other words (SemDeDup, Abbas et al. 2023)."""

    embeddings: Input = field(
        ...,
        "Folder with UNIT.npy, one row a record in the order of the records.",
        "含有 UNIT.npy 的目录，每条记录一行，顺序与记录一致。",
    )
    threshold: float = field(0.95, "Cosine from which two are the same.", "余弦相似度达到此值视为相同。", gt=0, le=1)
    clusters: int = field(
        0, "Clusters of k-means (0: the root of the number of records).", "k-means 的簇数（0：记录数的平方根）。", ge=0
    )


class DeduplicateStage(Stage):
    """Find exact, near, partial and semantic duplicates among annotated records. Nothing is deleted: verdicts."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True

    annotated: Input = field(..., "Result of an annotate stage.", "annotate 阶段的产物。")
    priority: list[str] = field(
        [],
        "Names of sources, best first: of duplicates the one from the best source is kept; then the longest.",
        "来源名称，优先者在前：重复文档中保留来自最优来源的，其次保留最长的。",
    )
    across: bool = field(True, "Compare documents of different sources too.", "也比较不同来源的文档。")
    near: Near | None = field(Near(), "Near duplicates (null: exact ones only).", "近似重复（null：只做精确去重）。")
    paragraphs: Repeats | None = field(
        Repeats(min_columns=100, times=3),
        "Paragraphs that repeat across documents are cut (null: never).",
        "跨文档重复的段落会被删去（null：不处理）。",
    )
    lines: Repeats | None = field(
        None,
        "Lines that repeat across documents are cut, such as notices at their ends (null: never; not for code).",
        "跨文档重复的行会被删去，如页首页尾的声明（null：不处理；不宜用于代码）。",
    )
    substrings: Substrings | None = field(
        None,
        "Repeated spans are cut wherever they begin and end (null: never).",
        "任意位置的重复片段会被删去（null：不处理）。",
    )
    semantic: Semantic | None = field(
        None, "Compare embeddings made before (null: never).", "比较事先算好的嵌入向量（null：不处理）。"
    )
    executor: Executor = field(
        "process",
        "inline: in this process; process: workers here; ray: a cluster.",
        "inline：本进程；process：本机多进程；ray：集群。",
        watch=True,
    )
    workers: int = field(0, "Worker processes (0: one a core).", "工作进程数（0：每核一个）。", ge=0, watch=True)

    @model_validator(mode="after")
    def _names_differ(self) -> DeduplicateStage:
        if len(set(self.priority)) < len(self.priority):
            raise ValueError("a source is named twice in priority")
        return self

    def run(self, out: Workspace) -> None:
        from luhuo.corpus.dedup.deduplicate import deduplicate

        deduplicate(self, out)

    def disk_bytes(self) -> int:
        from pathlib import Path

        return 50_000_000 + 8 * sum(f.stat().st_size for f in Path(self.annotated).glob("records/*.zst"))
