"""Matrices that are rounded already, in a GGUF file with the integers they have.

Q4_0 holds 4 bits without lows, Q4_1 with lows, Q8_0 8 bits without, each with a half-precision scale for 32 columns.
So groups must be multiples of 32, which share their scale among the blocks, and columns must stand in their order.
Scales in bf16 fit half precision exactly, those in fp32 are rounded to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from luhuo.core.language import tr
from luhuo.files.gguf_types import TensorType
from luhuo.kernels.gguf_quantise import of_integers
from luhuo.kernels.packed import Width
from luhuo.model.families.links import Link
from luhuo.model.quantised import Rounded, joined_rows

BLOCK = 32
WANTED: dict[TensorType, Width] = {
    TensorType.F16: 8,
    TensorType.Q8_0: 8,
    TensorType.Q6_K: 4,
    TensorType.Q5_K: 4,
    TensorType.Q5_0: 4,
    TensorType.Q5_1: 4,
    TensorType.Q4_K: 4,
    TensorType.Q4_0: 4,
    TensorType.Q4_1: 4,
    TensorType.Q3_K: 3,
    TensorType.Q2_K: 2,
}
"""The most bits of a rounded matrix that keeps them where this format was asked for."""

Reason = Literal["bits", "group", "order", "low", "scale"]


@dataclass(frozen=True)
class Blocks:
    """A rounded matrix as blocks of a format."""

    kind: TensorType
    rounded: Rounded
    exact: bool
    """Whether scales and lows are numbers of half precision."""

    def pieces(self) -> Iterator[Tensor]:
        """Its bytes."""
        columns = self.rounded.q.shape[1]
        repeat = columns // BLOCK if self.rounded.group >= columns else self.rounded.group // BLOCK
        scale, low = (
            None if part is None else part.float().repeat_interleave(repeat, 1)
            for part in (self.rounded.scale, self.rounded.low)
        )
        assert scale is not None
        yield from of_integers(self.rounded.q, scale, low, self.kind)


def blocks_of(rounded: Rounded, asked: TensorType) -> Blocks | Reason:
    """A rounded matrix as blocks, or why it has to be rounded anew where the format `asked` for is another."""
    columns = rounded.q.shape[1]
    if rounded.order is not None:
        return "order"
    if columns % BLOCK or (rounded.group % BLOCK and rounded.group < columns):
        return "group"
    if asked not in WANTED or rounded.bits > WANTED[asked]:
        return "bits"
    if rounded.bits == 8 and rounded.low is not None:
        return "low"
    if rounded.bits < 4 and rounded.low is None:
        rounded = replace(rounded, bits=4)
    kind = TensorType.Q8_0 if rounded.bits == 8 else TensorType.Q4_0 if rounded.low is None else TensorType.Q4_1
    parts = [part.float() for part in (rounded.scale, rounded.low) if part is not None]
    if any(not torch.isfinite(part.half()).all() for part in parts):
        return "scale"
    return Blocks(kind, rounded, all(torch.equal(part.half().float(), part) for part in parts))


class RoundedRows:
    """Rounded matrices by the names of a GGUF file, out of a directory that has them by its own.

    `found` are our parameters' links with the names of the directory's tensors, `theirs` those to the file's tensors.
    """

    def __init__(
        self,
        source: Callable[[str], Rounded | None],
        found: Sequence[tuple[Link, list[str]]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._source, self._shapes = source, shapes
        self._found = {link.ours: (link, names) for link, names in found}

    def of(self, link: Link, index: int) -> Rounded | None:
        """Tensor `index` that `link` makes of a parameter; None if its rows were not rounded alike.

        Of experts it is the rows of all, one expert after the other.
        """
        if link.ours not in self._found:
            return None
        ours, names = self._found[link.ours]
        shapes = [self._shapes[name][:-1] for name in names]
        sizes = [math.prod(shape) for shape in shapes]
        numbers = torch.arange(sum(sizes)).split(sizes)
        try:
            parts = [one.view(*shape, 1) for one, shape in zip(numbers, shapes, strict=True)]
            rows = link.split(ours.join(parts))[index]
        except (RuntimeError, IndexError):  # they do more than move rows
            return None
        if rows.shape[-1] != 1:
            return None
        ends = torch.tensor(sizes).cumsum(0)
        flat = rows.flatten()
        found = []
        which, counts = torch.bucketize(flat, ends, right=True).unique_consecutive(return_counts=True)
        for part, mine in zip(which.tolist(), flat.split(counts.tolist()), strict=True):
            rounded = self._source(names[part])
            if rounded is None:
                return None
            found.append(_rows(rounded, mine - (ends[part] - sizes[part])))
        kinds = {(one.bits, one.group, one.low is None, one.order is None) for one in found}
        return joined_rows(found) if len(kinds) == 1 and (len(found) == 1 or found[0].order is None) else None


def _rows(rounded: Rounded, rows: Tensor) -> Rounded:
    low = None if rounded.low is None else rounded.low[rows]
    return replace(rounded, q=rounded.q[rows], scale=rounded.scale[rows], low=low)


WHY: dict[Reason, tuple[str, str]] = {
    "bits": ("more bits than were asked for", "位数多于所要求的"),
    "group": ("groups are no multiple of 32", "分组不是 32 的倍数"),
    "order": ("columns were moved", "列被重排"),
    "low": ("8 bits with lows", "带下限的 8 位"),
    "scale": ("scales beyond half precision", "缩放超出半精度范围"),
}


def told(kept: Sequence[tuple[TensorType, bool]], anew: Sequence[Reason]) -> str:
    """What became of a rounded model's matrices, in words: the formats of those kept, and whether exactly."""
    kinds = Counter(kind.name for kind, _ in kept)
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    rough = sum(not exact for _, exact in kept)
    lines = [tr(f"Integers kept: {held or 0}.", f"保留原整数：{held or 0}。")]
    if rough:
        lines.append(
            tr(f"Of these {rough} with scales rounded to half precision.", f"其中 {rough} 个的缩放舍入到半精度。")
        )
    for reason, count in sorted(Counter(anew).items()):
        lines.append(tr(f"{count} rounded anew: {WHY[reason][0]}.", f"{count} 个重新量化：{WHY[reason][1]}。"))
    return " ".join(lines)
