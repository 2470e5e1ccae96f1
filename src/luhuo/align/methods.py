"""Policy gradients without a critic: what each method of the family decides, in one table.

All sample a group of answers to each prompt, compare scores, and follow the clipped surrogate of PPO (Schulman et al.
2017) with ratio ρ = π/π_old. They differ in four choices:

- *baseline*: what a score is compared with (`advantages.py`);
- *ratio*: of each token; of the sequence, as the geometric mean of its tokens'; or of the sequence, as their product;
- *normaliser*: what the sum over tokens is divided by. A mean over each sequence first ("sequence") makes a long wrong
  answer cheap for each of its tokens; the mean over all tokens of the batch ("tokens") does not; nor does a constant
  ("constant"), which moreover does not depend on what was sampled;
- *clip*: how far the ratio may go below and above 1.

`grpo`: Shao et al. 2024, "DeepSeekMath", section 4.1. `dr_grpo`: Liu et al. 2025, "Understanding R1-Zero-like
training". `dapo`: Yu et al. 2025. `gspo`: Zheng et al. 2025. `rloo`: Ahmadian et al. 2024, "Back to basics".
`reinforce++` and `reinforce++-baseline`: Hu 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """The choices of one method; those that a stage's config may override are its defaults."""

    baseline: Literal["standardised", "centred", "leave_one_out", "none"]
    ratio: Literal["token", "sequence", "product"] = "token"
    normaliser: Literal["sequence", "tokens", "constant"] = "sequence"
    clip_low: float = 0.2
    clip_high: float = 0.2
    whiten: bool = False
    """Advantages are then whitened over the whole batch."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the distance to the reference counts: with a gradient of its own, or as part of what is earned."""
    attempts: int = 1
    """Of dynamic sampling; 1: groups that teach nothing stay."""
    mask_truncated: bool = False
    """Answers that were cut off are no targets."""
    least_samples: int = 2
    """Answers a prompt; with one there is nothing to compare it with, and every advantage would be zero."""


METHODS: dict[str, Method] = {
    "grpo": Method("standardised"),
    "dr_grpo": Method("centred", normaliser="constant"),
    "dapo": Method("standardised", normaliser="tokens", clip_high=0.28, attempts=10, mask_truncated=True),
    # The ratio of a sequence moves a hundred times less than those of its tokens: so does the clip (section 5.1).
    "gspo": Method("standardised", ratio="sequence", clip_low=3e-4, clip_high=4e-4),
    "rloo": Method("leave_one_out", ratio="product", kl_in="reward"),
    "reinforce++": Method("none", normaliser="tokens", whiten=True, kl_in="reward", least_samples=1),
    "reinforce++-baseline": Method("centred", normaliser="tokens", whiten=True),
}
