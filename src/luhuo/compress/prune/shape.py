"""The sizes that are asked for, checked against the model before any work is done."""

from __future__ import annotations

from dataclasses import dataclass

from luhuo.compress.prune.config import SmallerShape
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig


@dataclass(frozen=True)
class Wanted:
    """All sizes of the smaller model; those that stay are the whole model's."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    intermediate_size: int


def wanted(shape: SmallerShape, whole: ModelConfig) -> Wanted:
    """What the shape asks of this model. Raises `LuhuoError` where it asks for more, for nothing, or for something
    that cannot be taken out of this architecture."""
    for name in ("layers", "hidden_size", "heads", "kv_heads", "intermediate_size"):
        asked, there = getattr(shape, name), getattr(whole, name)
        if asked is not None and asked > there:
            raise LuhuoError(
                tr("Pruning makes a model smaller, not larger.", "剪枝只能把模型变小。"),
                expected=f"{name} ≤ {there}",
                found=asked,
                where=name,
            )
    heads, kv_heads = _heads(shape, whole)
    found = Wanted(
        shape.layers or whole.layers,
        shape.hidden_size or whole.hidden_size,
        heads,
        kv_heads,
        shape.intermediate_size or whole.intermediate_size,
    )
    if found == Wanted(whole.layers, whole.hidden_size, whole.heads, whole.kv_heads, whole.intermediate_size):
        raise LuhuoError(
            tr("The shape asks for nothing that the model is not already.", "所给形状与模型现有形状相同。"),
            expected=tr("a smaller size of at least one part", "至少有一项更小"),
            where="prune",
            fix="layers=…, intermediate_size=…, heads=…, hidden_size=…",
        )
    _check_layers(found, whole)
    _check_width(found, whole)
    return found


def _heads(shape: SmallerShape, whole: ModelConfig) -> tuple[int, int]:
    """Query and key heads. Raises `LuhuoError` for numbers that make no equal groups within the present ones."""
    each = whole.heads // whole.kv_heads
    heads = shape.heads or (whole.heads if shape.kv_heads is None else shape.kv_heads * each)
    options = [n for n in range(whole.kv_heads, 0, -1) if heads % n == 0 and heads // n <= each]
    kv_heads = shape.kv_heads or (options[0] if options else 0)
    if kv_heads not in options:
        possible = sorted({groups * n for groups in range(1, whole.kv_heads + 1) for n in range(1, each + 1)})
        told = f"heads={heads}, kv_heads={options}" if options else f"heads={possible}"
        raise LuhuoError(
            tr("These heads cannot be taken out evenly.", "无法均匀地取出这些头。"),
            expected=tr(
                f"whole groups of at most {each} query heads, each as large: {told}",
                f"若干同样大小的组，每组至多 {each} 个查询头：{told}",
            ),
            found=f"heads={heads}" if shape.kv_heads is None else f"heads={heads}, kv_heads={shape.kv_heads}",
            where="prune",
        )
    return heads, kv_heads


def _check_layers(found: Wanted, whole: ModelConfig) -> None:
    if found.layers < whole.layers and (whole.kv_share > 1 or whole.query_block):
        reason = tr("layers share keys and values", "多层共用键值") if whole.kv_share > 1 else "query_block"
        raise _cannot(tr("layers", "层"), reason)


def _check_width(found: Wanted, whole: ModelConfig) -> None:
    """Raise `LuhuoError` where heads, channels or features are bound to something that cannot be cut."""
    plain = {
        tr("latent attention (MLA)", "潜在注意力（MLA）"): whole.mla is not None,
        tr("linear attention", "线性注意力"): bool(whole.linear_layers),
        tr("keys shared by layers", "多层共用键值"): whole.kv_share > 1,
        tr("records", "记录"): whole.record is not None,
        "query_block": whole.query_block,
        "root_scaled": whole.root_scaled,
    }
    of_heads = plain | {
        "ALiBi": bool(whole.alibi_slopes),
        tr("a norm over all heads together", "跨头的归一化"): whole.qk_norm == "full",
    }
    of_width = plain | {
        tr("experts", "专家"): whole.moe is not None,
        tr("sinusoidal positions", "正弦位置"): whole.positions == "sinusoidal",
    }
    checks = [
        (found.heads < whole.heads, tr("heads", "头"), of_heads),
        (found.hidden_size < whole.hidden_size, tr("features", "特征"), of_width),
        (
            found.intermediate_size < whole.intermediate_size,
            tr("channels", "通道"),
            {tr("experts", "专家"): whole.moe is not None, "root_scaled": whole.root_scaled},
        ),
    ]
    for asked, what, reasons in checks:
        bound = [name for name, holds in reasons.items() if holds]
        if asked and bound:
            raise _cannot(what, ", ".join(bound))


def _cannot(what: str, reason: str) -> LuhuoError:
    return LuhuoError(
        tr(f"The {what} of this architecture cannot be pruned.", f"无法裁剪该架构的{what}。"),
        found=reason,
        where="prune",
        fix=tr(
            "Prune other sizes, or single weights (method=wanda).", "请裁剪其他尺寸，或裁剪单个权重（method=wanda）。"
        ),
    )
