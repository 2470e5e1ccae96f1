"""Which parts of a decoder stay, its config without the others, and what is left of each parameter.

All heads and channels may differ from layer to layer, only their number is the same: so the smaller model is an
ordinary dense one of its family. Without some features a model of RMS norms computes what the whole one would with
zeros in their place: a norm's mean runs over fewer squares, so its weights are multiplied by √(all / kept). (Scaled
such that what a norm gives stays as large as it was, or not scaled, the loss was higher: docs/diary.md.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from luhuo.compress.prune.heads import columns_of, key_heads
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.families import read_config, write_config

OF_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
BY_LAYER = ("unrotated", "linear_layers", "no_attention", "no_mlp")
"""Fields of the config that list layers."""


@dataclass(frozen=True)
class Parts:
    """What stays, by the numbers things have in the whole model; None or an absent layer: everything."""

    layers: Sequence[int]
    features: Tensor | None = None
    heads: Mapping[int, Tensor] = field(default_factory=dict)
    """By layer of the whole model; as many in each."""
    channels: Mapping[int, Tensor] = field(default_factory=dict)

    def config(self, whole: ModelConfig) -> ModelConfig:
        """The config of the smaller model. Raises `LuhuoError` if the family's config.json cannot say it."""
        number = {layer: place for place, layer in enumerate(self.layers)}
        changes: dict[str, object] = {"layers": len(self.layers), "mtp_layers": 0}
        if whole.windows:
            windows = tuple(whole.windows[layer] for layer in self.layers)
            changes["windows"] = windows if any(windows) else ()
        for name in BY_LAYER:
            changes[name] = tuple(number[layer] for layer in getattr(whole, name) if layer in number)
        if whole.moe is not None:
            dense = tuple(number[layer] for layer in whole.moe.dense_layers if layer in number)
            changes["moe"] = whole.moe.model_copy(update={"dense_layers": dense})
        if self.features is not None:
            changes["hidden_size"] = len(self.features)
        if self.heads:
            heads = next(iter(self.heads.values()))
            changes |= {"heads": len(heads), "kv_heads": len(key_heads(heads, whole.heads // whole.kv_heads))}
        if self.channels:
            changes["intermediate_size"] = len(next(iter(self.channels.values())))
        smaller = ModelConfig.parse({**whole.model_dump(), **changes}, where="prune")
        _check_says(whole, smaller)
        return smaller

    def source(self, name: str) -> str:
        """The name in the whole model of a parameter of the smaller one."""
        found = OF_BLOCK.fullmatch(name)
        return name if found is None else f"blocks.{self.layers[int(found[1])]}.{found[2]}"

    def cut(self, name: str, value: Tensor, whole: ModelConfig) -> Tensor:
        """What is left of the parameter `name` of the whole model. Raises `LuhuoError` for one it knows nothing of."""
        found = OF_BLOCK.fullmatch(name)
        if found is None:
            return self._outside(name, value, whole)
        layer, rest = int(found[1]), found[2]
        if rest.partition(".")[0].endswith("norm"):
            return self._norm(name, value, whole)
        part, _, kind = rest.partition(".")
        if part == "attention":
            return self._attention(kind, value, whole, self.heads.get(layer), name)
        return self._mlp(kind, value, self.channels.get(layer), name)

    def _outside(self, name: str, value: Tensor, whole: ModelConfig) -> Tensor:
        if self.features is None or name == "head_bias":
            return value
        if name.partition(".")[0].endswith("norm"):
            return self._norm(name, value, whole)
        own_width = whole.embedding_size in (None, whole.hidden_size)
        if name == "positions" or name == "embedding_out.weight" or (own_width and name in TABLES):
            return value[:, self.features]
        if name == "embedding_in.weight":
            return value[self.features]
        if name in TABLES:
            return value
        raise _unknown(name)

    def _norm(self, name: str, value: Tensor, whole: ModelConfig) -> Tensor:
        if self.features is None:
            return value
        kept = value[self.features]
        if not name.endswith(".weight"):
            return kept
        one = 1.0 if whole.norm_plus_one else 0.0
        scale = (whole.hidden_size / len(self.features)) ** 0.5
        return ((kept.float() + one) * scale - one).to(value.dtype)

    def _attention(self, kind: str, value: Tensor, whole: ModelConfig, heads: Tensor | None, name: str) -> Tensor:
        size, features = whole.head_dim, self.features
        if heads is None and features is None:
            return value
        if kind in ("qkv.weight", "qkv.bias"):
            if heads is not None:
                value = value[self._projected(heads, whole)]
            return value if features is None or kind.endswith("bias") else value[:, features]
        if kind == "out.weight":
            value = value if heads is None else value[:, columns_of(heads, size)]
            return value if features is None else value[features]
        if kind == "out.bias":
            return value if features is None else value[features]
        if heads is None or (kind.startswith(("q_norm.", "k_norm.")) and whole.qk_norm == "head"):
            return value
        if kind == "sinks" or (kind.startswith("q_norm.") and whole.qk_norm == "heads"):
            return value[heads]
        if kind.startswith("k_norm.") and whole.qk_norm == "heads":
            return value[key_heads(heads, whole.heads // whole.kv_heads)]
        raise _unknown(name)

    def _projected(self, heads: Tensor, whole: ModelConfig) -> Tensor:
        """The rows of the fused projection that belong to these query heads and their keys and values."""
        keys = key_heads(heads, whole.heads // whole.kv_heads)
        return columns_of(torch.cat([heads, whole.heads + keys, whole.heads + whole.kv_heads + keys]), whole.head_dim)

    def _mlp(self, kind: str, value: Tensor, channels: Tensor | None, name: str) -> Tensor:
        if channels is None and self.features is None:
            return value
        matrix, _, what = kind.partition(".")
        if matrix in ("gate_up", "up"):
            if channels is not None:
                both = len(value) // 2
                value = value[torch.cat([channels, both + channels]) if matrix == "gate_up" else channels]
            return value if self.features is None or what == "bias" else value[:, self.features]
        if matrix == "down":
            value = value if channels is None or what == "bias" else value[:, channels]
            return value if self.features is None else value[self.features]
        raise _unknown(name)


TABLES = ("embedding", "unembedding.weight")


def _unknown(name: str) -> LuhuoError:
    return LuhuoError(
        tr("This part of the model cannot be pruned to a smaller one.", "模型的这一部分无法缩小。"), where=name
    )


def _check_says(whole: ModelConfig, smaller: ModelConfig) -> None:
    """Raise `LuhuoError` unless the family's config.json gives the smaller config back as well as the whole one."""
    differing = [_lost(config) for config in (whole.model_copy(update={"mtp_layers": 0}), smaller)]
    lost = {name: value for name, value in differing[1].items() if name not in differing[0]}
    if lost:
        raise LuhuoError(
            tr(
                f"The config.json of the family {smaller.family} cannot describe this shape.",
                f"{smaller.family} 系列的 config.json 无法描述这种形状。",
            ),
            expected=", ".join(f"{name}={getattr(smaller, name)}" for name in lost),
            found=", ".join(f"{name}={value}" for name, value in lost.items()),
            fix=tr("Prune other sizes of this model.", "请改为裁剪该模型的其他尺寸。"),
        )


def _lost(config: ModelConfig) -> dict[str, object]:
    """Fields that are others after writing and reading config.json."""
    try:
        back = read_config(write_config(config, torch.float32))
    except LuhuoError as error:
        return {"config.json": error.found or error.problem}
    return {
        name: getattr(back, name) for name in type(config).model_fields if getattr(back, name) != getattr(config, name)
    }
