"""A training step that the compiled kernels fuse, and processes that find a library of their own or none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from luhuo.kernels.native import build, library, why_not
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.objective import CausalLM

ABSENT = 3
"""The exit code of a process that finds no library."""
SHAPES = {
    "plain": {"qk_norm": "none"},
    "normed heads": {"qk_norm": "head"},
    "a norm for each head": {"qk_norm": "heads"},
    "windows": {"qk_norm": "none", "windows": (0, 70)},
}


def gradients(shape: dict[str, Any], dtype: torch.dtype, length: int, packed: bool) -> tuple[float, dict[str, Tensor]]:
    config = ModelConfig(
        family="llama", vocab_size=200, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16,
        intermediate_size=96, **shape,
    )  # fmt: skip
    model = initialise(Decoder(config), 0).train().compute_in(dtype)
    generator = torch.Generator().manual_seed(3)
    batch = {"ids": torch.randint(0, 200, (3, length + 1), generator=generator)}
    if packed:
        batch["segments"] = torch.randint(1, 7, (3, length + 1), generator=generator).sort(1).values.int()
    loss, weight, _ = CausalLM().loss(model, batch)
    (loss / weight).backward()
    return (loss / weight).item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def apart(function: Callable[[], None], environment: Mapping[str, str]) -> int | None:
    """The exit code of a process of its own, in which nothing was compiled yet, with changes to the environment."""
    process = get_context("forkserver").Process(target=_in_environment, args=(function, dict(environment)))
    process.start()
    process.join()
    return process.exitcode


def _in_environment(function: Callable[[], None], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    function()


def step_in_pytorch() -> None:
    """Without a library: a step in bf16 has the loss of one in fp32."""
    assert library() is None and why_not()
    wide, half = (gradients(SHAPES["plain"], dtype, 100, True)[0] for dtype in (torch.float32, torch.bfloat16))
    assert abs(wide - half) < 2e-3


def library_is_there() -> None:
    """Compile without optimising, which takes a fraction of the time, or open what is kept."""
    build.FLAGS = tuple(flag for flag in build.FLAGS if flag != "-O3")
    sys.exit(0 if library() else ABSENT)
