"""`luhuo doctor`: is this machine ready? Versions, devices against the CPU, speed, disk, cache, offline, fonts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.device import cpu_threads, fast_bf16
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.aliases import CARRIED
from luhuo.files.cache import cache_folder
from luhuo.files.transport import public

if TYPE_CHECKING:
    import torch

OLDEST_TORCH = (2, 11)
FREE_BYTES = 2_000_000_000
TOLERANCE = 1e-3
"""Largest difference allowed between a device and the CPU, relative to the largest value."""
EXTRAS = {
    "data": ("pyarrow",),
    "hub": ("huggingface_hub",),
    "math": ("math_verify",),
    "schema": ("jsonschema",),
    "test": ("pytest", "transformers"),
}
NETWORK_VARIABLES = (
    "LUHUO_OFFLINE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "MODELSCOPE_ENDPOINT",
    "MODELSCOPE_DOMAIN",
    "LUHUO_CACHE",
    "HF_HOME",
    "PIP_INDEX_URL",
    "HTTPS_PROXY",
)
SECRETS = ("HF_TOKEN", "MODELSCOPE_API_TOKEN")
"""Named, never shown."""


@dataclass(frozen=True)
class Check:
    """One finding. `ok` is False only for what stops the work; `fix` says what to do then."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def checks() -> list[Check]:
    """All checks, the cheap ones first. Nothing is downloaded and nothing is changed."""
    found = [_python(), _torch()]
    if found[-1].ok:
        found += [*_devices(), _bf16(), _compiled(), _threads(), _crossover()]
    return [*found, _disk(), _cache(), _offline(), _sandbox(), _fonts(), *_extras()]


def _python() -> Check:
    return Check(
        "Python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        tr("Install Python 3.11 or newer.", "请安装 Python 3.11 或更新版本。"),
    )


def _torch() -> Check:
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Check("PyTorch", False, tr("not installed", "未安装"), "pip install torch==2.13.0")
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    return Check("PyTorch", numbers >= OLDEST_TORCH, version, "pip install --upgrade torch==2.13.0")


def _devices() -> Iterator[Check]:
    """Each accelerator computes a small forward and backward pass as the CPU does."""
    import torch

    kinds = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    kinds += ["mps"] if torch.backends.mps.is_available() else []
    reference = _forward_backward(torch.device("cpu"))
    finite = all(bool(t.isfinite().all()) for t in reference)
    yield Check(
        tr("device cpu", "设备 cpu"),
        finite,
        tr("forward and backward are finite", "前向与反向结果有限")
        + ("" if kinds else tr("; no accelerator found", "；未发现加速器")),
        tr("Install PyTorch again.", "请重新安装 PyTorch。"),
    )
    for kind in kinds:
        name = torch.cuda.get_device_name(kind) if kind.startswith("cuda") else "Apple"
        worst = difference(reference, _forward_backward(torch.device(kind)))
        yield Check(
            tr(f"device {kind}", f"设备 {kind}"),
            worst <= TOLERANCE,
            tr(f"{name}; differs from the CPU by {worst:.1e}", f"{name}；与 CPU 相差 {worst:.1e}"),
            tr(f"Use device=cpu, or update the driver of {name}.", f"请用 device=cpu，或更新 {name} 的驱动。"),
        )


def _forward_backward(device: torch.device) -> list[torch.Tensor]:
    """Loss and gradients of one attention layer with a softmax loss, on the CPU; equal inputs on every device."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 16, 64), (64, 192), (64, 50))  # input (batch, time, dim), q k v, head
    x, qkv, head = (
        (torch.randn(shape, generator=generator) * shape[-2] ** -0.5).to(device).requires_grad_() for shape in shapes
    )
    targets = torch.randint(50, (2 * 16,), generator=generator).to(device)
    q, k, v = (x @ qkv).view(2, 16, 3, 4, 16).permute(2, 0, 3, 1, 4)  # each (batch, head, time, 16)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(32, 64)
    loss = functional.cross_entropy(functional.silu(mixed) @ head, targets)
    loss.backward()
    return [t.detach().cpu() for t in (loss, x.grad, qkv.grad, head.grad) if t is not None]


def difference(reference: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """The largest deviation of `other`, relative to the largest value of each reference tensor; NaN counts as 1."""
    worst = 0.0
    for a, b in zip(reference, other, strict=True):
        worst = max(worst, ((a - b).abs().max() / a.abs().max().clamp_min(1e-12)).nan_to_num(1.0).item())
    return worst


def _bf16() -> Check:
    """How bf16 compares with fp32 in speed here, and which of them "auto" takes."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds = {dtype: _product_seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    chosen = "bf16" if fast_bf16(device) else "fp32"
    return Check(
        "bf16",
        True,
        tr(
            f"{ratio:.1f} times the speed of fp32 on {device}; dtype=auto takes {chosen}",
            f"在 {device} 上速度是 fp32 的 {ratio:.1f} 倍；dtype=auto 选用 {chosen}",
        ),
    )


def _compiled() -> Check:
    """Whether the C++ kernels for training in bf16 on a CPU are there. Compiles them the first time."""
    from luhuo.kernels.native import library, why_not

    there = library() is not None
    detail = tr("compiled for this processor", "已为本机处理器编译") if there else why_not()
    fix = tr("Training in bf16 on a CPU is slower without them.", "没有它们，CPU 上的 bf16 训练会变慢。")
    return Check(tr("CPU kernels", "CPU 内核"), True, detail, "" if there else fix)


def _product_seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The shortest of a few products of two 512 x 512 matrices."""
    import torch

    a = torch.ones(512, 512, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        (a @ a).sum().item()  # .item() waits for the device
        best = min(best, time.perf_counter() - start)
    return best


def _threads() -> Check:
    import torch

    used, there = torch.get_num_threads(), cpu_threads()
    return Check(
        tr("threads", "线程"),
        True,
        tr(f"{used} used by PyTorch of {there} this process may use", f"PyTorch 使用 {used} 个，可用 {there} 个"),
    )


def _crossover() -> Check:
    """Rows of activations up to which weights of few bits are unpacked as they are multiplied."""
    from luhuo.kernels.crossover import ROWS, measured

    name, found = tr("weights of few bits", "低位数权重"), measured()
    if not found:
        detail = tr(
            f"unpacked while multiplied up to {ROWS['int4']} rows; `luhuo doctor --measure` finds what is best here",
            f"行数不超过 {ROWS['int4']} 时边乘边解包；`luhuo doctor --measure` 可测出本机最快的界限",
        )
        return Check(name, True, detail)
    rows = ", ".join(f"{form} {count}" for form, count in found.items())
    return Check(
        name,
        True,
        tr(
            f"unpacked while multiplied up to so many rows, as measured here: {rows}",
            f"边乘边解包的行数界限（本机实测）：{rows}",
        ),
    )


def measure() -> None:
    """Measure where packed products stop being faster on this machine, and keep it for later processes."""
    from luhuo.kernels import crossover
    from luhuo.kernels.native import library, why_not

    if library() is None:
        raise LuhuoError(
            tr("There is nothing to measure without compiled kernels.", "没有编译好的内核，无从测量。"),
            found=why_not(),
        )
    crossover.measure()


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return Check(
        tr("disk", "磁盘"),
        free >= FREE_BYTES,
        tr(f"{free / 1e9:.1f} GB free here", f"当前目录剩余 {free / 1e9:.1f} GB"),
        tr(f"Free at least {FREE_BYTES / 1e9:.0f} GB.", f"请至少腾出 {FREE_BYTES / 1e9:.0f} GB。"),
    )


def _cache() -> Check:
    folder = cache_folder()
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        fix = tr("Set LUHUO_CACHE to a folder you can write to.", "请把 LUHUO_CACHE 设为可写的目录。")
        return Check(tr("cache", "缓存"), False, f"{folder}: {error.strerror}", fix)
    return Check(tr("cache", "缓存"), True, tr(f"{folder}, writable", f"{folder}，可写"))


def _offline() -> Check:
    chosen = [f"{name}={public(os.environ[name])}" for name in NETWORK_VARIABLES if os.environ.get(name)]
    chosen += [f"{name}=…" for name in SECRETS if os.environ.get(name)]
    return Check(
        tr("network", "网络"),
        True,
        ", ".join(chosen)
        or tr(
            f"no setting; LUHUO_OFFLINE=1 forbids downloads, HF_ENDPOINT or MODELSCOPE_ENDPOINT names a mirror; "
            f"without a model hub: {', '.join(CARRIED)}",
            f"未设置；LUHUO_OFFLINE=1 禁止下载，HF_ENDPOINT 或 MODELSCOPE_ENDPOINT 指定镜像；"
            f"无需模型仓库：{'、'.join(CARRIED)}",
        ),
    )


def _sandbox() -> Check:
    """What untrusted code is kept from here (code rewards). Nothing else needs it, so it is told and does not fail."""
    from luhuo.sandbox.protections import in_words, protections

    name = tr("sandbox", "沙箱")
    try:
        found = protections()
    except LuhuoError as error:
        return Check(name, True, str(error).replace("\n", ";"))
    if not found.missing:
        detail = tr("untrusted code is kept from everything it should be", "不可信代码受到全部防护的约束")
        return Check(
            name, True, detail if not found.namespaces else f"{detail} ({tr('without namespaces', '无命名空间')})"
        )
    held = (
        tr("code is run, without: ", "可运行代码，缺少：") if found.enough else tr("code is not run: ", "不运行代码：")
    )
    return Check(name, True, held + in_words(found.missing))


def _fonts() -> Check:
    """Chinese in a browser on this machine. A missing font breaks no work, so it is told and does not fail."""
    name = tr("Chinese fonts", "中文字体")
    if shutil.which("fc-list") is None:
        return Check(name, True, tr("brought by the system", "由系统提供"))
    listed = subprocess.run(["fc-list", ":lang=zh", "family"], capture_output=True, text=True, check=False)
    families = sorted({line.split(",")[0] for line in listed.stdout.splitlines() if line})
    missing = tr(
        "none; for reports on this machine: apt install fonts-noto-cjk",
        "无；如需在本机看报告：apt install fonts-noto-cjk",
    )
    return Check(name, True, ", ".join(families[:3]) or missing)


def _extras() -> Iterator[Check]:
    """Optional packages by the extra that brings them."""
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if util.find_spec(module) is None]
        detail = tr("installed", "已安装")
        if missing:
            detail = tr(f"without {', '.join(missing)} (optional)", f"缺少 {', '.join(missing)}（可选）")
            detail += f": pip install 'luhuo[{extra}]'"
        yield Check(f"luhuo[{extra}]", True, detail)
