"""Choice of device and number format. Torch is imported only when a function here is called."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "fp32", "bf16", "fp16")


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" takes CUDA, then Apple's MPS, then the CPU; any other name must be available."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available.get(name.split(":")[0], False):
        raise LuhuoError(
            tr(f"The device “{name}” is not available.", f"设备“{name}”不可用。"),
            expected=", ".join(kind for kind, there in available.items() if there),
            fix=tr("Use device=cpu, or run `luhuo doctor`.", "请用 device=cpu，或运行 `luhuo doctor`。"),
        )
    return torch.device(name)


def pick_dtype(name: str = "auto", device: torch.device | None = None) -> torch.dtype:
    """The dtype to compute in. "auto" is bf16 where the device multiplies it fast, fp32 otherwise.

    fp16 on a CPU falls into PyTorch's naive path (about 190 times slower than fp32) and is refused.
    """
    import torch

    device = device or pick_device()
    if name == "auto":
        name = "bf16" if fast_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise LuhuoError(
            tr(
                "fp16 is not usable on a CPU (it is some hundred times slower than fp32).",
                "CPU 上不能用 fp16（比 fp32 慢上百倍）。",
            ),
            expected="fp32, bf16",
            found="fp16",
        )
    table = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in table:
        raise LuhuoError(tr("Unknown dtype.", "未知的数值格式。"), expected=", ".join(DTYPES), found=name)
    return table[name]


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are faster than fp32 on this device."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        return _cpu_has_bf16()
    return False  # MPS: bf16 exists on newer chips only and gains little; fp32 is safe everywhere.


@functools.cache
def _cpu_has_bf16() -> bool:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as handle:
            flags = next((line for line in handle if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return any(flag in flags.split() for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def cpu_threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int = 0) -> None:
    """Compute with `count` CPU threads, whatever an earlier stage of this process used; 0: as many as OMP_NUM_THREADS
    says, or one a core. Two processes with a thread for each core wait for each other in every small product.

    Sums of floats depend on how many threads share them: a resumed run must use as many as the first.
    """
    import torch

    told = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(count or (int(told) if told.isdigit() else 0) or cpu_threads())
