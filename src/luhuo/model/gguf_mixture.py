"""Which matrices of an 8-bit GGUF file stay in half precision.

llama.cpp multiplies a Q8_0 matrix with activations that it rounds to 8 bits as well, in blocks of 32; the largest
number of a block sets the step of the other 31. A few features of the residual stream are many times larger than the
rest (Dettmers et al. 2022, section 3), so what reads it loses most, and the last layer's error meets no later layer
that could even it out. Activations in front of an F16 matrix keep 11 bits. `docs/gguf.md` has the measurements behind
the order below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod

from luhuo.files.gguf_types import TensorType

SHARE = 0.15
"""Most bytes that the mixture adds, as a share of the same matrices in Q8_0."""

ATTENTION = re.compile(r"blk\.(\d+)\.attn_(?:q|k|v|qkv|q_a|kv_a_mqa)\.weight")
"""Matrices of attention that read the residual stream."""

MLP = re.compile(r"blk\.(\d+)\.ffn_(?:gate|up|down)\.weight")
"""Those of a dense feed-forward part; experts would take all the room."""


def kept_in_half(shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Names of those matrices, out of all that a plain file has in Q8_0, that the mixture has in F16.

    The last layer's feed-forward part, then what reads the stream for attention, then further feed-forward parts, of
    each the outermost layers first. A layer's matrices are kept together. The first that `SHARE` has no room for
    ends its kind.
    """
    left = SHARE * sum(_bytes(shape, TensorType.Q8_0) for shape in shapes.values())
    kept: list[str] = []
    for groups in _in_order(shapes):
        for names in groups:
            cost = sum(_bytes(shapes[name], TensorType.F16) - _bytes(shapes[name], TensorType.Q8_0) for name in names)
            if cost > left:
                break
            left -= cost
            kept += names
    return frozenset(kept)


def _in_order(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[list[list[str]]]:
    attention, mlp = _by_layer(ATTENTION, shapes), _by_layer(MLP, shapes)
    yield mlp[:1]
    yield attention
    yield mlp[1:]


def _by_layer(pattern: re.Pattern[str], names: Mapping[str, object]) -> list[list[str]]:
    """Names that fit, those of a layer together: last layer, first, last but one, second, …"""
    layers: dict[int, list[str]] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            layers.setdefault(int(match[1]), []).append(name)
    upwards = [layers[layer] for layer in sorted(layers)]
    return [upwards[index // 2] if index % 2 else upwards[-1 - index // 2] for index in range(len(upwards))]


def _bytes(shape: tuple[int, ...], kind: TensorType) -> int:
    return prod(shape[:-1]) * kind.row_bytes(shape[-1])
