"""Healthy ranges of what a reinforcement run tells, and plain words for what left them.

Each rule looks at one number; it speaks when the number has been outside its range for `PATIENCE` steps in a row (or
at once, where one step is proof enough), and again only after it was back inside. The ranges are where runs of others
were seen to go well (notes of verl and Axolotl on the stability of GRPO, and the KL of PPO in Huang et al. 2024); they
are no laws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from luhuo.core.language import tr
from luhuo.core.progress import say

PATIENCE = 5
NEAR = 0.1
"""A first loss nearer to 0 than this is explained: people ask whether it is broken."""


@dataclass(frozen=True)
class Rule:
    """A number's healthy range, what it means to leave it, and how many steps of that are enough to say so."""

    name: str
    low: float
    high: float
    en: str
    zh: str
    patience: int = PATIENCE

    def outside(self, value: float) -> bool:
        """Whether a value lies outside of the range."""
        return not self.low <= value <= self.high

    @property
    def words(self) -> str:
        """What it means, in the user's language."""
        return tr(self.en, self.zh)


RULES = (
    Rule(
        "kl",
        -0.02,
        math.inf,
        "KL to the reference is negative: what was sampled is not what is scored; check temperature, top-k and top-p.",
        "与参考模型的 KL 为负：采样的分布与评分的分布不一致；请检查 temperature、top-k 与 top-p。",
    ),
    Rule(
        "kl",
        -math.inf,
        10.0,
        "KL to the reference is large: the policy has left what it knew; raise kl or lower the learning rate.",
        "与参考模型的 KL 很大：策略已偏离原有能力；请增大 kl 或降低学习率。",
    ),
    Rule(
        "approx_kl",
        -math.inf,
        0.1,
        "The policy moves far within a round: lower the learning rate, or take fewer updates a round.",
        "策略在一轮之内变化过大：请降低学习率，或减少每轮的更新次数。",
    ),
    Rule(
        "entropy",
        0.05,
        math.inf,
        "Entropy is nearly zero: the samples of a prompt become equal and nothing more is learned; raise temperature "
        "or clip_high, or lower the learning rate.",
        "熵接近 0：同一提示的样本趋于相同，不再有可学的内容；请提高 temperature 或 clip_high，或降低学习率。",
    ),
    Rule(
        "clip_share",
        -math.inf,
        0.3,
        "Many tokens are clipped: lower the learning rate, or take fewer updates a round.",
        "被裁剪的词元过多：请降低学习率，或减少每轮的更新次数。",
    ),
    Rule(
        "ratio",
        0.9,
        1.1,
        "The mean ratio of new to old policy is not near 1: old log-probabilities and samples do not belong together.",
        "新旧策略概率比的均值偏离 1：旧的对数概率与样本不对应。",
    ),
    Rule(
        "sampler_gap",
        -math.inf,
        0.1,
        "Sampler and trainer disagree about log-probabilities: use the same number format in both, or set correction.",
        "采样与训练计算出的对数概率不一致：请使用相同的数值格式，或设置 correction。",
        patience=1,
    ),
    Rule(
        "zero_variance",
        -math.inf,
        0.8,
        "In most groups all scores are equal, which teaches nothing: the prompts are too easy or too hard; choose "
        "others or raise samples.",
        "多数组内得分全部相同，学不到东西：提示过易或过难；请更换提示或增大 samples。",
    ),
    Rule(
        "truncated",
        -math.inf,
        0.3,
        "Many answers are cut off at max_tokens: their scores say little; raise max_tokens.",
        "许多回答在 max_tokens 处被截断：其得分意义不大；请增大 max_tokens。",
    ),
    Rule(
        "length_correlation",
        -0.5,
        0.5,
        "Within groups the score goes with the length: the policy may be learning to be long (or short), not "
        "to be right.",
        "组内得分与长度高度相关：策略可能在学习写长（或写短），而非答对。",
    ),
    Rule(
        "unscored",
        -math.inf,
        0.1,
        "More than a tenth of the samples could not be scored: they are left out; look at the rewards.",
        "超过一成的样本无法评分，已被略去；请检查奖励。",
        patience=1,
    ),
    Rule(
        "explained_variance",
        -0.5,
        math.inf,
        "The critic foresees less than the mean would: warm it up longer, or raise its learning rate.",
        "价值网络的预测不如均值：请延长其预热，或提高其学习率。",
    ),
)


class Health:
    """Looks at the metrics of step after step, and says once what is wrong."""

    def __init__(self, tell: Callable[[str], None] = say) -> None:
        self.tell = tell
        self._outside: dict[Rule, int] = {}
        self._begun = False

    def look(self, metrics: Mapping[str, float]) -> list[Rule]:
        """Say and return the rules that speak at this step. Rules whose number is not there wait."""
        begun, self._begun = self._begun, True
        if not begun and abs(metrics.get("loss", 0.0)) < NEAR:
            self.tell(
                tr(
                    "A loss near 0 at the start is right: the ratio is 1 and advantages sum to 0; watch the reward.",
                    "开始时损失接近 0 是正常的：概率比为 1，优势之和为 0；请看奖励。",
                )
            )
        spoken = []
        for rule in RULES:
            value = metrics.get(rule.name)
            if value is None or math.isnan(value):
                continue
            count = self._outside.get(rule, 0) + 1 if rule.outside(value) else 0
            self._outside[rule] = count
            if count == rule.patience:
                self.tell(f"{rule.words} ({rule.name} = {value:.3g})")
                spoken.append(rule)
        return spoken
