"""Rule rewards and their sum: what a completion is worth to PPO, GRPO and rejection sampling."""

from luhuo.align.rewards.combine import Rewards, Scores
from luhuo.align.rewards.config import Reward, RewardConfig, parse_rewards
from luhuo.align.rewards.score import CompletionInfo, Failure, Item, Mark

__all__ = [
    "CompletionInfo",
    "Failure",
    "Item",
    "Mark",
    "Reward",
    "RewardConfig",
    "Rewards",
    "Scores",
    "parse_rewards",
]
