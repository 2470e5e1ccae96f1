"""From floats to the k-quants of GGUF: superblocks of 256 numbers, in groups of 16 or 32 with scales of few bits.

A number is d·s·q - m·t with the superblock's halves d and m, a group's small integers s and t, and its own q (Q2_K,
Q4_K, Q5_K), or d·s·q with a signed q (Q3_K, Q6_K). All are sought so that the weighted sum of squared errors is
least: a group's scale and minimum first (the best of `TRIED` stretches of the range, each fitted to the integers it
gives by least squares), then the small integers beside the nearest ones, then d and m once more by least squares. The
layouts are those of `gguf_dequantise.py`; ours is only the search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf_types import TensorType

SUPERBLOCK = 256
TRIED = tuple(-1.0 + 0.15 * step for step in range(13))
"""Steps that the range of a group is given in addition; below nothing, the largest numbers are cut off."""
ROUNDS = 2
"""Times that the superblock's d and m and the groups' integers are fitted to each other."""
TINY = 1e-30


@dataclass(frozen=True)
class Form:
    """One format: `groups` in a superblock, the largest q, and the largest scale s (and minimum t) as an integer."""

    groups: int
    steps: int
    most: int
    pack: Callable[[Fit], Tensor]


@dataclass(frozen=True)
class Fit:
    """Integers and halves of n superblocks."""

    q: Tensor
    """(n, 256): 0 … steps, or -steps … steps - 1."""
    scale: Tensor
    """(n, groups): s."""
    low: Tensor
    """(n, groups): t, zeros for formats without minima."""
    d: Tensor
    """(n, 1)."""
    m: Tensor
    """(n, 1)."""


def quantise_k(blocks: Tensor, kind: TensorType, importance: Tensor | None = None, name: str = "") -> Tensor:
    """Blocks (n, 256) fp32 as bytes (n, bytes of a block) of the format.

    `importance` (n, 256), mean squares of the activations that meet the numbers, weighs the errors. Raises
    `LuhuoError` if a scale is too large for half precision; `name` is for the message.
    """
    weight = _weights(blocks, importance)
    if kind in LOWERED:
        form = LOWERED[kind]
        fit = _fit_lowered(blocks, weight, form, name)
    else:
        form = SIGNED[kind]
        fit = _fit_signed(blocks, weight, form, name)
    return form.pack(fit)


def _weights(blocks: Tensor, importance: Tensor | None) -> Tensor:
    """How much the square of each number's error counts: more for large numbers, and for large activations."""
    weight = blocks.abs() + blocks.square().mean(1, keepdim=True).sqrt() + TINY
    return weight if importance is None else weight * (importance + 1e-6 * importance.mean(1, keepdim=True) + TINY)


def _sum(values: Tensor) -> Tensor:
    return values.sum(-1, keepdim=True)


def _fit_lowered(blocks: Tensor, weight: Tensor, form: Form, name: str) -> Fit:
    """Superblocks as d·s·q - m·t."""
    x, w = (part.view(len(blocks), form.groups, -1) for part in (blocks, weight))
    scale, low = _range_of(x, w, form.steps)
    d, m = (_half(part.amax(1, keepdim=True) / form.most, name) for part in (scale, low))
    s, t = (_whole(part / _safe(half), form.most) for part, half in ((scale, d), (low, m)))
    for _ in range(ROUNDS):
        s, t = _neighbours(x, w, s, t, d, m, form)
        d, m = _refit(x, w, s * _nearest(x, s * d, t * m, form.steps), t, d, m, name)
    q = _nearest(x, s * d, t * m, form.steps)
    return Fit(q.flatten(1), s[..., 0], t[..., 0], d[:, 0], m[:, 0])


def _range_of(x: Tensor, w: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Scale and minimum (negated, not below zero), each (n, groups, 1), of groups x with weights w."""
    lowest = x.amin(-1, keepdim=True).clamp(max=0)
    span = (x.amax(-1, keepdim=True) - lowest).clamp(min=TINY)
    shifted, wx = x - lowest, w * x
    sum_w, sum_x, sum_xx = _sum(w), _sum(wx), _sum(wx * x)
    scale, low, least = span / steps, -lowest, torch.full_like(span, torch.inf)
    for more in TRIED:
        q = (shifted * ((steps + more) / span)).round_().clamp_(0, steps)
        wq = w * q
        sum_q, sum_qq, sum_qx = _sum(wq), _sum(wq * q), _sum(wx * q)
        spread = sum_w * sum_qq - sum_q * sum_q
        fitted = (sum_w * sum_qx - sum_x * sum_q) / spread
        base = (sum_qq * sum_x - sum_q * sum_qx) / spread
        above = (base > 0) | (spread <= 0)
        fitted = torch.where(above, sum_qx / sum_qq, fitted)
        base = torch.where(above, 0.0, base)
        error = sum_xx - fitted * sum_qx - base * sum_x
        better = (error < least) & fitted.isfinite() & (fitted > 0)
        scale, low = torch.where(better, fitted, scale), torch.where(better, -base, low)
        least = torch.where(better, error, least)
    return scale, low


def _neighbours(x: Tensor, w: Tensor, s: Tensor, t: Tensor, d: Tensor, m: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """The best integers s and t (n, groups, 1) beside those given: for each s the minimum that suits its q."""
    best, least = (s, t), _error(x, w, s * d, t * m, form.steps)
    sum_w, sum_x = _sum(w), _sum(w * x)
    for step in (-1, 0, 1):
        other = (s + step).clamp(0, form.most)
        q = _nearest(x, other * d, t * m, form.steps)
        suited = _whole((other * d * _sum(w * q) - sum_x) / sum_w / _safe(m), form.most)
        error = _error(x, w, other * d, suited * m, form.steps)
        better = error < least
        best = (torch.where(better, other, best[0]), torch.where(better, suited, best[1]))
        least = torch.where(better, error, least)
    return best


def _nearest(x: Tensor, scale: Tensor, low: Tensor, steps: int) -> Tensor:
    return ((x + low) / _safe(scale)).round_().clamp_(0, steps)


def _error(x: Tensor, w: Tensor, scale: Tensor, low: Tensor, steps: int) -> Tensor:
    off = _nearest(x, scale, low, steps).mul_(scale).sub_(low).sub_(x)
    return _sum(off.square_().mul_(w))


def _refit(x: Tensor, w: Tensor, a: Tensor, t: Tensor, d: Tensor, m: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """d and m (n, 1, 1) of least squares for x ≈ d·a - m·t over whole superblocks; the old ones where there are none
    that are positive, or where they are no better."""
    flat_x, flat_w, flat_a, flat_t = (part.expand_as(x).flatten(1) for part in (x, w, a, t))
    wa, wt = flat_w * flat_a, flat_w * flat_t
    aa, at, tt = _sum(wa * flat_a), _sum(wa * flat_t), _sum(wt * flat_t)
    ax, tx = _sum(wa * flat_x), _sum(wt * flat_x)
    spread = aa * tt - at * at
    both = spread > 1e-6 * aa * tt
    new_d = torch.where(both, (ax * tt - tx * at) / spread, (ax + m[:, 0] * at) / aa)
    new_m = torch.where(both, (ax * at - tx * aa) / spread, m[:, 0])
    fine = new_d.isfinite() & new_m.isfinite() & (new_d > 0) & (new_m >= 0)
    pair = [torch.where(fine, new, old[:, 0]) for new, old in ((new_d, d), (new_m, m))]
    halves = [_half(part, name)[..., None] for part in pair]

    def cost(one: Tensor, other: Tensor) -> Tensor:
        return _sum((one * flat_a - other * flat_t - flat_x).square() * flat_w)

    better = (cost(halves[0][:, 0], halves[1][:, 0]) < cost(d[:, 0], m[:, 0]))[..., None]
    return torch.where(better, halves[0], d), torch.where(better, halves[1], m)


def _fit_signed(blocks: Tensor, weight: Tensor, form: Form, name: str) -> Fit:
    """Superblocks as d·s·q, the scale of largest size at the far end of s."""
    x, w = (part.view(len(blocks), form.groups, -1) for part in (blocks, weight))
    scale = _signed_scale(x, w, form.steps)
    largest = scale.gather(1, scale.abs().argmax(1, keepdim=True))
    d = _half(largest / -form.most, name)
    s = (scale / _safe(d)).round().clamp(-form.most, form.most - 1)
    for _ in range(ROUNDS):
        s = _signed_neighbours(x, w, s, d, form)
        d = _refit_signed(blocks, weight, (s * _nearest_signed(x, s * d, form.steps)).flatten(1), d, name)
    q = _nearest_signed(x, s * d, form.steps)
    return Fit(q.flatten(1), s[..., 0], torch.zeros_like(s[..., 0]), d[:, 0], torch.zeros_like(d[:, 0]))


def _refit_signed(x: Tensor, w: Tensor, a: Tensor, d: Tensor, name: str) -> Tensor:
    """d (n, 1, 1) of least squares for x ≈ d·a, each (n, 256), or the old one where that is no worse."""
    wa = w * a
    fitted = _half(_sum(wa * x) / _sum(wa * a).clamp(min=TINY), name)
    better = _sum((fitted * a - x).square() * w) < _sum((d[:, 0] * a - x).square() * w)
    return torch.where(better, fitted, d[:, 0])[..., None]


def _signed_scale(x: Tensor, w: Tensor, steps: int) -> Tensor:
    """Scales (n, groups, 1), the number of largest size at -steps."""
    largest = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    safe = torch.where(largest.abs() > TINY, largest, 1.0)
    wx = w * x
    scale, most = -largest / steps, torch.full_like(largest, -1.0)
    for more in TRIED:
        q = (x * (-(steps + more) / safe)).round_().clamp_(-steps, steps - 1)
        sum_qx, sum_qq = _sum(wx * q), _sum(w * q * q)
        gain = sum_qx * sum_qx / sum_qq  # the squares that are gone
        better = (gain > most) & gain.isfinite()
        scale, most = torch.where(better, sum_qx / sum_qq, scale), torch.where(better, gain, most)
    return scale


def _signed_neighbours(x: Tensor, w: Tensor, s: Tensor, d: Tensor, form: Form) -> Tensor:
    """The best integers s (n, groups, 1) beside those given."""
    best, least = s, torch.full_like(s, torch.inf)
    for step in (0, -1, 1):
        other = (s + step).clamp(-form.most, form.most - 1)
        off = _nearest_signed(x, other * d, form.steps).mul_(other * d).sub_(x)
        error = _sum(off.square_().mul_(w))
        best, least = torch.where(error < least, other, best), torch.minimum(error, least)
    return best


def _nearest_signed(x: Tensor, scale: Tensor, steps: int) -> Tensor:
    return (x / _safe(scale)).round_().clamp_(-steps, steps - 1)


def _safe(scale: Tensor) -> Tensor:
    """A divisor: with a scale of nothing all integers mean the same."""
    return torch.where(scale == 0, 1.0, scale)


def _whole(values: Tensor, most: int) -> Tensor:
    return values.round().clamp(0, most)


def to_half(x: Tensor, name: str) -> Tensor:
    """Numbers in half precision. Raises `LuhuoError` that names the tensor if one is too large."""
    half = x.half()
    if not torch.isfinite(half).all():
        raise LuhuoError(
            tr("A number is too large for half precision.", "有数值超出半精度范围。"),
            expected="<= 65504",
            found=float(x.abs().max()),
            where=name or None,
            fix=tr("Export as BF16 or F32.", "请导出为 BF16 或 F32。"),
        )
    return half


def _half(values: Tensor, name: str) -> Tensor:
    """Values as half precision has them, still fp32."""
    return to_half(values, name).float()


def _bytes(half: Tensor) -> Tensor:
    return half.half().contiguous().view(torch.uint8)


def _nibbles(q: Tensor, group: int) -> Tensor:
    """(n, 2·bytes) to (n, bytes): of each 2·`group` numbers the first half in the low bits, the second in the high."""
    pairs = q.view(len(q), -1, 2, group)
    return (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).flatten(1)


def _planes(q: Tensor, group: int, bits: int, count: int) -> Tensor:
    """(n, count·bytes) to (n, bytes): of each count·`group` numbers `count` planes of `bits` bits."""
    planes = q.view(len(q), -1, count, group)
    shifts = torch.arange(0, bits * count, bits, dtype=torch.uint8).view(1, 1, count, 1)
    return (planes << shifts).sum(2, dtype=torch.uint8).flatten(1)


def _scales_and_minima(fit: Fit) -> Tensor:
    """Eight scales and eight minima of 6 bits in twelve bytes."""
    s, t = fit.scale.to(torch.uint8), fit.low.to(torch.uint8)
    first = s[:, :4] | ((s[:, 4:] >> 4) << 6)
    second = t[:, :4] | ((t[:, 4:] >> 4) << 6)
    return torch.cat((first, second, (s[:, 4:] & 15) | ((t[:, 4:] & 15) << 4)), 1)


def _q2_k(fit: Fit) -> Tensor:
    scales = fit.scale.to(torch.uint8) | (fit.low.to(torch.uint8) << 4)
    return torch.cat((scales, _planes(fit.q.to(torch.uint8), 32, 2, 4), _bytes(fit.d), _bytes(fit.m)), 1)


def _q3_k(fit: Fit) -> Tensor:
    q, s = (fit.q + 4).to(torch.uint8), (fit.scale + 32).to(torch.uint8)
    high, low = _planes(q >> 2, 32, 1, 8), _planes(q & 3, 32, 2, 4)
    return torch.cat((high, low, _nibbles(s & 15, 8), _planes(s >> 4, 4, 2, 4), _bytes(fit.d)), 1)


def _q4_k(fit: Fit) -> Tensor:
    return torch.cat((_bytes(fit.d), _bytes(fit.m), _scales_and_minima(fit), _nibbles(fit.q.to(torch.uint8), 32)), 1)


def _q5_k(fit: Fit) -> Tensor:
    q = fit.q.to(torch.uint8)
    fifth, rest = _planes(q >> 4, 32, 1, 8), _nibbles(q & 15, 32)
    return torch.cat((_bytes(fit.d), _bytes(fit.m), _scales_and_minima(fit), fifth, rest), 1)


def _q6_k(fit: Fit) -> Tensor:
    q = (fit.q + 32).to(torch.uint8)
    scales = fit.scale.to(torch.int8).view(torch.uint8)
    return torch.cat((_nibbles(q & 15, 64), _planes(q >> 4, 32, 2, 4), scales, _bytes(fit.d)), 1)


LOWERED = {
    TensorType.Q2_K: Form(16, 3, 15, _q2_k),
    TensorType.Q4_K: Form(8, 15, 63, _q4_k),
    TensorType.Q5_K: Form(8, 31, 63, _q5_k),
}
"""Formats with minima."""

SIGNED = {TensorType.Q3_K: Form(16, 4, 32, _q3_k), TensorType.Q6_K: Form(16, 32, 128, _q6_k)}
"""Formats without."""

KINDS_K = (*LOWERED, *SIGNED)
"""What can be written in blocks of 256."""
