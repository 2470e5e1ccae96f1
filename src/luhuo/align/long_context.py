"""A longer context for a model with rotary positions: its frequencies are stretched, and training gets used to it."""

from __future__ import annotations

import torch

from luhuo.align.sft_fields import RopeStretch
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.families import read_config, write_config


def stretched(model: Decoder, rope: RopeStretch) -> Decoder:
    """The same weights in a model whose context is `rope.factor` times as long.

    yarn: Peng et al. 2023; linear: Chen et al. 2023 (position interpolation); llama3: the bands of Llama 3.1. A model
    that is stretched so already stays as it is. Raises `LuhuoError` where there is nothing to stretch, another
    stretching is in force, or the family's config.json has no place for it.
    """
    config = _stretched_config(model.config, rope)
    if config == model.config:
        return model
    return rebuilt(model, config)


def rebuilt(model: Decoder, config: ModelConfig) -> Decoder:
    """A model of another config around the very same parameters; those it has in other shapes stay undefined."""
    with torch.device("meta"):
        other = Decoder(config)
    kept = {name: p for name, p in model.state_dict(keep_vars=True).items() if _fits(other, name, p)}
    other.load_state_dict(kept, strict=False, assign=True)
    other.tokenizer, other.recompute = model.tokenizer, model.recompute
    return other.train(model.training)


def _fits(other: Decoder, name: str, tensor: torch.Tensor) -> bool:
    return other.state_dict()[name].shape == tensor.shape


def _stretched_config(config: ModelConfig, rope: RopeStretch) -> ModelConfig:
    if (config.rope.kind, config.rope.factor) == (rope.type, rope.factor):
        return config
    if config.positions != "rope" or config.rope.axes != 1 or config.rope.kind != "plain":
        raise LuhuoError(
            tr("The positions of this model cannot be stretched so.", "该模型的位置编码不能这样拉伸。"),
            expected=tr("plain rotary positions", "未拉伸过的旋转位置编码"),
            found=f"{config.positions}, {config.rope.kind}, factor {config.rope.factor:g}",
            where="rope",
            fix=tr("Start from the model before it was stretched.", "请从拉伸之前的模型开始。"),
        )
    original = rope.original or config.max_positions
    wanted = {"kind": rope.type, "factor": rope.factor}
    if rope.type != "linear":  # whose frequencies are simply divided
        wanted["original_positions"] = original
    changed = config.model_copy(
        update={
            "rope": config.rope.model_copy(update=wanted),
            "max_positions": max(int(original * rope.factor), config.max_positions),
        }
    )
    again = read_config(write_config(changed, torch.float32))
    if any(getattr(again.rope, name) != value for name, value in wanted.items()):
        raise LuhuoError(
            tr(
                "The config.json of this family cannot say that its context is stretched.",
                "该系列的 config.json 无法表示上下文已拉伸。",
            ),
            found=config.family,
            where="rope",
        )
    return changed
