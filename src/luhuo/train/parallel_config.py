"""How the processes of a run divide the work, as data. No torch is needed to read it."""

from __future__ import annotations

import math
from typing import Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

DIMENSIONS = ("dp", "fsdp", "ep", "tp")
"""Outermost first: processes of one tensor-parallel group stand next to each other, on one machine."""


class Parallel(Config):
    """Sizes whose product is the number of processes; one of them may be 0: what the others leave."""

    dp: int = field(0, "Copies of the model, each with data of its own; 0: the rest.", "模型副本数；0 为其余。", ge=0)
    fsdp: int = field(
        1, "Processes that divide parameters, gradients and states (FSDP2).", "共同切分参数与状态的进程数。", ge=0
    )
    tp: int = field(
        1, "Processes that divide each matrix and each token's work.", "共同切分每个矩阵的进程数（张量并行）。", ge=0
    )
    ep: int = field(
        1, "Processes that divide the experts of each layer.", "共同分担各层专家的进程数（专家并行）。", ge=0
    )
    offload: bool = field(
        False, "With fsdp: parameters and states stay in the CPU's memory.", "配合 fsdp：参数与状态留在内存中。"
    )

    @model_validator(mode="after")
    def _one_rest(self) -> Self:
        rest = [name for name in ("fsdp", "tp", "ep") if getattr(self, name) == 0]
        if len(rest) > 1:
            raise ValueError(f"only one size can be 0 (the rest), not {' and '.join(rest)}")
        return self

    def sizes(self, processes: int) -> dict[str, int]:
        """The size of each dimension for this many processes. Raises `LuhuoError` if they do not fit.

        Where another size is the rest, `dp: 0` (the default) is 1.
        """
        found = {name: int(getattr(self, name)) for name in DIMENSIONS}
        free = [name for name in ("fsdp", "ep", "tp") if found[name] == 0]
        if free and found["dp"] == 0:
            found["dp"] = 1
        rest = free[0] if free else "dp"
        fixed = math.prod(size for name, size in found.items() if name != rest)
        if found[rest] == 0 and processes % fixed == 0:
            found[rest] = processes // fixed
        if math.prod(found.values()) != processes:
            raise LuhuoError(
                tr("The processes cannot be divided this way.", "进程数与并行设置不符。"),
                expected=tr(
                    f"dp x fsdp x ep x tp = {processes}, the number of processes",
                    f"dp × fsdp × ep × tp = {processes}（进程数）",
                ),
                found=", ".join(f"{name}={getattr(self, name)}" for name in DIMENSIONS),
                where="parallel",
                fix=tr(
                    "Set one of the sizes to 0 (the rest), or start another number of processes.",
                    "将其中一个设为 0（其余），或改变启动的进程数。",
                ),
            )
        return found
