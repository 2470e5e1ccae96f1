"""Initialisation: every parameter from a seed, and a copying circuit that small models would need long to find."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.layers import Attention

GAIN = 1.4
"""Initial weight of the query and key norms: sharp enough to single out one token among some hundred."""
SHARE = 0.1
"""What is left of the random values in the matrices that look at positions."""
COPY = 0.1
"""Strength with which the two copying heads write, about that of the embeddings."""
FREQUENCIES = 6
"""Rotary frequencies, the fastest first, in the pattern by which a head of the first layer finds its distance."""


def initialise(model: Decoder, seed: int) -> Decoder:
    """Fill all parameters from `seed`, the same on every device.

    | parameter            | distribution                  | why                                               |
    | -------------------- | ----------------------------- | ------------------------------------------------- |
    | embedding            | normal, std 0.02              | small logits at the start: it is also the output  |
    | unembedding (untied) | normal, std 0.02              | likewise                                          |
    | qkv, gate_up         | uniform, std 1 / sqrt(inputs) | keeps the variance of normalised inputs           |
    | out, down            | zero                          | every block starts as the identity                |
    | norms                | one; of queries and keys 1.4  | plain normalisation; attention that can be sharp  |

    Models of two layers or more start with an induction circuit (`_induction`).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        value = torch.empty(parameter.shape)
        kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
        if kind in ("embedding", "unembedding"):
            value.normal_(0, 0.02, generator=generator)
        elif kind in ("qkv", "gate_up"):
            bound = math.sqrt(3 / parameter.shape[1])
            value.uniform_(-bound, bound, generator=generator)
        elif kind in ("out", "down"):
            value.zero_()
        else:
            assert kind.endswith("norm"), f"no initialisation for {name}"
            value.fill_(GAIN if kind in ("q_norm", "k_norm") else 1)
        with torch.no_grad():
            parameter.copy_(value)
    if model.config.layers > 1:
        _induction(model, generator)
    return model


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
