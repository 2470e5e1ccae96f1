"""Bytes that the blocks keep of one token for the backward pass: what `model/` saves, counted.

Symbols of the comments: C width, H query heads, K key heads, D head size, I inner width, k experts a token. Tested
against what autograd keeps (tests/test_train_plan.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from luhuo.kernels import fused
from luhuo.kernels.native import library
from luhuo.model import fused_attention
from luhuo.model.attention import BLOCK, LONGEST_BLOCKED, LONGEST_KEPT
from luhuo.model.cast_linear import WIDE
from luhuo.model.config import ModelConfig


@dataclass(frozen=True)
class Kept:
    """Bytes a token that one block keeps."""

    attention: float
    feed: float
    entry: float
    """What enters the block, which `full` keeps instead."""
    normed: float
    """What enters the feed-forward part, which `selective` keeps instead of what is inside."""
    weights: float
    """Bytes, of the block and not of a token: copies of weights in the number format of the products."""

    def bytes(self, recompute: str, tokens: int) -> float:
        """Of the whole block, for `tokens`."""
        if recompute == "full":
            return self.entry * tokens
        feed = self.normed if recompute == "selective" else self.feed
        return (self.attention + feed) * tokens + (0 if recompute == "selective" else self.weights)

    def whole(self, tokens: int) -> float:
        """All of it, as it stands while a block that was not kept is computed again."""
        return (self.attention + self.feed) * tokens + self.weights


def kept(config: ModelConfig, layer: int, *, rows: int, length: int, size: int, kind: str) -> Kept:
    """What block `layer` keeps, of rows of `length`; `size` is the bytes of an activation."""
    hidden = config.hidden_size
    norm = 2 * hidden if config.norm == "rms" else 3 * hidden  # the unit and the scaled; a LayerNorm its input too
    compiled = kind == "cpu" and size == 2 and library() is not None
    if compiled and fused_attention.fits(config, layer) and not config.mla and length <= fused.LONGEST:
        attention = norm + _one_step(config, length)
    else:
        attention = norm + _attention(config, layer, rows, length, size, kind)
    feed, fixed, weights = _feed(config, layer, size, compiled)
    casts = 0 if size == 4 else weights
    return Kept(attention * size, (norm + feed) * size + fixed, hidden * size, norm * size, casts)


def _one_step(config: ModelConfig, length: int) -> float:
    """Numbers a token of `model/fused_attention.py`: heads taken apart, what they were made of, and probabilities."""
    heads, kv_heads, width = config.heads, config.kv_heads, config.head_dim
    normed = config.qk_norm != "none"
    before = sum(config.qkv_rows) + 2 * (heads + kv_heads) if normed else 0  # and scales in fp32
    seen = 0.0
    if length <= fused_attention.KEPT:
        size = fused_attention.BLOCK
        blocks = -(-length // size)
        seen = sum(min((i + 1) * size, length) * min(size, length - i * size) for i in range(blocks)) / length
    return before + (heads + 2 * kv_heads) * width + heads * seen + heads * width


def _attention(config: ModelConfig, layer: int, rows: int, length: int, size: int, kind: str) -> float:
    """Numbers a token, the norm before it left out."""
    heads, kv_heads, width, value = config.heads, config.kv_heads, config.head_dim, config.value_dim
    if layer in config.no_attention:
        return 0
    if config.mla:
        mla = config.mla
        inside = 2 * (mla.q_rank or 0) + 2 * mla.kv_rank + mla.rope_dim
        kv_heads = heads
    else:
        inside = (heads + kv_heads) * (width + 1) if config.qk_norm != "none" else 0  # units of the heads, and scales
    if kind == "cpu" and length <= LONGEST_KEPT:
        blocks = -(-length // BLOCK)
        seen = sum(min((i + 1) * BLOCK, length) * min(BLOCK, length - i * BLOCK) for i in range(blocks)) / length
        # With one row the keys and values are views of larger tensors, which are then kept whole.
        keys = kv_heads * (width + value)
        if rows == 1:
            joint = (heads + kv_heads) * width + sum(config.qkv_rows)
            keys = keys + heads * config.mla.nope_dim if config.mla else joint
        scores = heads * width + heads * seen + keys
    elif kind == "cpu" and length <= LONGEST_BLOCKED:
        scores = heads * width + kv_heads * (width + value)
    else:
        scores = (heads + kv_heads) * width + sum(config.qkv_rows) + heads
    return inside + scores + heads * value


def _feed(config: ModelConfig, layer: int, size: int, compiled: bool) -> tuple[float, float, float]:
    """Numbers a token, further bytes a token, and bytes of weights that are kept in the products' format."""
    hidden, moe = config.hidden_size, config.moe
    if layer in config.no_mlp:
        return 0, 0, 0
    if moe is None or not config.sparse(layer):
        return _mlp(config, config.intermediate_size, size, compiled), 0, 0
    inner = moe.active * moe.intermediate_size
    parts = 3 if compiled else 4
    routed = moe.active * hidden + parts * inner + moe.active * hidden  # rows, gate and up, active, product, answers
    if moe.shared_size:
        routed += _mlp(config, moe.shared_size, size, compiled)
    router = 4 * (hidden * (size == 2) + 4 * moe.experts) + 8 * 5 * moe.active  # in fp32; places in int64
    weights = 2 * moe.experts * 3 * hidden * moe.intermediate_size
    return routed, router, weights


def _mlp(config: ModelConfig, inner: int, size: int, compiled: bool) -> float:
    if not config.gated:
        return 2 * inner
    again = config.activation == "silu" and config.hidden_size >= WIDE and size == 2 and not config.mlp_bias
    if again:
        return 2 * inner
    return 3 * inner if compiled and config.activation == "silu" else 4 * inner
