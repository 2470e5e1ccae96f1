"""The compiled operations of `native` on tensors: shapes and memory are arranged here, nothing is differentiated.

All activations are bf16 on the CPU and contiguous; weights, scales and losses fp32. `usable` says whether a tensor may
come here at all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from luhuo.kernels.native import library

LONGEST = 4096
"""Keys in a row of attention scores, at most."""
WIDEST = 512
"""Features of a head, at most."""


def usable(x: Tensor) -> bool:
    """Whether `x` is in bf16 on a CPU and the compiled functions are there; torch.compile makes its own."""
    if torch.compiler.is_compiling():
        return False
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and library() is not None


def _call(name: str, *arguments: object) -> None:
    found = library()
    assert found is not None
    getattr(found, name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(y, scale) for x (…, C) and weight (C,): y = x · scale · weight, scale (rows,) = 1 / sqrt(mean(x²) + eps)."""
    x, weight = x.contiguous(), weight.float().contiguous()
    rows = x.numel() // x.shape[-1]
    y, scale = torch.empty_like(x), torch.empty(rows)
    _call("rms_norm", x, weight, eps, y, scale, rows, x.shape[-1])
    return y, scale


def rms_norm_backward(gradient: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `rms_norm` for x and weight, the latter fp32."""
    gradient, x, weight = gradient.contiguous(), x.contiguous(), weight.float().contiguous()
    of_x, of_weight = torch.empty_like(x), torch.empty(weight.shape)
    _call("rms_norm_backward", gradient, x, weight, scale, of_x, of_weight, len(scale), x.shape[-1])
    return of_x, of_weight


def swiglu(both: Tensor) -> Tensor:
    """silu(gate) · up for (…, 2 · inner)."""
    both = both.contiguous()
    inner = both.shape[-1] // 2
    y = both.new_empty(*both.shape[:-1], inner)
    _call("swiglu", both, y, y.numel() // inner, inner)
    return y


def swiglu_backward(gradient: Tensor, both: Tensor) -> Tensor:
    """Gradient of `swiglu`."""
    gradient, both = gradient.contiguous(), both.contiguous()
    inner, result = gradient.shape[-1], torch.empty_like(both)
    _call("swiglu_backward", gradient, both, result, gradient.numel() // inner, inner)
    return result


def split_heads(
    projected: Tensor,
    weight: Tensor | None,
    eps: float,
    cos: Tensor,
    sin: Tensor,
    factor: float,
    shape: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries (B, H, T, D), keys and values (B, K, T, D) of a projection (B, T, (H + 2K) · D), and their scales.

    Queries and keys are normalised head by head if `weight` (H + K, D) is given, then turned by the tables (B or 1,
    T, 1, D); queries are multiplied by `factor`. `shape` is (H, K, D).
    """
    heads, kv_heads, size = shape
    batch, time, _ = projected.shape
    projected, cos, sin = projected.contiguous(), cos.contiguous(), sin.contiguous()
    query = projected.new_empty(batch, heads, time, size)
    key, value = (projected.new_empty(batch, kv_heads, time, size) for _ in range(2))
    scale = torch.empty(batch * time * (heads + kv_heads) if weight is not None else 0)
    stride = time * size if cos.shape[0] > 1 else 0
    pointer = 0 if weight is None else weight.float().contiguous()
    _call(
        "split_heads", projected, pointer, eps, cos, sin, stride, factor, query, key, value, scale,
        batch, time, heads, kv_heads, size,
    )  # fmt: skip
    return query, key, value, scale


def split_heads_backward(
    slopes: tuple[Tensor, Tensor, Tensor],
    projected: Tensor | None,
    weight: Tensor | None,
    scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    factor: float,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `split_heads` for the projection and the weight (fp32), from those of query, key and value.

    The projection itself is needed where there is a weight.
    """
    query, key, value = (slope.contiguous() for slope in slopes)
    batch, heads, time, size = query.shape
    cos, sin = cos.contiguous(), sin.contiguous()
    before = 0 if projected is None else projected.contiguous()
    result = query.new_empty(batch, time, (heads + 2 * key.shape[1]) * size)
    of_weight = None if weight is None else torch.empty(weight.shape)
    stride = time * size if cos.shape[0] > 1 else 0
    pointer = 0 if weight is None else weight.float().contiguous()
    _call(
        "split_heads_backward", query, key, value, before, pointer, scale, cos, sin, stride, factor, result,
        0 if of_weight is None else of_weight, batch, time, heads, key.shape[1], size,
    )  # fmt: skip
    return result, of_weight


def swap_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) as (B, T, H, D) in memory, or back."""
    x = x.contiguous()
    batch, first, second, size = x.shape
    y = x.new_empty(batch, second, first, size)
    _call("swap_heads", x, y, batch, first, second, size)
    return y


def causal_softmax(
    scores: Tensor,
    first: Tensor | None,
    shared: int,
    start: int,
    count: int,
    offset: int,
    gaps: Tensor | None = None,
) -> None:
    """Softmax in place of scores (B · K, G · count, keys), see the source: `first` (B, T) and `gaps` (B, T, 2) int32,
    gaps only with `first`; `shared` = K."""
    matrices, rows, keys = scores.shape
    assert keys <= LONGEST and scores.is_contiguous()
    assert first is None or (first.is_contiguous() and len(first) * shared == matrices)
    assert gaps is None or (first is not None and gaps.is_contiguous() and gaps.shape == (*first.shape, 2))
    time = 0 if first is None else first.shape[1]
    seen = (0 if part is None else part for part in (first, gaps))
    _call("causal_softmax", scores, *seen, shared, time, matrices, rows // count, start, count, offset, keys)


def softmax_backward(slope: Tensor, share: Tensor) -> None:
    """Gradient of a softmax over the last dimension, in place of the `slope` with respect to its result."""
    assert slope.is_contiguous() and share.is_contiguous()
    _call("softmax_backward", slope, share, slope.numel() // slope.shape[-1], slope.shape[-1])


def cross_entropy(logits: Tensor, targets: Tensor, *, slopes: bool) -> Tensor:
    """Losses (rows,) fp32 of logits (rows, vocab); with `slopes` the logits become their gradient, in place."""
    assert logits.is_contiguous() and targets.dtype == torch.int64
    losses = torch.empty(len(logits))
    _call("cross_entropy", logits, targets.contiguous(), losses, *logits.shape, int(slopes))
    return losses


def accumulate(total: Tensor, piece: Tensor, *, more: bool) -> None:
    """total ← piece, or total + piece if there is `more` in it already: fp32 and bf16 of one shape, in place."""
    assert total.is_contiguous() and piece.is_contiguous() and total.dtype == torch.float32
    _call("accumulate", total, piece, total.numel(), int(more))


def adamw(
    weight: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    *,
    rate: float,
    decay: float,
    betas: tuple[float, float],
    epsilon: float,
    step: int,
) -> None:
    """One step of AdamW in place of weight and moments (fp32); the gradient is bf16, `step` counts from 1."""
    first, second = moments
    assert all(tensor.is_contiguous() and tensor.dtype == torch.float32 for tensor in (weight, first, second))
    root = math.sqrt(1 - betas[1] ** step)
    numbers = (1 - rate * decay, rate / (1 - betas[0] ** step), *betas, root, epsilon)
    _call("adamw", weight, gradient.contiguous(), first, second, weight.numel(), *numbers)
