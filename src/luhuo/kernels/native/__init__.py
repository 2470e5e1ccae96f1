"""Fused operations in C++, compiled once for the machine they run on; callers fall back to PyTorch without them.

A CPU in bf16 spends half of a training step outside matrix products when every small operation reads and writes
memory by itself. `library` compiles the sources here with the machine's own compiler (two seconds, kept in the cache
folder) and returns None where there is none, where `LUHUO_NATIVE=0` says so, or where the processor is of a kind not
tested. Nothing is downloaded.
"""

from luhuo.kernels.native.build import library, why_not

__all__ = ["library", "why_not"]
