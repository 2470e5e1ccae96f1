"""Learning-rate schedules: pure functions of the step, as a factor of the peak."""

from __future__ import annotations

import math

from luhuo.train.config import TrainerConfig


def warm_steps(config: TrainerConfig) -> int:
    """Steps of warm-up: `warmup_steps`, or the share `warmup` of all."""
    return round(config.steps * config.warmup) if config.warmup_steps is None else config.warmup_steps


def factor(step: int, config: TrainerConfig) -> float:
    """The learning rate of step 0 … steps - 1 relative to its peak.

    Warm-up is linear and starts above zero. Then: `constant`; `linear` and `cosine` fall to `floor` over the rest;
    `inverse_sqrt` falls with the root of the step, not below `floor` (Vaswani et al. 2017); `wsd` (warmup, stable,
    decay; Hu et al. 2024, MiniCPM) stays at the peak and falls in the last `decay` share of the steps, linearly or
    with `decay_shape` sqrt as 1 - √progress (Hägele et al. 2024, section 3). The last step is still above `floor`.
    """
    warm = warm_steps(config)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "inverse_sqrt":
        return max(config.floor, math.sqrt(max(1, warm) / (step + 1)))
    start = max(warm, round(config.steps * (1 - config.decay))) if config.schedule == "wsd" else warm
    progress = max(0, step - start + 1) / max(1, config.steps - start + 1)
    if config.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "wsd" and config.decay_shape == "sqrt":
        left = 1 - math.sqrt(progress)
    else:
        left = 1 - progress
    return config.floor + (1 - config.floor) * left
