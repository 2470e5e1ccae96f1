"""Initialisation: every parameter from a seed, and a copying circuit that small models would need long to find."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.layers import Attention
from luhuo.model.norms import LayerNorm, RMSNorm

GAIN = 1.4
"""Initial weight of the query and key norms: sharp enough to single out one token among some hundred."""
SHARE = 0.1
"""What is left of the random values in the matrices that look at positions."""
COPY = 0.1
"""Strength with which the two copying heads write, about that of the embeddings."""
NORMAL = {"embedding", "unembedding", "positions", "queries", "router", "shared_gate"}
ZERO = {"sinks", "correction"}
FREQUENCIES = 6
"""Rotary frequencies, the fastest first, in the pattern by which a head of the first layer finds its distance."""


def initialise(model: Decoder, seed: int) -> Decoder:
    """Fill all parameters from `seed`, the same on every device.

    | parameter                       | distribution            | why                                              |
    | ------------------------------- | ----------------------- | ------------------------------------------------ |
    | embeddings, learned positions   | normal, std 0.02        | small logits at the start: it is also the output |
    | unembedding (untied)            | normal, std 0.02        | likewise                                         |
    | routers, gate of shared experts | normal, std 0.02        | no expert is preferred at the start              |
    | out, down (of experts too)      | zero                    | every block starts as the identity               |
    | other matrices                  | uniform, std 1/√inputs  | keeps the variance of normalised inputs          |
    | norms                           | a factor of 1           | plain normalisation                              |
    | norms of queries and keys       | a factor of 1.4         | attention that can be sharp                      |
    | biases, sinks, corrections      | zero                    | they are learned as far as they are needed       |

    Where a norm stands behind a branch, out and down are like other matrices: a norm makes no identity of zero.
    Models of two layers or more with Qwen3's layout start with an induction circuit (`_induction`).
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {f"{name}.weight": norm for name, norm in model.named_modules() if isinstance(norm, (RMSNorm, LayerNorm))}
    identity = model.config.block not in ("output", "sandwich")
    for name, parameter in model.named_parameters():
        kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
        if name in norms:
            factor = GAIN if kind in ("q_norm", "k_norm") else 1.0
            value = torch.full(parameter.shape, factor - norms[name].plus_one)
        elif kind.endswith("bias") or kind in ZERO or (identity and kind in ("out", "down")):
            value = torch.zeros(parameter.shape)
        elif kind in NORMAL:
            value = torch.empty(parameter.shape).normal_(0, 0.02, generator=generator)
        else:
            assert parameter.dim() > 1, f"no initialisation for {name}"
            bound = math.sqrt(3 / parameter.shape[-1])
            value = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            parameter.copy_(value)
    if model.config.layers > 1 and _has_plain_layout(model.config):
        _induction(model, generator)
    return model


def _has_plain_layout(config: ModelConfig) -> bool:
    """Whether the first two layers work as `_induction` assumes: rotating halves, a norm for each head, pre-norm."""
    rope = config.rope
    rotates = config.positions == "rope" and rope.dim is None and not rope.interleaved and rope.kind == "plain"
    whole = not config.unrotated and not config.windows and not config.alibi_slopes and config.mla is None
    usual = config.norm == "rms" and config.block == "pre" and config.qk_norm == "head"
    own = not config.linear_layers and config.kv_share == 1
    embedded = config.embedding_size is None and config.embedding_scale == 1 and not config.embedding_norm
    return (
        rotates and whole and own and usual and embedded and not config.qk_norm_after_rope and not config.carry_normed
    )


@torch.no_grad()
def _induction(model: Decoder, generator: torch.Generator) -> None:
    """Set up "what followed this token last time?" (Olsson et al. 2022, "In-context Learning and Induction Heads").

    A small model on a small budget does not find this circuit by itself, and without it nothing can be copied from
    the context. All embeddings get a common part `u` (which cancels in the softmax of tied logits). In layer 0, keys
    and queries depend on `u` alone, so rotary positions decide: head h looks h + 1 tokens back. Its head 0 writes the
    previous token's content from the subspace `read` into the subspace `write`. Head 0 of layer 1 compares its own
    token's `read` with the others' `write` and copies the token it finds. Measured in docs/diary.md.
    """
    config = model.config
    size, heads = config.head_dim, config.heads
    rank = min(size, (config.hidden_size - 1) // 2)
    basis = torch.linalg.qr(torch.randn(config.hidden_size, 2 * rank + 1, generator=generator))[0]
    u, read, write = basis[:, 0], basis[:, 1 : rank + 1], basis[:, rank + 1 :]  # (C,), (C, rank), (C, rank)
    embedding = model.embedding.data.cpu()
    embedding += (0.02 * math.sqrt(config.hidden_size) - embedding @ u)[:, None] * u
    model.embedding.copy_(embedding)

    query, key, value = _projections(model, 0)
    pattern = torch.zeros(size)
    pattern[: min(FREQUENCIES, size // 2)] = 1
    pattern *= math.sqrt(3) / pattern.norm()
    query.mul_(SHARE)
    key.mul_(SHARE).add_(torch.outer(pattern, u))
    for head in range(heads):
        query[head].add_(torch.outer(_turned(pattern, -(head + 1), config), u))
    value[0].zero_()[:rank] = read.T
    _write_output(model, 0, COPY * write)

    query, key, value = _projections(model, 1)
    query[0].zero_()[:rank] = read.T
    key[0].zero_()[:rank] = write.T
    _write_output(model, 1, COPY * value[0].T)


def _attention(model: Decoder, layer: int) -> Attention:
    attention = model.blocks[layer].attention
    assert isinstance(attention, Attention)
    return attention


def _projections(model: Decoder, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of one layer's matrices: query (heads, D, C), key and value (kv heads, D, C)."""
    config = model.config
    weight = _attention(model, layer).qkv.weight.data
    parts = weight.view(-1, config.head_dim, config.hidden_size).split([config.heads, *[config.kv_heads] * 2])
    return parts[0], parts[1], parts[2]


def _write_output(model: Decoder, layer: int, columns: Tensor) -> None:
    """Set what head 0 of a layer writes: `columns` (C, rank) for the first `rank` of its values."""
    weight = _attention(model, layer).out.weight.data
    weight[:, : columns.shape[1]] = columns.to(weight.device)


def _turned(vector: Tensor, distance: int, config: ModelConfig) -> Tensor:
    """A vector (D,) rotated as rotary positions would rotate it over `distance` tokens."""
    half = config.head_dim // 2
    angle = distance * config.rope.theta ** (-torch.arange(half) / half)
    first, second = vector[:half], vector[half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()])
