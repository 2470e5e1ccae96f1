"""Reading weights that were rounded elsewhere: compressed-tensors, GPTQ, AWQ, and bitsandbytes' 8 bits.

The first three keep integers of `bits` bits in 32-bit words (`words.py`). compressed-tensors packs along the columns
of (rows, columns). GPTQ has the matrix as (columns, rows) and packs along the columns, but zeros, less one, along the
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
from luhuo.kernels.block_floats import dequantise_fp8
from luhuo.kernels.packed import Bits, Width
from luhuo.model.matrices import Activations, Float8
from luhuo.model.quantised import Rounded
from luhuo.model.quantised_bitsandbytes import TOP
from luhuo.model.quantised_schemes import Schemes
from luhuo.model.weights import Weights
from luhuo.model.words import of_words, words_for

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
LAYOUTS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision")
"""Formats of compressed-tensors that are read: words, int8, FP8, and several of them in one directory."""
METHODS = ("compressed-tensors", "gptq", "awq", "bitsandbytes")


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
    besides: tuple[str, ...] = ()
    """Endings of tensors that are no weights: scales of what is cached, or given out."""

    def __init__(self, weights: Weights, settings: Mapping[str, Any]) -> None:
        self.where, self._weights, self.settings = weights.where, weights, settings
        shapes = weights.shapes()
        self._matrices = [name.removesuffix(self.parts[0]) for name in shapes if name.endswith(self.parts[0])]
        inner = {base + part for base in self._matrices for part in self.parts}
        kept = (name for name in shapes if name not in inner and not name.endswith(self.besides))
        self._shapes = {name: shapes[name] for name in kept}
        self._shapes |= {base + ".weight": self.shape(base) for base in self._matrices}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        return self._shapes

    @property
    def bits(self) -> Bits | None:
        """The most bits of any matrix of integers, 3 and 2 counted as 4; None if there is none."""
        found = {self.bits_of(base) for base in self._matrices if not self.is_float(base)}
        return None if not found else 8 if 8 in found else 4

    def is_float(self, base: str) -> bool:
        """Whether a matrix is kept in small floats."""
        return False

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

    def is_rounded(self, name: str) -> bool:
        """Whether a tensor is a matrix in few bits."""
        base = name.removesuffix(".weight")
        return base != name and base + self.parts[0] in self._weights.shapes()

    def tensor(self, name: str) -> Tensor:
        """One tensor as floats."""
        base = name.removesuffix(".weight")
        if not self.is_rounded(name):
            return self._weights.tensor(name)
        q, scale, zero, index = self.read(base)
        scale, zero = scale.float()[:, index], zero.float()[:, index]
        return (q.float() - zero) * scale

    def rounded(self, name: str) -> Rounded | None:
        """One tensor as it was rounded; None if it was not, or not in a way the kernels know."""
        base = name.removesuffix(".weight")
        if not self.is_rounded(name):
            return None
        q, scale, zero, index = self.read(base)
        counts = index.bincount(minlength=scale.shape[1])
        if len(counts) != scale.shape[1] or bool((counts != counts[0]).any()):
            return None
        moved = bool((index.diff() < 0).any())
        order = index.argsort(stable=True) if moved else None
        return rounded_of(q if order is None else q[:, order], scale, zero, self.bits_of(base), order)

    def float8(self, name: str) -> Float8 | None:
        """One tensor in FP8, with a scale for each row or for all; None if it is not kept so."""
        return None

    def activations(self, name: str) -> Activations | None:
        """How the input of a matrix is to be rounded; None: not at all."""
        return None

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
    """compressed-tensors: `weight_packed` and `weight_shape`, or `weight` in int8 or FP8, and `weight_scale`; perhaps
    zeros, the groups of the columns, and a scale for the input."""

    parts = (
        ".weight_scale",
        ".weight_packed",
        ".weight_shape",
        ".weight_zero_point",
        ".weight_g_idx",
        ".input_scale",
        ".input_zero_point",
    )
    besides = (".k_scale", ".v_scale", ".q_scale", ".output_scale", ".k_zero_point", ".v_zero_point")

    def __init__(self, weights: Weights, settings: Mapping[str, Any]) -> None:
        self._schemes = Schemes(settings, weights.where)
        super().__init__(weights, settings)

    def is_packed(self, base: str) -> bool:
        """Whether a matrix is kept in words."""
        return base + ".weight_packed" in self._weights.shapes()

    def is_float(self, base: str) -> bool:
        return not self.is_packed(base) and self._schemes.of(base).floats

    def shape(self, base: str) -> tuple[int, ...]:
        if not self.is_packed(base):
            return self._weights.shapes().get(base + ".weight", ())
        return tuple(self.needed(base, ".weight_shape", (2,)).tolist())

    def width(self, base: str) -> int:
        if not self.is_packed(base):
            return 8
        words, columns = self._weights.shapes()[base + ".weight_packed"][1], self.shape(base)[1]
        told = self._schemes.of(base).bits
        if told in get_args(Width) and words in (words_for(columns, told), words_for(columns, told, loose=True)):
            return told
        return next((bits for bits in (4, 8, 3, 2) if words == words_for(columns, bits)), told)

    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, columns = self.shape(base)
        scale = _scales(self, base, rows)
        index = _groups(self.part(base, ".weight_g_idx", (columns,)), columns, scale.shape[1])
        q, zero = self._words(base, scale) if self.is_packed(base) else self._bytes(base, scale)
        return q, scale, zero, index

    def _words(self, base: str, scale: Tensor) -> tuple[Tensor, Tensor]:
        """q and zeros out of words."""
        (rows, columns), bits = self.shape(base), self.bits_of(base)
        words = self.needed(base, ".weight_packed")
        loose = words.shape[1] != words_for(columns, bits) and words.shape[1] == words_for(columns, bits, loose=True)
        expected = (rows, words_for(columns, bits, loose=loose))
        q = of_words(self.needed(base, ".weight_packed", expected), bits, columns, loose=loose)
        packed = self.part(base, ".weight_zero_point", (words_for(rows, bits, loose=loose), scale.shape[1]))
        if packed is None:
            return q, torch.full(scale.shape, 2 ** (bits - 1))
        return q, of_words(packed.t().contiguous(), bits, rows, loose=loose).t()

    def _bytes(self, base: str, scale: Tensor) -> tuple[Tensor, Tensor]:
        """q and zeros of int8."""
        q, zero = self.needed(base, ".weight"), self.part(base, ".weight_zero_point")
        if q.dtype != torch.int8:
            raise LuhuoError(
                tr("Weights quantised this way are not read.", "不读取以这种方式量化的权重。"),
                expected="int8",
                found=f"{base}.weight {q.dtype}",
                where=self.where,
            )
        zero = torch.zeros(scale.shape) if zero is None else zero.reshape(-1, scale.shape[1]).expand(scale.shape)
        return q.to(torch.int16) + 128, zero.to(torch.int16) + 128

    def tensor(self, name: str) -> Tensor:
        base = name.removesuffix(".weight")
        if not self.is_rounded(name) or not self.is_float(base):
            return super().tensor(name)
        values, scale = self._floats(base)
        if scale.shape[0] in (1, len(values)):
            return (
                values.float()
                * scale.float().repeat_interleave(-(-values.shape[1] // scale.shape[1]), 1)[:, : values.shape[1]]
            )
        tile = [-(-size // count) for size, count in zip(values.shape, scale.shape, strict=True)]
        return dequantise_fp8(values, scale, (tile[0], tile[1]))

    def rounded(self, name: str) -> Rounded | None:
        base = name.removesuffix(".weight")
        if self.is_rounded(name) and self.is_float(base):
            return None
        return super().rounded(name)

    def float8(self, name: str) -> Float8 | None:
        base = name.removesuffix(".weight")
        if not self.is_rounded(name) or not self.is_float(base):
            return None
        values, scale = self._floats(base)
        return Float8(values, scale) if scale.shape[1] == 1 and scale.shape[0] in (1, len(values)) else None

    def _floats(self, base: str) -> tuple[Tensor, Tensor]:
        """Values (rows, columns) float8_e4m3fn and scales in two dimensions."""
        values, scale = self.needed(base, ".weight"), self.needed(base, ".weight_scale")
        if values.dtype != torch.float8_e4m3fn or scale.dim() > 2 or values.dim() != 2:
            raise LuhuoError(
                tr("Weights quantised this way are not read.", "不读取以这种方式量化的权重。"),
                expected="float8_e4m3fn",
                found=f"{base}.weight {values.dtype} {list(values.shape)}, {list(scale.shape)}",
                where=self.where,
            )
        return values, scale.reshape(1, 1) if scale.numel() == 1 else scale.reshape(len(scale), -1)

    def activations(self, name: str) -> Activations | None:
        base = name.removesuffix(".weight")
        if not self.is_rounded(name):
            return None
        kind = self._schemes.of(base).inputs
        if kind is None or base + ".input_zero_point" in self._weights.shapes():
            return None
        return Activations(kind, self.part(base, ".input_scale"))


class BitsAndBytesWeights(RoundedWeights):
    """bitsandbytes' 8 bits: `weight` int8 and `SCB`, the largest magnitude of each row; perhaps `weight_format`."""

    parts = (".SCB", ".weight_format")

    def shape(self, base: str) -> tuple[int, ...]:
        return self._weights.shapes().get(base + ".weight", ())

    def width(self, base: str) -> int:
        return 8

    def read(self, base: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, columns = self.shape(base)
        q, scale = self.needed(base, ".weight"), self.needed(base, ".SCB", (rows,)).float()[:, None] / TOP
        order = self.part(base, ".weight_format")
        if q.dtype != torch.int8 or (order is not None and int(order) != 0):
            raise LuhuoError(
                tr("Weights quantised this way are not read.", "不读取以这种方式量化的权重。"),
                expected=tr("int8 in rows", "按行存放的 int8"),
                found=f"{base}.weight {q.dtype} {'' if order is None else int(order)}",
                where=self.where,
            )
        zero = torch.full(scale.shape, 128, dtype=torch.int16)
        return q.to(torch.int16) + 128, scale, zero, _groups(None, columns, 1)

    def activations(self, name: str) -> Activations | None:
        if not self.is_rounded(name):
            return None
        return Activations(threshold=float(self.settings.get("llm_int8_threshold") or 0) or None)


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
        q = of_words(self.needed(base, ".qweight").t().contiguous(), bits, columns)
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
    if method == "compressed-tensors" and found in LAYOUTS:
        return CompressedWeights(weights, settings)
    if method == "bitsandbytes" and settings.get("load_in_8bit"):
        return BitsAndBytesWeights(weights, settings)
    raise LuhuoError(
        tr("Weights in this layout are not read.", "不读取这种布局的权重。"),
        expected=f"awq gemm, gptq, bitsandbytes 8 bits, compressed-tensors {', '.join(LAYOUTS)}",
        found=f"{method} {found or settings.get('version')}",
        where=weights.where,
        fix=tr("Get the model in bf16, or as GGUF.", "请换用该模型的 bf16 或 GGUF 版本。"),
    )
