"""Settings of PyTorch on NVIDIA's GPUs that hold for a whole training run, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""Ways to compute causal attention, the fastest on Hopper first; PyTorch passes over those that do not fit."""


@contextmanager
def settings(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """In force inside of it; nothing changes on other devices.

    | setting             | value                   | why                                                             |
    | ------------------- | ----------------------- | --------------------------------------------------------------- |
    | fp32 products       | TF32 if dtype is fp32   | fp32 units multiply some ten times slower than the matrix units |
    |                     | else exact              | only routers compute in fp32 then, and they decide exactly      |
    | allocator           | expandable segments     | micro-batches of other sizes reuse memory instead of scattering |
    | causal attention    | cuDNN, flash, efficient | cuDNN's kernels use Hopper's instructions, PyTorch's flash not  |
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if dtype == torch.float32 else "highest")
    torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    try:
        with sdpa_kernel(ATTENTION, set_priority=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
