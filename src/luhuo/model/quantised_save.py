"""Writing matrices of few bits in the layouts of compressed-tensors, which transformers and vLLM read.

- pack-quantized: integers of 8, 4, 3 and 2 bits in words (`words.py`), with plain activations. vLLM runs weights of 8
  bits with plain activations in this format only, so there is no second one for them.
- int-quantized: int8 weights whose inputs are rounded to 8 bits as well (W8A8).
- float-quantized: FP8 weights whose inputs are rounded to FP8; with plain inputs it is called naive-quantized.

A matrix whose outlier columns are multiplied unrounded (LLM.int8) goes into the layout of bitsandbytes, which has a
place for the threshold (`quantised_bitsandbytes.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.packed import Packed, Width, by_row, integers
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.families import links
from luhuo.model.families.links import Link
from luhuo.model.kept_linear import KeptLinear
from luhuo.model.matrices import Activations, Float8, Kept
from luhuo.model.quantised import QuantisedLinear, Rounded, joined_rows
from luhuo.model.quantised_bitsandbytes import bitsandbytes_config, of_bitsandbytes
from luhuo.model.quantised_experts import QuantisedMatrices
from luhuo.model.words import to_words

PACKED, INTEGERS, FLOATS, NAIVE = "pack-quantized", "int-quantized", "float-quantized", "naive-quantized"
MIXED = "mixed-precision"
NORM = re.compile(r"norm[^.]*\.weight$")
"""Weights in the blocks that are no matrices."""


Rewritable = QuantisedLinear | EightBitLinear | QuantisedMatrices
"""What is written with the numbers it has."""


def has_rounded(model: nn.Module) -> bool:
    """Whether any matrix of a model is no parameter."""
    return any(isinstance(module, KeptLinear | QuantisedMatrices) for module in model.modules())


def kept_of(model: nn.Module, config: Any) -> Mapping[str, Kept]:
    """The matrices of a model's blocks that are kept in few bits, by the name of the parameter they stand for; each is
    unpacked when it is asked for. FP8 in tiles has no layout here and is published dense, as are 2:4 and experts whose
    family publishes them as one tensor."""
    modules = dict(model.named_modules())
    found = {}
    for link in links(config):
        module = modules.get(link.ours.removesuffix(".weight"))
        if not isinstance(module, Rewritable) or not link.ours.startswith("blocks."):
            continue
        tiles = not isinstance(module, EightBitLinear) and module.floats and module.group < module.columns
        if not tiles and (link.experts or not isinstance(module, QuantisedMatrices)):
            found[link.ours] = module
    return _Unpacked(found)


class _Unpacked(Mapping[str, Kept]):
    def __init__(self, modules: Mapping[str, Rewritable]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> Kept:
        return kept_in(self._modules[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


def kept_in(module: Rewritable) -> Kept:
    """The matrix of a module and how its input is rounded."""
    if isinstance(module, EightBitLinear):
        eight = module.matrix
        group = -(-module.columns // 8) * 8
        rounded = Rounded(eight.weight, eight.scale[:, None], None, 8, group)
        return Kept(rounded, Activations("int", eight.input_scale, eight.threshold))
    of_experts = isinstance(module, QuantisedMatrices)
    several = [module.matrix(expert) for expert in range(len(module))] if of_experts else [module.matrix]
    whole = joined_rows([_rounded(matrix, module.width) for matrix in several])
    return Kept(Float8(whole.q.view(torch.float8_e4m3fn), whole.scale) if module.floats else whole)


def _rounded(matrix: Packed, width: Width) -> Rounded:
    """A packed matrix in rows; of one in FP8 the bits."""
    scale, low = (None if part is None else by_row(matrix, part) for part in (matrix.scale, matrix.low))
    assert scale is not None
    return Rounded(integers(matrix), scale, low, width, matrix.group, matrix.order)


def published_rounded(model: nn.Module, config: Any) -> Iterator[tuple[str, Tensor]]:
    """All published tensors of a model with matrices in few bits, these as compressed-tensors has them.

    Embedding and output matrix are published dense, in the model's own dtype. Raises `LuhuoError` for a matrix whose
    numbers this layout does not have.
    """
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    modules = dict(model.named_modules())
    dtype = next(model.parameters()).dtype
    kept = kept_of(model, config)
    for link in links(config):
        module = modules.get(link.ours.removesuffix(".weight"))
        if link.ours in kept:
            yield from published(link, kept[link.ours])
        elif isinstance(module, KeptLinear | QuantisedMatrices):
            yield from published(link, Kept(module.dense(dtype)))
        else:
            yield from published(link, Kept(tensors[link.ours]))


def published(link: Link, kept: Kept) -> Iterator[tuple[str, Tensor]]:
    """The published tensors of one matrix or parameter. Raises `LuhuoError` for what its layout does not have."""
    value, inputs = kept.value, kept.activations
    if isinstance(value, Tensor):
        yield from zip(link.theirs, link.split(value), strict=True)
        return
    count = len(value.q if isinstance(value, Rounded) else value.values)
    numbers = torch.arange(count).view(*((link.experts,) if link.experts else ()), -1, 1)
    for name, places in zip(link.theirs, link.split(numbers), strict=True):
        for ending, tensor in _parts(value, inputs, places[:, 0], name).items():
            yield name.removesuffix(".weight") + ending, tensor.contiguous()


def _parts(value: Rounded | Float8, inputs: Activations | None, rows: Tensor, name: str) -> dict[str, Tensor]:
    """Some rows of a matrix, by the endings of the tensors' names."""
    if isinstance(value, Float8):
        whole = value.scale.numel() == 1
        scale = value.scale.reshape(1).clone() if whole else value.scale[rows]
        parts = {".weight": value.values[rows], ".weight_scale": scale}
    elif inputs is not None and inputs.threshold is not None:
        return of_bitsandbytes(value, rows, name)
    else:
        parts = _words(value, rows, name) if inputs is None else _bytes(value, rows, name)
    if inputs is not None and inputs.scale is not None:
        parts[".input_scale"] = inputs.scale.reshape(1).clone()
    return parts


def _words(matrix: Rounded, rows: Tensor, name: str) -> dict[str, Tensor]:
    """Some rows of a matrix as pack-quantized has them."""
    q, zero = unsigned(matrix, rows, name)
    found = {".weight_scale": matrix.scale[rows], ".weight_shape": torch.tensor(q.shape)}
    if zero is not None:
        found[".weight_zero_point"] = to_words(zero.t(), matrix.bits).t()
    if matrix.order is not None:
        q, index = in_place(q, matrix.order, matrix.group)
        found[".weight_g_idx"] = index
    return {".weight_packed": to_words(q, matrix.bits)} | found


def _bytes(matrix: Rounded, rows: Tensor, name: str) -> dict[str, Tensor]:
    """Some rows of a matrix as int-quantized has them."""
    if matrix.order is not None:
        raise LuhuoError(
            tr("Columns that were moved have no place in int-quantized.", "int-quantized 布局不支持重排的列。"),
            where=name,
        )
    q, zero = unsigned(matrix, rows, name)
    middle = 2 ** (matrix.bits - 1)
    found = {".weight": (q - middle).to(torch.int8), ".weight_scale": matrix.scale[rows]}
    return found if zero is None else found | {".weight_zero_point": (zero - middle).to(torch.int8)}


def unsigned(matrix: Rounded, rows: Tensor, name: str) -> tuple[Tensor, Tensor | None]:
    """Some rows' integers 0 … 2^bits - 1 int16, and zeros (rows, groups) so that a weight is (q - zero) · scale.

    Without zeros it is (q - 2^(bits - 1)) · scale. Raises `LuhuoError` where lows are no whole number of scales.
    """
    shift = 128 if matrix.bits == 8 else 0 if matrix.low is not None else 2 ** (matrix.bits - 1)
    q = matrix.q[rows].short() + shift
    if matrix.low is None:
        return q, None
    low, scale = matrix.low[rows].float(), matrix.scale[rows].float()
    zero = (shift - low / scale).round().clamp(0, 2**matrix.bits - 1)
    if not torch.allclose((shift - zero) * scale, low, atol=0, rtol=1e-3):
        raise LuhuoError(
            tr(
                "The lows of this matrix are no whole number of scales: this layout cannot hold them.",
                "该矩阵的下限不是缩放的整数倍，这种布局存不下。",
            ),
            where=name,
            fix=tr("Load the model in bf16 and round it anew.", "请以 bf16 载入模型后重新量化。"),
        )
    return q, zero.short()


def in_place(q: Tensor, order: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Columns that were moved back in their places, and the group of each (columns,) int32."""
    places = order.long()
    index = torch.empty(len(places), dtype=torch.int32)
    index[places] = torch.arange(len(places), dtype=torch.int32) // group
    return torch.empty_like(q).index_copy_(1, places, q), index


def quantisation_config(kept: Mapping[str, Kept], config: Any) -> dict[str, Any]:
    """The `quantization_config` of what `published` gives, for the matrices `kept` by the names of ours."""
    named: list[tuple[str, Kept]] = []
    dense, outer = ["lm_head"], set()
    for link in links(config):
        names = [name.removesuffix(".weight") for name in link.theirs]
        one = kept.get(link.ours)
        inside = link.ours.startswith("blocks.")
        if one is not None and not isinstance(one.value, Tensor):
            named += [(name, one) for name in names]
            outer |= set() if inside else set(names)
        elif inside and (link.experts or link.ours.endswith(".weight")) and not NORM.search(link.ours):
            dense += names
    return config_of(named, [name for name in dense if name not in outer], by_class=not outer)


def config_of(named: Iterable[tuple[str, Kept]], dense: list[str], *, by_class: bool = True) -> dict[str, Any]:
    """The same for matrices by the names of the files; those in `dense` stay as they are. `by_class`: matrices that
    are all alike are named as "Linear" together."""
    kinds: dict[str, tuple[dict[str, Any], list[str]]] = {}
    thresholds = set()
    for name, one in named:
        assert not isinstance(one.value, Tensor)
        scheme = _scheme(one.value, one.activations)
        kinds.setdefault(str(scheme), (scheme, []))[1].append(name)
        thresholds |= {one.activations.threshold} if one.activations and one.activations.threshold else set()
    if thresholds:
        return bitsandbytes_config(max(thresholds), dense)
    groups = {
        f"group_{number}": {"targets": ["Linear"] if len(kinds) == 1 and by_class else names, **scheme}
        for number, (scheme, names) in enumerate(kinds.values())
    }
    formats = {scheme["format"] for scheme, _ in kinds.values()}
    return {
        "quant_method": "compressed-tensors",
        "format": formats.pop() if len(formats) == 1 else MIXED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": dense,
    }


def _scheme(value: Rounded | Float8, inputs: Activations | None) -> dict[str, Any]:
    """A config group without its targets."""
    if isinstance(value, Float8):
        whole, actorder, group, symmetric, bits = value.scale.numel() == 1, None, None, True, 8
        strategy, layout = "tensor" if whole else "channel", FLOATS if inputs is not None else NAIVE
    else:
        group = None if value.group >= value.q.shape[1] else value.group
        strategy, actorder = "channel" if group is None else "group", None if value.order is None else "group"
        symmetric, bits, layout = value.low is None, value.bits, PACKED if inputs is None else INTEGERS
    kind = "float" if isinstance(value, Float8) else "int"
    weights = {
        "num_bits": bits,
        "type": kind,
        "symmetric": symmetric,
        "strategy": strategy,
        "group_size": group,
        "actorder": actorder,
        "dynamic": False,
    }
    return {
        "weights": weights,
        "input_activations": None if inputs is None else _input_scheme(inputs),
        "output_activations": None,
        "format": layout,
    }


def _input_scheme(inputs: Activations) -> dict[str, Any]:
    moving = inputs.scale is None
    return {
        "num_bits": 8,
        "type": inputs.kind,
        "symmetric": True,
        "strategy": "token" if moving else "tensor",
        "group_size": None,
        "actorder": None,
        "dynamic": moving,
    }
