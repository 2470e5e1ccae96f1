"""What counts as a leak."""

from __future__ import annotations

from luhuo.core.config import Config, field


class Rules(Config):
    """Thresholds of decontamination."""

    share: float = field(
        0.8,
        "Share of the words and Han characters of an item that must stand in the text, in their order.",
        "题目的词与汉字须按顺序出现在文本中的比例。",
        gt=0,
        le=1,
    )
    gram_share: float = field(
        0.8,
        "The same beside a run of `words` or `han` without a change; 0: such a run is enough.",
        "另有一段 words 或 han 长的无改动片段时的比例；0 表示有这样一段即可。",
        ge=0,
        le=1,
    )
    words: int = field(13, "Words of such a run.", "该片段的词数。", ge=8, le=100)
    han: int = field(13, "Han characters of such a run.", "该片段的汉字数。", ge=8, le=100)
    common: int = field(
        10,
        "Runs that stand in more items of a benchmark than this are no evidence.",
        "在同一评测集中出现于更多题目的片段不作为证据。",
        ge=1,
    )
