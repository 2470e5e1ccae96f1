"""The shape of a new model for an objective: a decoder, an encoder or an encoder-decoder of about the wanted size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.count_stack import total
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.train.sizes import Derived, Shape

AnyConfig = ModelConfig | EncoderConfig | EncoderDecoderConfig
WINDOW = 64
"""Tokens on each side that ModernBERT's layers see, but for every third (Warner et al. 2024, section 2.1.2)."""


def reshaped(plan: Derived, layout: str, shape: Shape, **fixed: Any) -> Derived:
    """The plan of a decoder, with a model of another layout (`LAYOUTS`) of nearly as many parameters.

    `fixed` are fields of its config: the vocabulary's size and special ids. What is set in `shape` stays.
    """
    build = LAYOUTS[layout]
    target, ratio = total(plan.model), plan.model.hidden_size / plan.model.layers
    if shape.kv_heads is not None or (
        shape.head_dim is not None and layout in ("bert", "modernbert", "bart", "chatglm")
    ):
        raise LuhuoError(
            tr("This part of the shape has no effect on this architecture.", "该形状参数对此架构无效。"),
            found=f"shape.{'kv_heads' if shape.kv_heads is not None else 'head_dim'}, {layout}",
            fix=tr("Leave it out.", "请去掉它。"),
        )
    best: tuple[float, AnyConfig] | None = None
    for layers in [shape.layers] if shape.layers else range(2, 65):
        for hidden in [shape.hidden_size] if shape.hidden_size else _widths(layers * ratio):
            model = build(layers, hidden, plan.length, shape, fixed)
            miss = abs(math.log(total(model) / target))
            cost = miss + 0.15 * abs(math.log(hidden / layers / ratio))
            if best is None or cost < best[0]:
                best = cost, model
    assert best is not None
    kept = ("parameters", "vocab_size", "length", "batch", "learning_rate", "tokens")
    reasons = {name: why for name, why in plan.reasons.items() if name in kept}
    return replace(plan, model=best[1], reasons=reasons)  # type: ignore[arg-type]


def _widths(around: float) -> Iterable[int]:
    step = 32 if around <= 512 else 64 if around <= 1024 else 128
    low = max(step, int(around / 2) // step * step)
    return range(low, max(low + step, int(around * 2)), step)


def _heads(hidden: int, shape: Shape) -> dict[str, int]:
    heads = shape.heads or max(1, hidden // (64 if hidden % 64 == 0 and hidden >= 256 else 32))
    return {"heads": heads, "head_dim": shape.head_dim or hidden // heads}


def _inner(hidden: int, shape: Shape, factor: float) -> int:
    return shape.intermediate_size or max(64, round(hidden * factor / 64) * 64)


def _parse(cls: type, values: dict[str, Any]) -> Any:
    return cls.parse(values, where="shape")


def _modernbert(layers: int, hidden: int, length: int, shape: Shape, fixed: dict[str, Any]) -> EncoderConfig:
    return _parse(
        EncoderConfig,
        {
            **fixed,
            **_heads(hidden, shape),
            "family": "modernbert",
            "hidden_size": hidden,
            "layers": layers,
            "intermediate_size": _inner(hidden, shape, 8 / 3),
            "max_positions": max(512, length),
            "norm_eps": 1e-5,
            "norm_bias": False,
            "block": "pre",
            "first_norm": False,
            "final_norm": True,
            "positions": "rope",
            "rope": {"theta": shape.rope_theta},
            "local_rope": {"theta": 10_000.0},
            "windows": [WINDOW if layer % 3 else 0 for layer in range(layers)],
            "qkv_bias": False,
            "out_bias": False,
            "mlp_bias": False,
            "gated": True,
            "token_transform": True,
            "text_activation": "gelu",
            "transform_bias": False,
            "text_norm": True,
            "head": "masked_lm",
        },
    )


def _bert(layers: int, hidden: int, length: int, shape: Shape, fixed: dict[str, Any]) -> EncoderConfig:
    return _parse(
        EncoderConfig,
        {
            "head": "masked_lm",
            **fixed,
            **_heads(hidden, shape),
            "family": "bert",
            "hidden_size": hidden,
            "layers": layers,
            "intermediate_size": _inner(hidden, shape, 4),
            "max_positions": max(512, length),
            "token_types": 2,
        },
    )


def _t5(layers: int, hidden: int, length: int, shape: Shape, fixed: dict[str, Any]) -> EncoderDecoderConfig:
    half = max(1, layers // 2)
    stack = {
        **_heads(hidden, shape),
        "hidden_size": hidden,
        "layers": half,
        "intermediate_size": _inner(hidden, shape, 8 / 3),
        "norm": "rms",
        "norm_eps": 1e-6,
        "block": "pre",
        "embedding_norm": False,
        "final_norm": True,
        "positions": "buckets",
        "qkv_bias": False,
        "out_bias": False,
        "mlp_bias": False,
        "attention_scale": 1.0,
        "gated": True,
        "activation": "gelu_tanh",
    }
    tied = {"tie_embeddings": True, "logit_scale": hidden**-0.5}
    return _parse(EncoderDecoderConfig, {**fixed, **tied, "family": "t5", "encoder": stack, "decoder": stack})


def _bart(layers: int, hidden: int, length: int, shape: Shape, fixed: dict[str, Any]) -> EncoderDecoderConfig:
    stack = {
        **_heads(hidden, shape),
        "hidden_size": hidden,
        "layers": max(1, layers // 2),
        "intermediate_size": _inner(hidden, shape, 4),
        "max_positions": max(512, length),
        "position_offset": 2,
        "norm_eps": 1e-5,
    }
    return _parse(EncoderDecoderConfig, {**fixed, "family": "bart", "encoder": stack, "decoder": stack})


def _chatglm(layers: int, hidden: int, length: int, shape: Shape, fixed: dict[str, Any]) -> ModelConfig:
    heads = _heads(hidden, shape)
    return _parse(
        ModelConfig,
        {
            **fixed,
            **heads,
            "family": "chatglm",
            "kv_heads": heads["heads"],
            "hidden_size": hidden,
            "layers": layers,
            "intermediate_size": _inner(hidden, shape, 4),
            "max_positions": max(2048, length),
            "norm": "layer",
            "norm_eps": 1e-5,
            "norm_bias": True,
            "carry_normed": True,
            "carry_scale": (2 * layers) ** 0.5,
            "qk_norm": "none",
            "qkv_bias": True,
            "out_bias": True,
            "mlp_bias": True,
            "gated": False,
            "activation": "gelu_tanh",
            "rope": {"theta": shape.rope_theta, "axes": 2},
        },
    )


LAYOUTS: dict[str, Callable[[int, int, int, Shape, dict[str, Any]], Any]] = {
    "modernbert": _modernbert,
    "bert": _bert,
    "t5": _t5,
    "bart": _bart,
    "chatglm": _chatglm,
}
"""Builders of a config from layers, width, length of a row, hand-set parts and fixed fields."""
