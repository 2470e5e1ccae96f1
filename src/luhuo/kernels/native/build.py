"""Compiling the C++ sources of this folder, and keeping what came out."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from luhuo.core.language import tr
from luhuo.files.cache import cache_folder

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
WIDE = ("-mprefer-vector-width=512",)
"""gcc takes half of the vector width otherwise. Left out where the processor has no such vectors."""
MACHINES = ("x86_64", "AMD64", "aarch64", "arm64")

_Pointer, _Count, _Number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
SIGNATURES = {
    "rms_norm": (_Pointer, _Pointer, _Number, _Pointer, _Pointer, _Count, _Count),
    "rms_norm_backward": (*(_Pointer,) * 6, _Count, _Count),
    "swiglu": (_Pointer, _Pointer, _Count, _Count),
    "swiglu_backward": (_Pointer, _Pointer, _Pointer, _Count, _Count),
    "split_heads": (*(_Pointer,) * 2, _Number, *(_Pointer,) * 2, _Count, _Number, *(_Pointer,) * 4, *(_Count,) * 5),
    "split_heads_backward": (*(_Pointer,) * 8, _Count, _Number, *(_Pointer,) * 2, *(_Count,) * 5),
    "swap_heads": (_Pointer, _Pointer, *(_Count,) * 4),
    "causal_softmax": (_Pointer, _Pointer, _Pointer, *(_Count,) * 8),
    "softmax_backward": (_Pointer, _Pointer, _Count, _Count),
    "cross_entropy": (*(_Pointer,) * 3, *(_Count,) * 3),
    "accumulate": (_Pointer, _Pointer, _Count, _Count),
    "matrix_product": (_Pointer, _Pointer, _Pointer, _Count),
    "unpack_matrix": (_Pointer, _Pointer),
    "unpack_sparse": (_Pointer, _Pointer),
    "decode_step": (_Pointer,) * 4,
    "adamw": (*(_Pointer,) * 4, _Count, *(_Number,) * 6),
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None: then `why_not` says why. Compiles on the first call."""
    return _attempt()[0]


def why_not() -> str:
    """Why there is no library; empty if there is one."""
    return _attempt()[1]


@functools.cache
def _attempt() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("LUHUO_NATIVE", "1") == "0":
        return None, tr("switched off by LUHUO_NATIVE=0", "已由 LUHUO_NATIVE=0 关闭")
    compiler = next((found for name in _compilers() if (found := shutil.which(name))), None)
    if compiler is None or platform.machine() not in MACHINES:
        return None, tr("no C++ compiler found (c++, g++ or clang++)", "未找到 C++ 编译器（c++、g++ 或 clang++）")
    try:
        return _load(_compiled(compiler)), ""
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        return None, tr("it could not be compiled: ", "编译失败：") + str(reason).strip()[-500:]


def _compilers() -> list[str]:
    return [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]


def _compiled(compiler: str) -> Path:
    """The shared library for these sources, this compiler and this processor."""
    sources = sorted(Path(__file__).parent.glob("*.cpp"))
    headers = sorted(Path(__file__).parent.glob("*.h"))
    flags = FLAGS + (WIDE if "avx512f" in processor() else ())
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = hashlib.sha256("\0".join([*flags, version, processor()]).encode())
    for path in sources + headers:
        key.update(path.read_bytes())
    target = cache_folder() / "native" / f"{key.hexdigest()[:32]}.so"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "made.so"
            command = [compiler, *flags, *map(str, sources), "-o", str(made)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
            made.replace(target)
    if hasattr(os, "getuid") and target.stat().st_uid not in (os.getuid(), 0):
        raise OSError(tr(f"{target} belongs to another user", f"{target} 属于其他用户"))
    return target


@functools.cache
def processor() -> str:
    """What `-march=native` depends on: the processor's name and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(kinds)))


def _load(path: Path) -> ctypes.CDLL:
    import torch  # noqa: F401  # brings the OpenMP whose threads are to be shared

    found = ctypes.CDLL(str(path))
    for name, kinds in SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = kinds, None
    return found
