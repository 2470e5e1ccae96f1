"""Settings of fine-tuning that are more than one value."""

from __future__ import annotations

from typing import Literal

from luhuo.core.config import Config, Input, field


class DataSet(Config):
    """One of several data sets."""

    path: Input = field(..., "File, folder or glob.", "文件、目录或通配。")
    weight: float = field(
        1.0,
        "How often a conversation of it is seen in an epoch: 2 twice, 0.5 every second epoch.",
        "其中每条对话在一遍中出现的次数：2 为两次，0.5 为隔一遍一次。",
        gt=0,
        le=1000,
    )
    limit: int = field(
        0, "Rows that are read of it, from the front; 0: all.", "只读其最前面这么多行；0 为全部。", ge=0
    )


class RopeStretch(Config):
    """How rotary positions are stretched to a longer context."""

    type: Literal["yarn", "linear", "llama3"] = field("yarn", "yarn, linear or llama3.", "yarn、linear 或 llama3。")
    factor: float = field(..., "How many times longer the context becomes.", "上下文拉长的倍数。", gt=1)
    original: int | None = field(
        None,
        "Context the model was made for; by default what its config.json says.",
        "模型原本的上下文长度；默认取其 config.json 所写。",
        ge=1,
    )
