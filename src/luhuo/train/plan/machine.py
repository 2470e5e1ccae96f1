"""Machines a plan is made for: this one, measured, or a number of accelerators from a table."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from luhuo.core.config import nearest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

GB = 1e9
GIB = 2**30

ACCELERATORS: dict[str, tuple[float, float]] = {
    "A100-40": (40, 312),
    "A100-80": (80, 312),
    "H100": (80, 989),
    "H200": (141, 989),
    "B200": (192, 2250),
    "L40S": (48, 362),
    "4090": (24, 165),
    "3090": (24, 71),
    "T4": (16, 65),
    "V100": (32, 125),
    "910B": (64, 320),
}
"""By name: memory in GB, and dense TFLOP/s in bf16 with fp32 sums (fp16 on T4 and V100, which have no bf16). As the
makers publish them, rounded; none was measured here. The 910B exists in several grades."""

UTILISATION = {"cpu": 0.40, "accelerator": 0.40}
"""Share of the matrix rate that a training step is assumed to reach: on a CPU what docs/benchmarks.md measured against
the rate of the same machine; on accelerators a guess against the published one."""

USABLE = 0.92
"""Share of an accelerator's memory that a run can count on: the rest goes to fragments and libraries."""


@dataclass(frozen=True)
class Machine:
    """Where a plan is to run. `memory` and `rate` are those of one process."""

    name: str
    count: int
    memory: float
    """Bytes that can be used."""
    rate: float
    """Matrix products in bf16, FLOP/s."""
    utilisation: float
    measured: bool
    kind: str
    """cpu or cuda."""

    @property
    def speed(self) -> float:
        """FLOP/s that training is assumed to reach on all of it."""
        return self.rate * self.utilisation * self.count


def described(text: str) -> Machine:
    """The machine of "8xH100", "4090" or "2×A100-80". Raises `LuhuoError` for a name that is not in the table."""
    found = re.fullmatch(r"\s*(?:(\d+)\s*[x×*]\s*)?(\S+)\s*", text, re.IGNORECASE)
    name = found[2].upper().replace("RTX", "").replace("ASCEND", "").strip("-") if found else ""
    name = {"A100": "A100-80", "A100-40G": "A100-40", "A100-80G": "A100-80"}.get(name, name)
    if not found or name not in ACCELERATORS or (count := int(found[1] or 1)) < 1:
        close = nearest(name, list(ACCELERATORS))
        raise LuhuoError(
            tr("This is no accelerator of the table.", "表中没有这种加速器。"),
            expected="8xH100; " + ", ".join(ACCELERATORS),
            found=text,
            fix=tr(f"Did you mean “{close}”?", f"是不是“{close}”？") if close else None,
        )
    memory, teraflops = ACCELERATORS[name]
    return Machine(name, count, memory * GB * USABLE, teraflops * 1e12, UTILISATION["accelerator"], False, "cuda")


def this_machine() -> Machine:
    """The device that training would use, with its free memory and its measured matrix rate."""
    import torch

    from luhuo.core.device import cpu_threads, pick_device, pick_dtype, use_threads
    from luhuo.train.throughput import matmul_rate

    device = pick_device()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        name, memory, kind = torch.cuda.get_device_name(device), float(free), "cuda"
        count = torch.cuda.device_count()
    else:
        use_threads()
        name = tr(f"CPU, {cpu_threads()} threads", f"CPU，{cpu_threads()} 线程")
        memory, kind, count = available_memory(), "cpu", 1
    rate = matmul_rate(device, pick_dtype("auto", device))
    share = UTILISATION["cpu" if kind == "cpu" else "accelerator"]
    return Machine(name, count, memory, rate, share, True, kind)


def available_memory() -> float:
    """Bytes this process can still take from the system: what is free or can be freed, within a container's limit."""
    values: dict[str, float] = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as handle:  # noqa: PTH123 (a kernel's file, not a path of ours)
            values = {key: float(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in handle)}
    except OSError:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    found = values.get("MemAvailable", values["MemTotal"])
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None:
        found = min(found, max(0.0, limit - used))
    return found


def _number(path: str) -> float | None:
    try:
        with open(path, encoding="ascii") as handle:  # noqa: PTH123
            return float(handle.read())
    except (OSError, ValueError):
        return None
