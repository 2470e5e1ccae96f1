"""How much the cache may hold, and in which number format."""

from __future__ import annotations

from pathlib import Path

import torch

from luhuo.core.device import pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference.runner import Writer, cached_config, longest_prompt
from luhuo.model.cache import bytes_per_token
from luhuo.model.cache_formats import INT4

SHARE = {"cpu": 0.25, "cuda": 0.8}
"""Of the memory that is free when the engine is made. It is taken as it is needed, not at once."""
UNKNOWN_BYTES = 1 << 30
"""Where nobody says how much is free."""


def cache_format(name: str, dtype: torch.dtype) -> torch.dtype:
    """The cache's number format: "auto" is `dtype`, that of the model. Raises `LuhuoError` for an unknown name."""
    if name == "auto":
        return dtype
    if name in ("int8", "int4"):
        return torch.int8 if name == "int8" else INT4
    if name == "fp16":
        return torch.float16  # a CPU need not multiply it here, only keep it
    if name not in ("fp32", "bf16"):
        raise LuhuoError(
            tr("The cache has no such number format.", "缓存没有这种数值格式。"),
            expected="auto, fp32, bf16, fp16, int8, int4",
            found=name,
        )
    return pick_dtype(name)


def default_tokens(model: Writer, stored: torch.dtype, max_batch: int) -> int:
    """Tokens that fit into a share of the free memory, at most `max_batch` whole contexts and as much again."""
    share = int(free_bytes(model.device) * SHARE.get(model.device.type, 0.25))
    fitting = share // bytes_per_token(cached_config(model), stored)
    return max(1, min(fitting, 2 * max_batch * longest_prompt(model)))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return UNKNOWN_BYTES
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return min(int(found[0]) * 1024, _limit()) if found else UNKNOWN_BYTES


def _limit() -> int:
    """What a container may use beyond what it uses now."""
    folder = Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text(encoding="utf-8").strip()
        used = int((folder / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 1 << 62
    return 1 << 62 if most == "max" else max(0, int(most) - used)
