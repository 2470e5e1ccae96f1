"""Initialisation: every parameter from a seed, and a copying circuit that small models would need long to find."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.layers import Attention
from luhuo.model.norms import LayerNorm, RMSNorm

SMALL = 0.02
"""Standard deviation of embeddings: logits start small."""
GAIN = 1.4
"""Initial weight of the query and key norms: sharp enough to single out one token among some hundred."""
NORMAL = {"embedding", "unembedding", "positions", "queries", "router", "shared_gate"}
ZERO = {"sinks", "correction"}
STREAM = 10.0
"""How many times larger the embeddings are with the copying circuit. What the blocks write is measured against them:
the larger they are, the more steps it takes to write over what the circuit writes."""
SHARE = 0.1
"""What is left of the random values in the matrices that look at positions."""
ORDER = 4
"""Tokens back that are compared."""
NOTE = 2.5
"""Strength with which heads of the first layer write what stood before a token, relative to the embeddings."""
COPY = 10.0
"""Strength with which the copying head of the second layer writes, relative to the embeddings."""
OWN = 0.7 * NOTE
"""Weight of a token's own content in the comparison: in the embedding it is that much weaker than in the notes."""
REACH = 64
"""Tokens over which the comparison is to work."""
FREQUENCIES = 6
"""Rotary frequencies, the fastest first, in the pattern by which a head of the first layer finds its distance."""


def initialise(model: Decoder, seed: int, *, circuit: bool = True) -> Decoder:
    """Fill all parameters from `seed`, the same on every device; `circuit`: with the copying circuit where it fits.

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
    Models of two layers or more with Qwen3's layout start with an induction circuit (`_induction`), with embeddings
    ten times as large, and, where they are the output too, with a last norm of a tenth.
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
            value = torch.empty(parameter.shape).normal_(0, SMALL, generator=generator)
        else:
            assert parameter.dim() > 1, f"no initialisation for {name}"
            bound = math.sqrt(3 / parameter.shape[-1])
            value = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            parameter.copy_(value)
    if circuit and model.config.layers > 1 and _has_plain_layout(model.config):
        _induction(model, generator)
    return model


def _has_plain_layout(config: ModelConfig) -> bool:
    """Whether the first two layers work as `_induction` assumes: rotating halves, a norm for each head, pre-norm."""
    rope = config.rope
    rotates = config.positions == "rope" and rope.dim is None and not rope.interleaved and rope.kind == "plain"
    rotates = rotates and rope.axes == 1 and not config.query_block
    whole = not config.unrotated and not config.windows and not config.alibi_slopes and config.mla is None
    usual = config.norm == "rms" and not config.norm_plus_one and config.block == "pre" and config.qk_norm == "head"
    own = not config.linear_layers and config.kv_share == 1
    embedded = config.embedding_size is None and config.embedding_scale == 1 and not config.embedding_norm
    return (
        rotates and whole and own and usual and embedded and not config.qk_norm_after_rope and not config.carry_normed
    )


@torch.no_grad()
def _induction(model: Decoder, generator: torch.Generator) -> None:
    """Set up "what followed these tokens last time?" (Olsson et al. 2022, "In-context Learning and Induction Heads").

    A small model on a small budget does not find this circuit by itself, and without it nothing can be copied from
    the context. All embeddings get a common part `u` (which cancels in the softmax of tied logits). In layer 0, keys
    and queries depend on `u` alone, so rotary positions decide: head h looks h + 1 tokens back, and the first few
    heads write what they find there, from the subspace `spaces[0]` into `spaces[h + 1]`. Head 0 of layer 1 compares
    its own token and those before it with the tokens before each other one, and copies the one that fits best: after
    "Ann lives in" it tells the place of Ann from the place of Ben. Measured in docs/diary.md.
    """
    config = model.config
    size, heads = config.head_dim, config.heads
    order = min(ORDER, heads)
    copied = min(size, config.hidden_size // 3)
    rank = min(copied, (config.hidden_size - 1 - copied) // order)
    basis = torch.linalg.qr(torch.randn(config.hidden_size, 1 + copied + order * rank, generator=generator))[0]
    u, content, *notes = basis.split([1, copied, *[rank] * order], 1)  # (C, 1), (C, copied), (C, rank) each
    spaces = [content[:, :rank], *notes]
    embedding = model.embedding.data.cpu() * STREAM
    embedding += (STREAM * SMALL * math.sqrt(config.hidden_size) - embedding @ u) * u.T
    model.embedding.copy_(embedding)
    if config.tie_embeddings and model.norm is not None and model.norm.weight is not None:
        model.norm.weight.div_(STREAM)  # logits as small as with small embeddings

    query, key, value = _projections(model, 0)
    pattern = torch.zeros(size)
    pattern[: min(FREQUENCIES, size // 2)] = 1
    pattern *= math.sqrt(3) / pattern.norm()
    query.mul_(SHARE)
    key.mul_(SHARE).add_(pattern[:, None] @ u.T)
    for head in range(heads):
        query[head].add_(_turned(pattern, -(head + 1), config)[:, None] @ u.T)
    for head, space in enumerate(notes):
        value[head // (heads // config.kv_heads)].zero_()[:rank] = spaces[0].T
        _write_output(model, 0, head, STREAM * SMALL * NOTE * space)

    query, key, value = _projections(model, 1)
    slow = _slow(config)
    for matrix in (query[0], key[0], value[0]):
        matrix.zero_()
    for number, (here, there) in enumerate(itertools.pairwise(spaces)):
        mixing = torch.randn(len(slow), rank, generator=generator)
        query[0][slow] += (OWN if number == 0 else 1) * (mixing @ here.T)
        key[0][slow] += mixing @ there.T
    value[0][:copied] = content.T
    _write_output(model, 1, 0, STREAM * SMALL * COPY * content)


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


def _write_output(model: Decoder, layer: int, head: int, columns: Tensor) -> None:
    """Set what a head of a layer writes: `columns` (C, rank) for the first `rank` of its values."""
    weight = _attention(model, layer).out.weight.data
    start = head * model.config.head_dim
    weight[:, start : start + columns.shape[1]] = columns.to(weight.device)


def _slow(config: ModelConfig) -> Tensor:
    """The features of a head whose rotation over `REACH` tokens is small: what they hold can be compared from afar."""
    half = config.head_dim // 2
    pairs = (config.rope.theta ** (-torch.arange(half) / half) <= 1 / REACH).nonzero()[:, 0]
    return torch.cat([pairs, pairs + half])


def _turned(vector: Tensor, distance: int, config: ModelConfig) -> Tensor:
    """A vector (D,) rotated as rotary positions would rotate it over `distance` tokens."""
    half = config.head_dim // 2
    angle = distance * config.rope.theta ** (-torch.arange(half) / half)
    first, second = vector[:half], vector[half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()])
