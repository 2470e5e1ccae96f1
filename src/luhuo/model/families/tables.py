"""A decoder's tensors from a table of their published names, for layouts older than Llama's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.families.links import Link, permuted, rows, same

Maker = Callable[[str, str], Link]
"""Makes the link of a matrix: `links.same` or `links.transposed`."""


@dataclass(frozen=True)
class Names:
    """Published names of modules; those from `attention_norm` to `down` follow `layer`, which holds the number."""

    embedding: str
    layer: str
    attention_norm: str
    qkv: str | tuple[str, str, str]
    """One matrix, or query, key and value."""
    out: str
    mlp_norm: str
    up: str | tuple[str, str]
    """One matrix, or gate and up."""
    down: str
    norm: str
    head: str = "lm_head"
    positions: str = ""
    embedding_norm: str = ""
    q_norm: str = ""
    k_norm: str = ""


def table_links(
    config: ModelConfig, names: Names, *, matrix: Maker = same, order: Tensor | None = None
) -> Iterator[Link]:
    """All tensors. `order` is that of the rows of the one matrix for queries, keys and values, see `permuted`."""
    yield same("embedding", names.embedding + ".weight")
    if config.positions == "learned":
        yield same("positions", names.positions + ".weight")
    if config.embedding_norm:
        yield from norm_links(config, "embedding_norm", names.embedding_norm)
    for layer in range(config.layers):
        yield from _layer_links(config, names, f"blocks.{layer}.", names.layer.format(layer), matrix, order)
    if config.final_norm:
        yield from norm_links(config, "norm", names.norm)
    if not config.tie_embeddings:
        yield same("unembedding.weight", names.head + ".weight")
    if config.head_bias:
        yield same("head_bias", names.head + ".bias")


def norm_links(config: ModelConfig, ours: str, theirs: str, *, bias: bool = True) -> Iterator[Link]:
    """Weight and bias of a norm, those that it has; `bias`: it has one if the others do."""
    if config.norm == "rms" or config.norm_affine:
        yield from linear_links(ours, theirs, bias=bias and config.norm == "layer" and config.norm_bias)


def linear_links(ours: str, theirs: str, *, bias: bool, matrix: Maker = same) -> Iterator[Link]:
    """Weight and bias of one module."""
    yield matrix(ours + ".weight", theirs + ".weight")
    if bias:
        yield same(ours + ".bias", theirs + ".bias")


def _layer_links(
    config: ModelConfig, names: Names, ours: str, theirs: str, matrix: Maker, order: Tensor | None
) -> Iterator[Link]:
    yield from norm_links(config, ours + "attention_norm", theirs + names.attention_norm)
    yield from _qkv_links(config, names, ours + "attention.qkv", theirs, matrix, order)
    if names.q_norm and config.qk_norm != "none":
        yield from norm_links(config, ours + "attention.q_norm", theirs + names.q_norm, bias=config.qk_norm_bias)
        yield from norm_links(config, ours + "attention.k_norm", theirs + names.k_norm, bias=config.qk_norm_bias)
    yield from linear_links(ours + "attention.out", theirs + names.out, bias=config.out_bias, matrix=matrix)
    if config.block != "parallel":
        yield from norm_links(config, ours + "mlp_norm", theirs + names.mlp_norm)
    if isinstance(names.up, str):
        yield from linear_links(ours + "mlp.up", theirs + names.up, bias=config.mlp_bias, matrix=matrix)
    else:
        for kind in _kinds(config.mlp_bias):
            both = [(f"{theirs}{name}.{kind}", config.intermediate_size) for name in names.up]
            yield rows(f"{ours}mlp.gate_up.{kind}", both)
    yield from linear_links(ours + "mlp.down", theirs + names.down, bias=config.mlp_bias, matrix=matrix)


def _qkv_links(
    config: ModelConfig, names: Names, ours: str, theirs: str, matrix: Maker, order: Tensor | None
) -> Iterator[Link]:
    for kind in _kinds(config.qkv_bias):
        if not isinstance(names.qkv, str):
            parts = [f"{theirs}{name}.{kind}" for name in names.qkv]
            yield rows(f"{ours}.{kind}", zip(parts, config.qkv_rows, strict=True))
        elif order is not None:
            yield permuted(f"{ours}.{kind}", f"{theirs}{names.qkv}.{kind}", order)
        else:
            make = matrix if kind == "weight" else same
            yield make(f"{ours}.{kind}", f"{theirs}{names.qkv}.{kind}")


def _kinds(bias: bool) -> list[str]:
    return ["weight", "bias"] if bias else ["weight"]
