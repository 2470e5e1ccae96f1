"""Writing rounded weights in the layout of compressed-tensors (pack-quantized), which transformers and vLLM read.

Integers of 4 and 8 bits are packed in 32-bit words along the columns, lowest bits first. vLLM runs weights of 8 bits
with plain activations in this format only, so there is no second one for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.packed import by_row, integers
from luhuo.model.families import links
from luhuo.model.families.links import Link
from luhuo.model.matrices import Kept
from luhuo.model.quantised import QuantisedLinear, Rounded
from luhuo.model.quantised_files import PACKED

NORM = re.compile(r"norm[^.]*\.weight$")
"""Weights in the blocks that are no matrices."""


def to_words(q: Tensor, bits: int) -> Tensor:
    """Non-negative integers (rows, columns) in words (rows, ⌈columns · bits / 32⌉) int32."""
    step = 32 // bits
    padded = nn.functional.pad(q.int(), (0, -q.shape[1] % step)).view(len(q), -1, step)
    return (padded << (bits * torch.arange(step, dtype=torch.int32))).sum(-1, dtype=torch.int32)


def has_rounded(model: nn.Module) -> bool:
    """Whether any matrix of a model is rounded."""
    return any(isinstance(module, QuantisedLinear) for module in model.modules())


def kept_of(model: nn.Module, config: Any) -> dict[str, Kept]:
    """The matrices of a model's blocks that are rounded, by the name of the parameter they stand for."""
    modules = dict(model.named_modules())
    found = {}
    for link in links(config):
        module = modules.get(link.ours.removesuffix(".weight"))
        if isinstance(module, QuantisedLinear) and link.ours.startswith("blocks."):
            found[link.ours] = Kept(rounded_of(module))
    return found


def rounded_of(module: QuantisedLinear) -> Rounded:
    """The integers and scales of a module."""
    matrix = module.matrix
    scale, low = (None if part is None else by_row(matrix, part) for part in (matrix.scale, matrix.low))
    assert scale is not None
    return Rounded(integers(matrix), scale, low, matrix.bits, matrix.group, matrix.order)


def published_rounded(model: nn.Module, config: Any) -> Iterator[tuple[str, Tensor]]:
    """All published tensors of a model with rounded matrices, these as compressed-tensors has them.

    Embedding and output matrix are published dense, in the model's own dtype. Raises `LuhuoError` for a matrix whose
    numbers this layout does not have.
    """
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    modules = dict(model.named_modules())
    dtype = next(model.parameters()).dtype
    for link in links(config):
        module = modules.get(link.ours.removesuffix(".weight"))
        if not isinstance(module, QuantisedLinear):
            yield from published(link, Kept(tensors[link.ours]))
        elif not link.ours.startswith("blocks."):
            yield from published(link, Kept(module.dense(dtype)))
        else:
            yield from published(link, Kept(rounded_of(module)))


def published(link: Link, kept: Kept) -> Iterator[tuple[str, Tensor]]:
    """The published tensors of one matrix or parameter. Raises `LuhuoError` for what this layout does not have."""
    value = kept.value
    if isinstance(value, Tensor):
        yield from zip(link.theirs, link.split(value), strict=True)
        return
    assert isinstance(value, Rounded)
    places = link.split(torch.arange(len(value.q))[:, None])
    for name, rows in zip(link.theirs, places, strict=True):
        for ending, tensor in _compressed(value, rows[:, 0], name).items():
            yield name.removesuffix(".weight") + ending, tensor


def _compressed(matrix: Rounded, rows: Tensor, name: str) -> dict[str, Tensor]:
    """Some rows of a matrix as compressed-tensors has them, by the endings of the tensors' names."""
    shift = 128 if matrix.bits == 8 else 0 if matrix.low is not None else 2 ** (matrix.bits - 1)
    q = matrix.q[rows].short() + shift
    scale = matrix.scale[rows]
    found = {".weight_scale": scale.contiguous(), ".weight_shape": torch.tensor(q.shape)}
    if matrix.low is not None:
        low = matrix.low[rows].float()
        zero = (shift - low / scale.float()).round().clamp(0, 2**matrix.bits - 1)
        if not torch.allclose((shift - zero) * scale.float(), low, atol=0, rtol=1e-3):
            raise LuhuoError(
                tr(
                    "The lows of this matrix are no whole number of scales: this layout cannot hold them.",
                    "该矩阵的下限不是缩放的整数倍，这种布局存不下。",
                ),
                where=name,
                fix=tr("Load the model in bf16 and round it anew.", "请以 bf16 载入模型后重新量化。"),
            )
        found[".weight_zero_point"] = to_words(zero.t(), matrix.bits).t().contiguous()
    if matrix.order is not None:
        order = matrix.order.long()
        q = torch.empty_like(q).index_copy_(1, order, q)
        found[".weight_g_idx"] = torch.empty(len(order), dtype=torch.int32).index_copy_(
            0, order, torch.arange(len(order), dtype=torch.int32) // matrix.group
        )
    return {".weight_packed": to_words(q, matrix.bits)} | found


def quantisation_config(kept: Mapping[str, Kept], config: Any) -> dict[str, Any]:
    """The `quantization_config` of what `published` gives, for the blocks' matrices `kept` by the names of ours."""
    kinds, dense = {}, ["lm_head"]
    for link in links(config):
        names = [name.removesuffix(".weight") for name in link.theirs]
        if not link.ours.startswith("blocks."):
            continue
        value = kept[link.ours].value if link.ours in kept else None
        if isinstance(value, Rounded):
            whole = value.group >= value.q.shape[1]
            kind = (value.bits, None if whole else value.group, value.low is None, value.order is not None)
            kinds.setdefault(kind, []).extend(names)
        elif link.ours.endswith(".weight") and not NORM.search(link.ours):
            dense += names
    groups = {
        f"group_{number}": {
            "targets": ["Linear"] if len(kinds) == 1 else names,
            "weights": {
                "num_bits": bits,
                "type": "int",
                "symmetric": symmetric,
                "strategy": "channel" if group is None else "group",
                "group_size": group,
                "actorder": "group" if ordered else None,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
        }
        for number, ((bits, group, symmetric, ordered), names) in enumerate(kinds.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "format": PACKED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": dense,
    }
