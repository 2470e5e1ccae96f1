"""Our parameters as llama.cpp names and arranges them: one table for all architectures.

GGUF keeps matrices as (outputs, inputs), like us. What differs between architectures is whether query, key and value
are one matrix, whether gate and up are, and which features of a head are rotated together: `pairs` are neighbours
(0, 1), `halves` are (0, dim / 2). Models published in the other order have the rows of query and key permuted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.families.links import Link, reshaped, rows, same

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Arrangement:
    """How an architecture arranges tensors."""

    rotated: Literal["pairs", "halves"] = "halves"
    one_qkv: bool = False
    one_gate_up: bool = False
    second_norm: str = "ffn_norm"
    """Where the MLP's norm is kept."""
    first_norm: str = "attn_norm"


TOP = {
    "embedding": "token_embd.weight",
    "positions": "position_embd.weight",
    "embedding_norm.weight": "token_embd_norm.weight",
    "embedding_norm.bias": "token_embd_norm.bias",
    "norm.weight": "output_norm.weight",
    "norm.bias": "output_norm.bias",
    "unembedding.weight": "output.weight",
    "head_bias": "output.bias",
}
BLOCK = {
    "attention_output_norm": "post_attention_norm",
    "mlp_output_norm": "post_ffw_norm",
    "attention.out": "attn_output",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "attention.q": "attn_q",
    "attention.q_down": "attn_q_a",
    "attention.q_latent_norm": "attn_q_a_norm",
    "attention.q_up": "attn_q_b",
    "attention.kv_down": "attn_kv_a_mqa",
    "attention.kv_latent_norm": "attn_kv_a_norm",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
    "mlp.router": "ffn_gate_inp",
    "mlp.shared.down": "ffn_down_shexp",
}
"""Modules of a block whose tensors are the same in both."""


def gguf_links(config: ModelConfig, how: Arrangement, names: Iterable[str]) -> Iterator[Link]:
    """A link for each of our parameters `names` to the tensors of a GGUF file."""
    for name in names:
        match = re.fullmatch(r"blocks\.(\d+)\.(.+?)(?:\.(weight|bias))?", name)
        if match is None:
            yield _plus_one(config, name, same(name, TOP[name]))
        else:
            blk = f"blk.{match[1]}."
            yield _plus_one(config, name, _block_link(config, how, name, blk, match[2], match[3] or "weight"))


def _block_link(config: ModelConfig, how: Arrangement, name: str, blk: str, module: str, kind: str) -> Link:
    if module in BLOCK:
        return same(name, f"{blk}{BLOCK[module]}.{kind}")
    if module in ("attention_norm", "mlp_norm"):
        return same(name, f"{blk}{_norm_name(config, how, module)}.{kind}")
    if module == "attention.qkv":
        return _qkv(config, how, name, blk, kind)
    if module == "attention.kv_up":
        return _latent(config, name, blk)
    if module == "mlp.gate_up":
        inner = config.intermediate_size
        if how.one_gate_up:
            return same(name, f"{blk}ffn_up.{kind}")
        return rows(name, [(f"{blk}ffn_gate.{kind}", inner), (f"{blk}ffn_up.{kind}", inner)])
    assert config.moe is not None, f"no place for {name} in GGUF"
    if module == "mlp.shared.gate_up":
        inner = config.moe.shared_size
        return rows(name, [(f"{blk}ffn_gate_shexp.{kind}", inner), (f"{blk}ffn_up_shexp.{kind}", inner)])
    if module == "mlp.shared_gate":
        return reshaped(name, f"{blk}ffn_gate_inp_shexp.weight", (config.hidden_size,), (1, config.hidden_size))
    if module == "mlp.router.correction":
        return same(name, f"{blk}exp_probs_b.bias")
    if module == "mlp.experts.gate_up":
        both = (f"{blk}ffn_gate_exps.weight", f"{blk}ffn_up_exps.weight")
        return Link(name, both, lambda parts: torch.cat(list(parts), 1), lambda tensor: list(tensor.chunk(2, 1)))
    assert module == "mlp.experts.down", f"no place for {name} in GGUF"
    return same(name, f"{blk}ffn_down_exps.weight")


def _norm_name(config: ModelConfig, how: Arrangement, module: str) -> str:
    if config.block == "output":
        return {"attention_norm": "post_attention_norm", "mlp_norm": "post_ffw_norm"}[module]
    return {"attention_norm": how.first_norm, "mlp_norm": how.second_norm}[module]


def _plus_one(config: ModelConfig, name: str, link: Link) -> Link:
    """GGUF holds the factor of a norm, also where the published weight is one less."""
    if not (config.norm_plus_one and name.endswith("norm.weight")):
        return link
    return Link(
        link.ours, link.theirs, lambda parts: link.join(parts) - 1, lambda tensor: [p + 1 for p in link.split(tensor)]
    )


def _qkv(config: ModelConfig, how: Arrangement, name: str, blk: str, kind: str) -> Link:
    """Query, key and value in one matrix or three, the features of a head in the order in which they are rotated."""
    sizes = list(config.qkv_rows)
    counts = (config.heads, config.kv_heads)
    changes = _rotation(config, how)

    def to_gguf(tensor: Tensor) -> list[Tensor]:
        q, k, v = tensor.split(sizes)
        if tensor.is_meta:  # the order of rows changes no shape, and torch needs seconds to find that out
            return [q, k, v]
        return [changes[0](q, counts[0]), changes[0](k, counts[1]), v]

    def from_gguf(parts: Sequence[Tensor]) -> Tensor:
        q, k, v = parts
        return torch.cat([changes[1](q, counts[0]), changes[1](k, counts[1]), v])

    if how.one_qkv:
        return Link(
            name,
            (f"{blk}attn_qkv.{kind}",),
            lambda parts: from_gguf(parts[0].split(sizes)),
            lambda tensor: [tensor if tensor.is_meta else torch.cat(to_gguf(tensor))],
        )
    return Link(name, tuple(f"{blk}attn_{part}.{kind}" for part in "qkv"), from_gguf, to_gguf)


def _rotation(
    config: ModelConfig, how: Arrangement
) -> tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor, int], Tensor]]:
    """(to GGUF, from GGUF) of the rows of a query or key projection with so many heads."""
    if config.positions != "rope" or config.rope.interleaved == (how.rotated == "pairs"):
        return (lambda tensor, heads: tensor), (lambda tensor, heads: tensor)
    directions = (halves_to_pairs, pairs_to_halves) if how.rotated == "pairs" else (pairs_to_halves, halves_to_pairs)

    def change(direction: Change) -> Callable[[Tensor, int], Tensor]:
        def apply(tensor: Tensor, heads: int) -> Tensor:
            split = tensor.unflatten(0, (heads, -1))
            turned, rest = split[:, : config.rope_dim], split[:, config.rope_dim :]
            return torch.cat([direction(turned), rest], 1).flatten(0, 1)

        return apply

    return change(directions[0]), change(directions[1])


def halves_to_pairs(heads: Tensor) -> Tensor:
    """(heads, dim, …) with feature i's partner at i + dim / 2 to partners side by side."""
    return heads.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def pairs_to_halves(heads: Tensor) -> Tensor:
    """The inverse of `halves_to_pairs`."""
    return heads.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)


def _latent(config: ModelConfig, name: str, blk: str) -> Link:
    """What a latent becomes keys and values with (heads · (nope + value), rank): the keys' part is kept transposed,
    as it multiplies the queries (DeepSeek-V2 2024, section 2.1.2)."""
    mla = config.mla
    assert mla is not None
    sizes = [mla.nope_dim, mla.value_dim]

    def split(tensor: Tensor) -> list[Tensor]:
        k, v = tensor.unflatten(0, (config.heads, -1)).split(sizes, 1)
        return [k.transpose(1, 2), v]

    def join(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([parts[0].transpose(1, 2), parts[1]], 1).flatten(0, 1)

    return Link(name, (f"{blk}attn_k_b.weight", f"{blk}attn_v_b.weight"), join, split)


def shapes_of(link: Link, parameter: Tensor) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor of a file that a parameter is made of."""
    meta = torch.empty(parameter.shape, device="meta")
    yield from zip(link.theirs, (tuple(part.shape) for part in link.split(meta)), strict=True)
