"""How the next token is chosen: the settings of one request. The arithmetic is in `sampler.py`."""

from __future__ import annotations

from luhuo.core.config import Config, field


class Sampling(Config):
    """Settings of one generation request. Temperature 0 is greedy."""

    max_tokens: int = field(256, "Most tokens to generate.", "最多生成的词元数。", ge=1)
    temperature: float = field(
        1.0, "Divides the logits; 0 takes the best token.", "除以对数几率；0 表示取最优词元。", ge=0
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
    repetition_penalty: float = field(
        1.0, "Above 1: tokens seen before become less likely.", "大于 1 时降低已出现词元的概率。", gt=0
    )
    stop: tuple[str, ...] = field((), "Texts that end the answer; they are cut off.", "遇到即结束的文本（会被截去）。")
    seed: int | None = field(
        None,
        "Equal seed and prompt give equal tokens; none: fresh chance.",
        "种子和提示相同则结果相同；不设则随机。",
        ge=0,
    )
    n: int = field(1, "Answers per prompt.", "每个提示的回答数。", ge=1)
    logprobs: int | None = field(
        None,
        "Report each token's log-probability and this many best ones.",
        "给出每个词元的对数概率及最优的若干个。",
        ge=0,
    )
    ignore_eos: bool = field(False, "Go on behind an end token.", "遇到结束词元也继续。")

    @property
    def greedy(self) -> bool:
        """Whether chance plays no part."""
        return self.temperature == 0
