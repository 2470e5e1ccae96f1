"""From a budget to a grid: which sizes, each at which token counts.

All sizes are measured at the same computes, so that each compute is an isoFLOP curve. A size's token counts are rungs
of one ladder: the grid costs its longest runs, and of the others the decays alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.count import flops_per_token, parameters
from luhuo.train.scaling.budget import Budget
from luhuo.train.scaling.fit import FREE
from luhuo.train.sizes import Derived, derive

if TYPE_CHECKING:
    from luhuo.train.scaling.stages import ScalingRunStage

SIZES = 5
SPAN = 10.0
"""Largest size over smallest: the valley of an isoFLOP curve is about as wide."""
LEVELS = 4
RATIO = 2.0
"""Between one compute and the next."""
GUESS = 20.0
"""Tokens a parameter around which the grid is laid (Hoffmann et al. 2022); the fit then says what is best here."""
FEWEST_STEPS = 60
"""Shorter rungs measure warm-up."""
SMALLEST = 1.05
"""Sizes closer than this are one."""
MARGIN = 1.1
"""Time that scoring and checkpoints take, over that of the steps."""


@dataclass(frozen=True)
class Run:
    """One ladder of the grid."""

    size: int
    """What `sizes.derive` is asked for."""
    parameters: int
    """What that comes to."""
    rungs: list[int]
    flops: float
    """Of trunk and decays."""

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"size-{self.parameters}"


@dataclass(frozen=True)
class Grid:
    """The ladders, and the run beyond them that the law has to predict (None: no such run)."""

    runs: list[Run]
    check: Run | None
    levels: list[float]
    """FLOPs of the isoFLOP curves."""

    @property
    def flops(self) -> float:
        """Of everything."""
        return sum(run.flops for run in self.runs) + (self.check.flops if self.check else 0.0)

    def as_dict(self) -> dict[str, Any]:
        """JSON value."""
        return asdict(self)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Grid:
        """From its JSON value."""
        check = value["check"]
        return cls([Run(**run) for run in value["runs"]], Run(**check) if check else None, value["levels"])


def lay(
    budget: Budget,
    template: ScalingRunStage,
    vocab_size: int,
    *,
    check: float = 0.0,
    probe: Callable[[Derived], float] | None = None,
) -> Grid:
    """The grid that a budget pays for, with a held-out run of `check` times its largest compute.

    probe: measured seconds a token of a plan, needed where the budget is time. Raises `LuhuoError` if the budget is
    too small for a law.
    """
    if budget.flops is not None:
        return _checked(_scaled(budget.flops, template, vocab_size, check), budget)
    assert probe is not None and budget.seconds is not None
    known: dict[int, float] = {}

    def seconds(grid: Grid) -> float:
        total = 0.0
        for run in [*grid.runs, *([grid.check] if grid.check else [])]:
            plan = _plan(run.size, template, vocab_size)
            if run.size not in known:
                known[run.size] = probe(plan)
            total += run.flops / flops_per_token(plan.model, plan.length) * known[run.size]
        return total * MARGIN

    spent, grid = 1e10 * budget.seconds, None
    for _ in range(4):  # sizes follow the compute, and rates the sizes: a few rounds settle it
        grid = _scaled(spent, template, vocab_size, check)
        if not grid.runs:
            spent *= 8
            continue
        factor = budget.seconds / seconds(grid)
        spent = grid.flops * factor
        if 0.9 < factor < 1.1:
            break
    return _checked(_scaled(spent, template, vocab_size, check), budget)


def _scaled(spent: float, template: ScalingRunStage, vocab_size: int, check: float) -> Grid:
    """The grid whose FLOPs are about `spent`."""
    overhead = 1 - template.decay + template.decay * sum(RATIO**-i for i in range(LEVELS))
    top = spent / (SIZES * overhead + check)
    levels = [top * RATIO ** (i + 1 - LEVELS) for i in range(LEVELS)]
    middle = math.sqrt(levels[0] * top) ** 0.5 / math.sqrt(6 * GUESS)
    # No model is smaller than its vocabulary and its narrowest block: the grid then begins there.
    low = max(middle / math.sqrt(SPAN), float(sum(parameters(_plan(1, template, vocab_size).model).values())))
    runs: list[Run] = []
    for i in range(SIZES):
        run = _run(low * SPAN ** (i / (SIZES - 1)), levels, template, vocab_size)
        if run and not any(run.parameters < SMALLEST * other.parameters for other in runs):
            runs.append(run)
    larger = max(low, math.sqrt(check * top / (6 * GUESS)))
    beyond = _run(larger, [check * top], template, vocab_size) if check else None
    return Grid(runs, beyond, levels)


def _run(size: float, levels: list[float], template: ScalingRunStage, vocab_size: int) -> Run | None:
    """The ladder of one size; None where no rung is long enough."""
    plan = _plan(size, template, vocab_size)
    per_token = flops_per_token(plan.model, plan.length)
    tokens = [round(level / per_token) for level in levels]
    rungs = [count for count in tokens if count >= FEWEST_STEPS * plan.batch]
    if not rungs:
        return None
    trained = (1 - template.decay) * rungs[-1] + template.decay * sum(rungs)
    return Run(round(size), sum(parameters(plan.model).values()), rungs, trained * per_token)


def _plan(size: float, template: ScalingRunStage, vocab_size: int) -> Derived:
    return derive(round(size), vocab_size, shape=template.shape, length=template.length, batch=template.batch)


def _checked(grid: Grid, budget: Budget) -> Grid:
    count, sizes = sum(len(run.rungs) for run in grid.runs), len(grid.runs)
    if count <= FREE or sizes < 3:
        raise LuhuoError(
            tr("This budget is too small for a scaling law.", "预算太小，得不到缩放定律。"),
            expected=tr(
                f"more than {FREE} runs of {FEWEST_STEPS} steps over 3 sizes",
                f"至少 3 种规模、多于 {FREE} 次各 {FEWEST_STEPS} 步的运行",
            ),
            found=tr(f"{count} runs over {sizes} sizes", f"{sizes} 种规模共 {count} 次运行"),
            where=f"--budget {budget.text}",
            fix=tr(
                "Give more time or FLOPs, a smaller batch, or a tokenizer with a smaller vocabulary.",
                "增加时间或 FLOPs，减小批量，或使用更小的词表。",
            ),
        )
    return grid


def prober(template: ScalingRunStage) -> Callable[[Derived], float]:
    """A function that measures seconds a token of a plan on this machine: the fastest of three steps after one."""
    import torch

    from luhuo.core.device import pick_device, pick_dtype, use_threads
    from luhuo.model.decoder import Decoder
    from luhuo.model.initialise import initialise
    from luhuo.train.config import TrainerConfig
    from luhuo.train.objective import CausalLM
    from luhuo.train.optimisers import Optimiser

    use_threads(template.threads)
    device = pick_device(template.device)
    dtype = pick_dtype(template.dtype, device)
    settings = {name: getattr(template, name) for name in TrainerConfig.model_fields}

    def probe(plan: Derived) -> float:
        model = initialise(Decoder(plan.model), 0).to(device).train()
        model.compute_in(None if dtype == torch.float32 else dtype)
        config = TrainerConfig(**{**settings, "steps": 1, "learning_rate": plan.learning_rate})
        optimiser, objective = Optimiser(model, config), CausalLM()
        rows = max(1, round(plan.batch / plan.length))
        ids = torch.randint(0, plan.model.vocab_size, (rows, plan.length + 1), device=device)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            loss, weight, _ = objective.loss(model, {"ids": ids})
            (loss / weight).backward()
            optimiser.step(1.0)
            model.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times[1:]) / (rows * plan.length)

    return probe
