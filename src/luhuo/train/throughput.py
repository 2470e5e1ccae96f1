"""How fast this machine multiplies matrices: what model FLOPs utilisation is measured against."""

from __future__ import annotations

import time

import torch


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 0, seconds: float = 0.1) -> float:
    """Measured FLOP/s of a square matrix product: the best of repeated products within `seconds`.

    `size` 0: 1,024, and on CUDA 8,192, below which its multiprocessors are not all busy. The numbers are random: a GPU
    multiplies equal ones with less power, and so at a higher clock than any model ever sees.
    """
    size = size or (8192 if device.type == "cuda" else 1024)
    generator = torch.Generator(device).manual_seed(0)  # the run's own random numbers are not touched
    a = torch.randn(size, size, device=device, generator=generator).to(dtype)
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
