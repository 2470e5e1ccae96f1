"""Our fake quantisation beside torchao's, on the same matrix: the numbers and the slopes of weights.

    PYTHONPATH=FOLDER_WITH_TORCHAO python bench/qat_torchao.py

torchao is no dependency: unpack its wheel into a folder of its own (`pip install --no-deps --target FOLDER torchao`).
Its scales are fp32 and its range is smallest to largest, so ours are asked for the same here.
"""

from __future__ import annotations

import itertools

import torch
from torchao.quantization.qat import IntxFakeQuantizeConfig  # pyright: ignore[reportMissingImports]
from torchao.quantization.qat.fake_quantizer import IntxFakeQuantizer  # pyright: ignore[reportMissingImports]

from luhuo.model.grid import Grid
from luhuo.train.quantisation.fake import rounded_matrix

TYPES = {8: torch.int8, 4: torch.int4, 3: torch.int3, 2: torch.int2}
ROWS, COLUMNS = 96, 256


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, slope = (torch.randn(ROWS, COLUMNS, generator=generator) for _ in range(2))
    for bits, group, symmetric in itertools.product((8, 4, 3, 2), (32, 128), (True, False)):
        grid = Grid(bits, group, symmetric, search=False, scale_dtype=torch.float32)  # type: ignore[arg-type]
        ours, theirs = (weight.clone().requires_grad_(True) for _ in range(2))
        rounded = rounded_matrix(ours, *grid.scales(weight), grid)
        settings = IntxFakeQuantizeConfig(TYPES[bits], group_size=group, is_symmetric=symmetric)
        other = IntxFakeQuantizer(settings)(theirs)
        for one in (rounded, other):
            one.backward(slope)
        apart = (rounded - other).abs()
        step = grid.scales(weight)[0].repeat_interleave(group, 1)
        assert ours.grad is not None and theirs.grad is not None
        print(
            f"{bits} bits, group {group:>3}, {'symmetric ' if symmetric else 'asymmetric'}: "
            f"numbers apart by over a thousandth of a step: {(apart > step / 1000).float().mean():.4%}, "
            f"largest {(apart / step).max():.2e} steps; "
            f"farthest from the weight: ours {((rounded - weight).abs() / step).max():.2f} steps, theirs "
            f"{((other - weight).abs() / step).max():.2f}; "
            f"slopes apart by over 1e-5: {((ours.grad - theirs.grad).abs() > 1e-5).float().mean():.2%}"
        )


if __name__ == "__main__":
    main()
