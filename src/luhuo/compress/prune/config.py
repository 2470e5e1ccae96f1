"""The shape a model is pruned to."""

from __future__ import annotations

from luhuo.core.config import Config, field


class SmallerShape(Config):
    """Sizes of the smaller model; what is not given stays."""

    layers: int | None = field(None, "Layers that stay.", "保留的层数。", ge=1)
    hidden_size: int | None = field(None, "Features of the residual stream that stay.", "残差流中保留的特征数。", ge=1)
    heads: int | None = field(None, "Query heads that stay in each layer.", "每层保留的查询头数。", ge=1)
    kv_heads: int | None = field(
        None,
        "Key and value heads that stay, each with as many query heads; by default as many as heads allow.",
        "每层保留的键值头数，各带同样多的查询头；默认在 heads 允许的范围内尽量多。",
        ge=1,
    )
    intermediate_size: int | None = field(
        None, "Inner channels of the MLPs that stay.", "前馈层保留的内部通道数。", ge=1
    )

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return all(getattr(self, name) is None for name in type(self).model_fields)
