"""Writing rounded weights in the layout of compressed-tensors (pack-quantized), which transformers and vLLM read.

Integers of 4 and 8 bits are packed in 32-bit words along the columns, lowest bits first. vLLM runs weights of 8 bits
with plain activations in this format only, so there is no second one for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.packed import Packed, by_row, integers
from luhuo.model.families import links
from luhuo.model.layers import Linear
from luhuo.model.quantised import QuantisedLinear
from luhuo.model.quantised_files import PACKED


def to_words(q: Tensor, bits: int) -> Tensor:
    """Non-negative integers (rows, columns) in words (rows, ⌈columns · bits / 32⌉) int32."""
    step = 32 // bits
    padded = nn.functional.pad(q.int(), (0, -q.shape[1] % step)).view(len(q), -1, step)
    return (padded << (bits * torch.arange(step, dtype=torch.int32))).sum(-1, dtype=torch.int32)


def has_rounded(model: nn.Module) -> bool:
    """Whether any matrix of a model is rounded."""
    return any(isinstance(module, QuantisedLinear) for module in model.modules())


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
            yield from zip(link.theirs, link.split(tensors[link.ours]), strict=True)
        elif not link.ours.startswith("blocks."):
            yield from zip(link.theirs, link.split(module.dense(dtype)), strict=True)
        else:
            places = link.split(torch.arange(module.rows)[:, None])
            for name, rows in zip(link.theirs, places, strict=True):
                for ending, tensor in _compressed(module.matrix, rows[:, 0], name).items():
                    yield name.removesuffix(".weight") + ending, tensor


def _compressed(matrix: Packed, rows: Tensor, name: str) -> dict[str, Tensor]:
    """Some rows of a matrix as compressed-tensors has them, by the endings of the tensors' names."""
    shift = 8 if matrix.low is None and matrix.bits == 4 else 128 if matrix.bits == 8 else 0
    q = integers(matrix)[rows].short() + shift
    scale = by_row(matrix, matrix.scale)[rows]
    found = {".weight_scale": scale.contiguous(), ".weight_shape": torch.tensor(q.shape)}
    if matrix.low is not None:
        low = by_row(matrix, matrix.low)[rows].float()
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


def quantisation_config(model: nn.Module, config: Any) -> dict[str, Any]:
    """The `quantization_config` of what `published_rounded` gives."""
    modules, kinds, dense = dict(model.named_modules()), {}, ["lm_head"]
    for link in links(config):
        module = modules.get(link.ours.removesuffix(".weight"))
        names = [name.removesuffix(".weight") for name in link.theirs]
        if not link.ours.startswith("blocks."):
            continue
        if isinstance(module, QuantisedLinear):
            whole = module.group >= module.columns
            kind = (module.bits, None if whole else module.group, module.low is None, module.order is not None)
            kinds.setdefault(kind, []).extend(names)
        elif isinstance(module, Linear):
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
