"""The shape a model is pruned to."""

from __future__ import annotations

from luhuo.core.config import Config, field


class SmallerShape(Config):
    """Sizes of the smaller model; what is not given stays."""

    layers: int | None = field(
        None,
        "structured: layers that stay; what is not given stays as it is.",
        "structured：保留的层数；未给出的尺寸不变。",
        ge=1,
    )
    hidden_size: int | None = field(
        None, "structured: features of the residual stream that stay.", "structured：残差流中保留的特征数。", ge=1
    )
    heads: int | None = field(
        None, "structured: query heads that stay in each layer.", "structured：每层保留的查询头数。", ge=1
    )
    kv_heads: int | None = field(
        None,
        "structured: key and value heads that stay, each with as many query heads; by default as many as heads allow.",
        "structured：每层保留的键值头数，各带同样多的查询头；默认在 heads 允许的范围内尽量多。",
        ge=1,
    )
    intermediate_size: int | None = field(
        None, "structured: inner channels of the MLPs that stay.", "structured：前馈层保留的内部通道数。", ge=1
    )

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that are given."""
        values = {name: getattr(self, name) for name in SmallerShape.model_fields}
        return {name: value for name, value in values.items() if value is not None}
