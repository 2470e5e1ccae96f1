"""Whether llama.cpp computes what a model computes: what is not certain is refused before a file is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.families.links import Link
from luhuo.model.gguf_config import read_metadata
from luhuo.model.gguf_layouts import Layout
from luhuo.model.gguf_links import shapes_of
from luhuo.model.gguf_metadata import extra_vectors, write_metadata
from luhuo.model.rope import frequencies

UNCOMPARED = re.compile(
    r"family|stop_ids|pad_id|bos_id|mtp_layers|max_positions|moe\.balance(_over)?|(local_)?rope(\.(?!mscale_all_dim).*)?"
)
"""Fields that a file need not give back: they say nothing about the computation, or are compared by what they do."""

WINDOWED = ("gemma2", "gemma3", "cohere2", "exaone4")
"""Architectures whose windows llama.cpp does not leave out."""

GROWING = ("dynamic", "doubling")
"""Rotations that change once a text is longer than those of the training; llama.cpp leaves them as they are."""

DEEPSEEK_WITHOUT_QUERY_LATENT = (26, 27)
"""Numbers of layers by which llama.cpp knows the models that have none."""


def check(
    config: ModelConfig,
    layout: Layout,
    links: Iterable[Link],
    parameters: Mapping[str, Tensor],
    note: Callable[[str], None],
) -> None:
    """Read the metadata that will be written: what does not come back, llama.cpp cannot know."""
    shapes = {name: shape for link in links for name, shape in shapes_of(link, parameters[link.ours])}
    vectors = extra_vectors(config)
    shapes |= {name: (len(values),) for name, values in vectors.items()}
    metadata = {"general.architecture": layout.architecture, **write_metadata(config, layout)}
    _, again = read_metadata(metadata, shapes, vectors.__getitem__, layout.architecture)
    different = _differences(config, again)
    if layout.head:
        different.pop("tie_embeddings", None)
    if layout.architecture not in WINDOWED and config.windows:
        different.pop("windows", None)
        window = max(config.windows)
        note(
            tr(
                f"llama.cpp leaves out this model's window: beyond {window} tokens it computes something else.",
                f"llama.cpp 不使用该模型的窗口：超过 {window} 个词元后结果会不同。",
            )
        )
    if config.positions == "rope" and config.rope.kind in GROWING:
        note(
            tr(
                f"llama.cpp does not stretch this model's positions: beyond {config.max_positions} tokens it computes "
                "something else.",
                f"llama.cpp 不拉伸该模型的位置编码：超过 {config.max_positions} 个词元后结果会不同。",
            )
        )
    different |= _unfit(config, layout)
    if different:
        raise LuhuoError(
            tr(
                f"llama.cpp's architecture {layout.architecture} has no way to say this variant.",
                f"llama.cpp 的 {layout.architecture} 架构无法表示这个变体。",
            ),
            found="; ".join(f"{key}: {value}" for key, value in different.items()),
            fix=tr("Export it in the Hugging Face layout.", "请导出为 Hugging Face 目录格式。"),
        )


def _differences(config: ModelConfig, again: ModelConfig) -> dict[str, str]:
    """What a config and the one that was read back compute differently."""
    before, after = _flat(config.model_dump()), _flat(again.model_dump())
    found = {
        key: f"{value} → {after.get(key)}"
        for key, value in before.items()
        if not UNCOMPARED.fullmatch(key) and not _alike(value, after.get(key))
    }
    if config.positions == "rope":
        for name, one, other in (
            ("rope", config.rope, again.rope),
            ("local_rope", config.local_rope or config.rope, again.local_rope or again.rope),
        ):
            if not (_same_rotation(one, other, config) or (name == "local_rope" and not config.windows)):
                found[name] = f"{one.kind} → {other.kind}"
    return found


def _same_rotation(one: RopeConfig, other: RopeConfig, config: ModelConfig) -> bool:
    """Whether both turn the same features by the same angles, in short texts and in long ones."""
    dim = config.rope_dim
    if (
        one.interleaved != other.interleaved
        or one.axes != other.axes
        or (other.dim or config.head_dim) != (one.dim or config.head_dim)
    ):
        return False
    for length in (1,) if one.kind in GROWING else (1, config.max_positions + 1):
        angles, scale = frequencies(one, dim // one.axes, length, config.max_positions)
        others, other_scale = frequencies(other, dim // other.axes, length, config.max_positions)
        if not (_alike(scale, other_scale) and torch.allclose(angles, others, rtol=1e-4)):
            return False
    return True


def _unfit(config: ModelConfig, layout: Layout) -> dict[str, str]:
    """What llama.cpp's code takes for granted and no key says."""
    found = {}
    biases = {"qkv_bias": config.qkv_bias, "out_bias": config.out_bias, "mlp_bias": config.mlp_bias}
    if layout.biases == "none":
        found = {key: tr("not known there", "不支持") for key in ("out_bias", "mlp_bias") if biases[key]}
    elif layout.biases == "all":
        found = {key: tr("needed there", "必须有") for key, value in biases.items() if not value}
    if layout.square and config.heads * config.head_dim != config.hidden_size:
        found["head_dim"] = f"{config.heads} · {config.head_dim} ≠ {config.hidden_size}"
    if layout.architecture == "command-r" and config.qk_norm != "none" and config.layers < 64:
        found["qk_norm"] = tr("only known with 64 layers", "仅支持 64 层的模型")
    if layout.architecture == "olmoe" and config.kv_heads != config.heads:
        found["kv_heads"] = f"{config.kv_heads} ≠ {config.heads}"
    if config.mla is not None and config.mla.q_rank is None and config.layers not in DEEPSEEK_WITHOUT_QUERY_LATENT:
        found["mla.q_rank"] = tr("needed there", "必须有")
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _alike(one: Any, other: Any) -> bool:
    """Equal, floats as they are in single precision."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return abs(one - other) <= 1e-5 * max(abs(one), abs(other))
    return one == other
