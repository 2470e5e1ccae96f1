"""Reading weights that were rounded elsewhere: compressed-tensors, GPTQ and AWQ.

All keep integers of `bits` bits in 32-bit words, lowest bits first. compressed-tensors packs along the columns of
(rows, columns). GPTQ has the matrix as (columns, rows) and packs along the columns, but zeros, less one, along the
rows. AWQ has it so too and packs along the rows, in the order 0, 2, 4, 6, 1, 3, 5, 7. A weight is (q - zero) · scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.packed import Bits, Width
from luhuo.model.quantised import Rounded
from luhuo.model.weights import Weights

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
PACKED, PLAIN = "pack-quantized", ("int-quantized", "naive-quantized")
"""Formats of compressed-tensors that are read: words, and plain int8."""
METHODS = ("compressed-tensors", "gptq", "awq")


def of_words(words: Tensor, bits: int, columns: int) -> Tensor:
    """The integers (rows, columns) in words (rows, n): int16, 0 … 2^bits - 1."""
    shifts = bits * torch.arange(32 // bits, dtype=torch.int32)
    return ((words[..., None] >> shifts) & (2**bits - 1)).to(torch.int16).flatten(1)[:, :columns]


def rounded_of(q: Tensor, scale: Tensor, zero: Tensor, bits: Width, order: Tensor | None = None) -> Rounded | None:
    """A matrix with weights (q - zero) · scale: q (rows, columns) 0 … 2^bits - 1, scale and zero (rows, groups).

    `order` (columns,): the activation of each column. None where groups do not divide the columns.
    """
    columns, groups = q.shape[1], scale.shape[1]
    group = -(-columns // 8) * 8 if groups == 1 else columns // groups
    if group % 8 or (groups > 1 and group * groups != columns):
        return None
    middle = 2 ** (bits - 1)
    order = None if order is None else order.to(torch.int32)
    if bool((zero == middle).all()):
        return Rounded((q - middle).to(torch.int8), scale, None, bits, group, order)
    shift = middle if bits == 8 else 0
    low = (shift - zero.float()) * scale.float()
    return Rounded((q - shift).to(torch.int8), scale, low, bits, group, order)


class RoundedWeights(ABC):
    """Weights of a directory some of which are rounded; `tensor` gives them as floats, `rounded` as they are."""

    parts: tuple[str, ...] = ()
    """Endings in the place of `.weight` in the names of a rounded matrix' tensors; the first is always there."""

    def __init__(self, weights: Weights, settings: Mapping[str, Any]) -> None:
        self.where, self._weights, self.settings = weights.where, weights, settings
        shapes = weights.shapes()
        self._matrices = [name.removesuffix(self.parts[0]) for name in shapes if name.endswith(self.parts[0])]
        inner = {base + part for base in self._matrices for part in self.parts}
        self._shapes = {name: shape for name, shape in shapes.items() if name not in inner}
        self._shapes |= {base + ".weight": self.shape(base) for base in self._matrices}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        return self._shapes

    @property
    def bits(self) -> Bits:
        """The most bits of any matrix."""
        return 8 if any(self.bits_of(base) == 8 for base in self._matrices) else 4

    def bits_of(self, base: str) -> Width:
        """Bits of a matrix. Raises `LuhuoError` if they are not 8, 4, 3 or 2."""
        bits = self.width(base)
        if bits not in get_args(Width):
            raise LuhuoError(
                tr("Weights of so many bits are not read.", "不读取这种位数的权重。"),
                expected="8, 4, 3, 2",
                found=bits,
                where=f"{self.where}: {base}",
            )
        return bits  # pyright: ignore[reportReturnType]

    def tensor(self, name: str) -> Tensor:
        """One tensor as floats."""
        base = name.removesuffix(".weight")
        if base == name or base + self.parts[0] not in self._weights.shapes():
            return self._weights.tensor(name)
        q, scale, zero, index = self.read(base)
        scale, zero = scale.float()[:, index], zero.float()[:, index]
        return (q.float() - zero) * scale

    def rounded(self, name: str) -> Rounded | None:
        """One tensor as it was rounded; None if it was not, or not in a way the kernels know."""
        base = name.removesuffix(".weight")
        if base == name or base + self.parts[0] not in self._weights.shapes():
            return None
        q, scale, zero, index = self.read(base)
        counts = index.bincount(minlength=scale.shape[1])
        if len(counts) != scale.shape[1] or bool((counts != counts[0]).any()):
            return None
        moved = bool((index.diff() < 0).any())
        order = index.argsort(stable=True) if moved else None
        return rounded_of(q if order is None else q[:, order], scale, zero, self.bits_of(base), order)

    @abstractmethod
    def shape(self, base: str) -> tuple[int, ...]:
        """Rows and columns of a matrix."""

    @abstractmethod
    def width(self, base: str) -> int:
        """Bits of a matrix as the file has it."""

    @abstractmethod
    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q (rows, columns) from 0 up, scales and zeros (rows, groups), and the group of each column."""

    def part(self, base: str, ending: str, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """One of a matrix' tensors, if it is there; of this shape."""
        if base + ending not in self._weights.shapes():
            return None
        found = self._weights.tensor(base + ending)
        if shape is not None and tuple(found.shape) != shape:
            raise LuhuoError(
                tr("A quantised tensor has the wrong shape.", "量化张量的形状不对。"),
                expected=list(shape),
                found=f"{base}{ending} {list(found.shape)}",
                where=self.where,
            )
        return found

    def needed(self, base: str, ending: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """The same, of one that has to be there."""
        found = self.part(base, ending, shape)
        if found is None:
            raise LuhuoError(
                tr("A quantised matrix lacks a tensor.", "量化矩阵缺少张量。"),
                expected=base + ending,
                where=self.where,
            )
        return found


class CompressedWeights(RoundedWeights):
    """compressed-tensors, pack-quantized: `weight_packed`, `weight_scale`, `weight_shape`, perhaps more."""

    parts = (".weight_packed", ".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx")

    def shape(self, base: str) -> tuple[int, ...]:
        return tuple(self.needed(base, ".weight_shape", (2,)).tolist())

    def width(self, base: str) -> int:
        words, columns = self._weights.shapes()[base + ".weight_packed"][1], self.shape(base)[1]
        return next((bits for bits in (4, 8) if words == -(-columns * bits // 32)), 32 * words // max(columns, 1))

    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, columns = self.shape(base)
        bits = self.bits_of(base)
        q = of_words(self.needed(base, ".weight_packed", (rows, -(-columns * bits // 32))), bits, columns)
        scale = _scales(self, base, rows)
        words = self.part(base, ".weight_zero_point", (-(-rows * bits // 32), scale.shape[1]))
        zero = torch.full(scale.shape, 2 ** (bits - 1)) if words is None else of_words(words.t(), bits, rows).t()
        return q, scale, zero, _groups(self.part(base, ".weight_g_idx", (columns,)), columns, scale.shape[1])


class PlainWeights(RoundedWeights):
    """compressed-tensors, int-quantized and naive-quantized: `weight` int8, `weight_scale`, perhaps a zero."""

    parts = (".weight_scale", ".weight_zero_point", ".weight_g_idx")

    def shape(self, base: str) -> tuple[int, ...]:
        return self._weights.shapes().get(base + ".weight", ())

    def width(self, base: str) -> int:
        return 8

    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, columns = self.shape(base)
        q, scale = self.needed(base, ".weight"), _scales(self, base, rows)
        if q.dtype != torch.int8:
            raise LuhuoError(
                tr("Weights quantised this way are not read.", "不读取以这种方式量化的权重。"),
                expected="int8",
                found=f"{base}.weight {q.dtype}",
                where=self.where,
            )
        zero = self.part(base, ".weight_zero_point")
        zero = torch.zeros(scale.shape) if zero is None else zero.reshape(-1, scale.shape[1]).expand(scale.shape)
        index = _groups(self.part(base, ".weight_g_idx", (columns,)), columns, scale.shape[1])
        return q.to(torch.int16) + 128, scale, zero.to(torch.int16) + 128, index


class GPTQWeights(RoundedWeights):
    """GPTQ (Frantar et al. 2022): `qweight`, `qzeros`, `scales`, and `g_idx`: the group of each column."""

    parts = (".qweight", ".qzeros", ".scales", ".g_idx")

    def shape(self, base: str) -> tuple[int, ...]:
        words, rows = self._weights.shapes()[base + ".qweight"]
        return rows, words * 32 // self.width(base)

    def width(self, base: str) -> int:
        return int(self.settings.get("bits", 4))

    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (rows, columns), bits = self.shape(base), self.bits_of(base)
        q = of_words(self.needed(base, ".qweight").t(), bits, columns)
        scale = self.needed(base, ".scales").t()
        words = self.needed(base, ".qzeros", (scale.shape[1], -(-rows * bits // 32)))
        less = 0 if self.settings.get("checkpoint_format") == "gptq_v2" else 1
        zero = ((of_words(words, bits, rows) + less) & (2**bits - 1)).t()
        return q, scale, zero, _groups(self.part(base, ".g_idx", (columns,)), columns, scale.shape[1])


class AWQWeights(RoundedWeights):
    """AWQ (Lin et al. 2023), the layout of its "gemm" kernels: `qweight`, `qzeros`, `scales`."""

    parts = (".qweight", ".qzeros", ".scales")

    def shape(self, base: str) -> tuple[int, ...]:
        columns, words = self._weights.shapes()[base + ".qweight"]
        return words * 8, columns

    def width(self, base: str) -> int:
        return int(self.settings.get("bits", self.settings.get("w_bit", 4)))

    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, columns = self.shape(base)
        scale = self.needed(base, ".scales").t()
        q = _in_awq_order(self.needed(base, ".qweight"), rows)
        zero = _in_awq_order(self.needed(base, ".qzeros", (scale.shape[1], rows // 8)), rows)
        return q, scale, zero, _groups(None, columns, scale.shape[1])


def _in_awq_order(words: Tensor, rows: int) -> Tensor:
    """Words (n, rows / 8) as integers (rows, n)."""
    found = of_words(words, 4, rows).view(len(words), -1, 8)
    right = torch.empty_like(found)
    right[..., list(AWQ_ORDER)] = found
    return right.flatten(1).t()


def _scales(weights: RoundedWeights, base: str, rows: int) -> Tensor:
    """Scales (rows, groups), of one for the whole matrix too."""
    scale = weights.needed(base, ".weight_scale")
    return scale.reshape(1, 1).expand(rows, 1) if scale.numel() == 1 else scale.reshape(rows, -1)


def _groups(index: Tensor | None, columns: int, groups: int) -> Tensor:
    """The group of each column."""
    if index is not None and bool((index >= 0).all()):
        return index.long().clamp(max=groups - 1)
    return torch.arange(columns) // -(-columns // groups)


def read_rounded(weights: Weights, settings: Mapping[str, Any]) -> RoundedWeights:
    """The tensors of a checkpoint with this `quantization_config`. Raises `LuhuoError` for another layout."""
    method, found = settings.get("quant_method"), settings.get("format")
    if method == "gptq":
        return GPTQWeights(weights, settings)
    if method == "awq" and settings.get("version", "gemm").lower() == "gemm":
        return AWQWeights(weights, settings)
    if method == "compressed-tensors" and found == PACKED:
        return CompressedWeights(weights, settings)
    if method == "compressed-tensors" and found in PLAIN:
        return PlainWeights(weights, settings)
    raise LuhuoError(
        tr("Weights in this layout are not read.", "不读取这种布局的权重。"),
        expected=f"awq gemm, gptq, compressed-tensors {PACKED}, {', '.join(PLAIN)}",
        found=f"{method} {found or settings.get('version')}",
        where=weights.where,
        fix=tr("Get the model in bf16, or as GGUF.", "请换用该模型的 bf16 或 GGUF 版本。"),
    )
