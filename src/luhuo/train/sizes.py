"""One dial sizes everything: from a number of parameters follow shape, batch, learning rate and tokens, each with a
reason. Every value can be overridden; the others then follow from what is left."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.count import parameters
from luhuo.model.count_stack import total

UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
ANCHOR = 3e6
"""The size at which batch and learning rate were tuned (docs/diary.md)."""


class Experts(Config):
    """Experts in place of the MLP: small ones, some shared by all tokens (DeepSeekMoE, Dai et al. 2024), routed and
    balanced as in DeepSeek-V3 (2024, section 2.1.2)."""

    experts: int = field(..., "Routed experts.", "路由专家数。", ge=1)
    active: int = field(..., "Of these, those each token is sent to.", "每个词元使用的路由专家数。", ge=1)
    shared: int = field(1, "Experts that all tokens use.", "所有词元共用的专家数。", ge=0)
    intermediate_size: int = field(..., "Inner width of one expert.", "单个专家的内部宽度。", ge=1)
    dense_layers: int = field(1, "First layers with a plain MLP.", "最前面使用普通前馈的层数。", ge=0)
    balance: float = field(1e-4, "Weight of the balancing loss within a sequence.", "序列内均衡损失的权重。", ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.active > self.experts:
            raise ValueError("active must not exceed experts")
        return self

    def of(self, layers: int) -> MoEConfig:
        """The same as part of a model of so many layers."""
        return MoEConfig(
            experts=self.experts,
            active=self.active,
            intermediate_size=self.intermediate_size,
            shared_size=self.shared * self.intermediate_size,
            score="sigmoid",
            correction=True,
            group_score="top2",
            dense_layers=tuple(range(min(self.dense_layers, layers))),
            balance=self.balance,
            balance_over="sequence",
        )


class Shape(Config):
    """Parts of the architecture set by hand; what is not set follows from the size."""

    layers: int | None = field(None, "Number of blocks.", "层数。", ge=1)
    hidden_size: int | None = field(None, "Width of the residual stream.", "残差流的宽度。", ge=2)
    heads: int | None = field(None, "Query heads.", "查询头数。", ge=1)
    kv_heads: int | None = field(None, "Key and value heads; divides heads.", "键值头数，须整除 heads。", ge=1)
    head_dim: int | None = field(None, "Size of one head; even.", "每个头的维度，须为偶数。", ge=2, multiple_of=2)
    intermediate_size: int | None = field(None, "Inner width of the MLP.", "前馈层的内部宽度。", ge=1)
    rope_theta: float = field(10_000.0, "Base of the rotary frequencies.", "旋转位置编码的基数。", gt=0)
    moe: Experts | None = field(None, "Mixture of experts.", "混合专家。")
    mla: MLAConfig | None = field(
        None, "Multi-head latent attention; with experts only.", "多头潜在注意力；须与混合专家同用。"
    )
    mtp_layers: int = field(
        0, "Blocks that predict further tokens; with experts only.", "多词元预测层数；须与混合专家同用。", ge=0
    )

    @model_validator(mode="after")
    def _published(self) -> Self:
        if self.moe is None and (self.mla is not None or self.mtp_layers):
            raise ValueError("mla and mtp_layers go with moe: no published layout has them alone")
        if self.mla is not None and (self.kv_heads or self.head_dim):
            raise ValueError("mla itself says how large a head is; leave kv_heads and head_dim out")
        return self


@dataclass(frozen=True)
class Derived:
    """What a size comes to."""

    model: ModelConfig
    length: int
    """Tokens a row."""
    batch: int
    """Tokens a step."""
    learning_rate: float
    tokens: int
    reasons: dict[str, str]

    def of(self, model: ModelConfig) -> Derived:
        """The same plan for a model that exists already."""
        why = tr("the given model's", "由给定模型决定")
        shape = {name: why for name in self.reasons if name in type(model).model_fields or name == "parameters"}
        return replace(self, model=model, reasons=self.reasons | shape)

    def table(self) -> str:
        """One line a value: name, value, reason."""
        values = self.model.model_dump() | {
            "parameters": total(self.model),
            "length": self.length,
            "batch": self.batch,
            "learning_rate": self.learning_rate,
            "tokens": self.tokens,
        }
        return "\n".join(f"  {name:<18} {values[name]:>13,}  {why}" for name, why in self.reasons.items())


def parse_size(size: str | int | float) -> float:
    """Number of parameters of "3m", "1.5b" or a plain number. Raises `LuhuoError` otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb]?)", str(size).strip().lower())
    if not found or float(found[1]) <= 0:
        raise LuhuoError(
            tr("This is not a model size.", "这不是模型规模。"), expected="3m, 10m, 30m, 100m, 300m, 1b, …", found=size
        )
    return float(found[1]) * UNITS.get(found[2], 1)


def derive(
    size: str | int | float,
    vocab_size: int,
    *,
    shape: Shape | None = None,
    length: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    tokens: int | None = None,
    optimiser: str = "muon",
) -> Derived:
    """Everything a pretraining run needs, for about `size` parameters including the embedding."""
    target, shape = parse_size(size), shape or Shape()
    given = {"length": length, "batch": batch, "learning_rate": learning_rate, "tokens": tokens, **shape.model_dump()}
    ratio = 32 * (target / ANCHOR) ** 0.2
    model = _model(target, ratio, vocab_size, shape)
    length = length or next(
        n for limit, n in ((5e6, 256), (3e7, 512), (2e8, 1024), (math.inf, 2048)) if target <= limit
    )
    model = model.model_copy(update={"max_positions": max(2048, length)})
    batch = batch or length * max(1, 2 ** round(math.log2(4096 * (target / ANCHOR) ** 0.7 / length)))
    anchor = LEARNING_RATE * STEPS.get(optimiser, 1.0)
    rate = learning_rate or float(f"{anchor * (target / ANCHOR) ** -0.35:.2g}")
    count = sum(parameters(model).values())
    reasons = _reasons(ratio, target) | {"learning_rate": _reason_for_rate(optimiser)}
    reasons |= {name: tr("set by hand", "手工设定") for name in reasons if given.get(name)}
    return Derived(model, length, batch, rate, tokens or 20 * count, reasons)


LEARNING_RATE = 4e-3
"""Best of the probes at the anchor size with Muon's RMS-matched updates."""
STEPS = {"lion": 0.2, "lion8": 0.2, "adafactor": 0.2}
"""Learning rate relative to Muon's and AdamW's: the root mean square of their updates is 0.2 to 0.4, of these 1."""


def _model(target: float, ratio: float, vocab_size: int, shape: Shape) -> ModelConfig:
    """The shape nearest to `target` parameters, and among near ones to the wanted width per layer."""
    best: tuple[float, ModelConfig] | None = None
    for layers in [shape.layers] if shape.layers else range(2, 65):
        for hidden in [shape.hidden_size] if shape.hidden_size else _widths(layers * ratio):
            model = _complete(layers, hidden, vocab_size, shape)
            miss = abs(math.log(sum(parameters(model).values()) / target))
            cost = miss + 0.15 * abs(math.log(hidden / layers / ratio))
            if best is None or cost < best[0]:
                best = cost, model
    assert best is not None
    return best[1]


def _widths(around: float) -> range:
    """Candidate widths: multiples of 32 (of 64 and 128 when larger), within a factor of two."""
    step = 32 if around <= 512 else 64 if around <= 1024 else 128
    low = max(step, int(around / 2) // step * step)
    return range(low, max(low + step, int(around * 2)), step)


def _complete(layers: int, hidden: int, vocab_size: int, shape: Shape) -> ModelConfig:
    head_dim = shape.head_dim or next(d for limit, d in ((96, 32), (1536, 64), (math.inf, 128)) if hidden <= limit)
    heads = shape.heads or max(4, hidden // head_dim)
    kv_heads = shape.kv_heads or max(k for k in range(1, heads + 1) if heads % k == 0 and 2 * k <= heads)
    values: dict[str, Any] = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    if shape.moe is not None:
        values |= {"family": "glm4_moe", "moe": shape.moe.of(layers), "mtp_layers": shape.mtp_layers}
    if shape.mla is not None:
        size = shape.mla.nope_dim + shape.mla.rope_dim
        values |= {"family": "deepseek_v3", "mla": shape.mla, "qk_norm": "none", "kv_heads": heads, "head_dim": size}
    return ModelConfig.parse(
        {
            "vocab_size": vocab_size,
            "hidden_size": hidden,
            "layers": layers,
            "intermediate_size": shape.intermediate_size or max(64, round(hidden * 8 / 3 / 64) * 64),
            "rope": {"theta": shape.rope_theta},
            **values,
        },
        where="shape",
    )


def _reasons(ratio: float, target: float) -> dict[str, str]:
    return {
        "parameters": tr(f"nearest to {target:,.0f}, embedding included", f"最接近 {target:,.0f}（含嵌入）"),
        "vocab_size": tr("the tokenizer's", "由分词器决定"),
        "layers": tr(
            f"width / depth near {ratio:.0f}, growing with size^0.2", f"宽深比约 {ratio:.0f}，随规模的 0.2 次方增长"
        ),
        "hidden_size": tr("with the layers, gives the parameters", "与层数一起凑足参数量"),
        "head_dim": tr("64 up to width 1536, then 128 (32 below 96)", "宽度 1536 以内 64，再大 128（96 以下 32）"),
        "heads": tr("width / head_dim, at least 4", "宽度 / head_dim，至少 4"),
        "kv_heads": tr("at most half of the heads: a small cache at little loss", "至多为头数的一半：缓存小而损失少"),
        "intermediate_size": tr("8/3 of the width: SwiGLU has three matrices", "宽度的 8/3：SwiGLU 有三个矩阵"),
        "length": tr(
            "256 up to 5m, 512 to 30m, 1024 to 200m, then 2048", "5m 以内 256，30m 以内 512，200m 以内 1024，再大 2048"
        ),
        "batch": tr("4,096 tokens at 3m, growing with size^0.7", "3m 时 4,096 词元，随规模的 0.7 次方增长"),
        "tokens": tr("20 a parameter (Hoffmann et al. 2022)", "每参数 20 词元（Hoffmann 等 2022）"),
    }


def _reason_for_rate(optimiser: str) -> str:
    steps = STEPS.get(optimiser, 1.0)
    why = tr(
        f"{LEARNING_RATE} at 3m with muon (tuned), falling with size^-0.35",
        f"3m 时 muon 取 {LEARNING_RATE}（实测），随规模的 -0.35 次方下降",
    )
    if steps == 1:
        return why
    return why + tr(
        f"; {optimiser}: {steps} of it, its steps are larger", f"；{optimiser} 取其 {steps} 倍，因其步子更大"
    )
