"""torch.compile for training, block by block, with eager computation as what always works.

One block is compiled and serves all of its kind: compile time does not grow with the number of layers (PyTorch's
"regional compilation"). Parameters, their names and checkpoints stay as they are; hooks (FSDP, activation
checkpointing of whole blocks) stay outside of what is compiled. Only training passes take the compiled way:
evaluation and samples come in any shape.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._dynamo.callback import callback_handler

from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model import flex
from luhuo.model.base import LanguageModel
from luhuo.model.block import Block
from luhuo.model.moe import MoE
from luhuo.model.stack import StackBlock

Compile = Literal["auto", "none", "default", "reduce-overhead", "max-autotune"]

SHAPES = 4
"""Shapes of a batch that are compiled at most; every further one is computed eagerly."""
USUAL = 8
"""How often a shape beyond the first must come before it is compiled: a ragged last part or a growing batch is not."""
GRAPHS = 64
"""Graphs of one function, at most: kinds of blocks (windows, experts, shared keys) times shapes."""
OURS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")
"""Modules whose errors mean that compilation failed, not the model."""


def chosen(wanted: Compile, device: torch.device) -> Compile:
    """What `auto` means here: compiled on CUDA; elsewhere not, since on a CPU the own kernels are ahead of it."""
    if wanted != "auto":
        return wanted
    return "default" if device.type == "cuda" else "none"


class Compiler:
    """Compiled blocks of a model, from `__enter__` to `__exit__` or until something does not compile.

    `seconds` and `graphs` count what compilation took so far. `tell` is given the one line that says why it was given
    up. Processes that share a model's weights (not `alone`) cannot repeat a pass one by one: a small function is
    compiled before, and what fails later stops the run. `backend`: "inductor", or "aot_eager", which traces alike and
    compiles nothing.
    """

    def __init__(
        self,
        model: LanguageModel,
        mode: Compile,
        tell: Callable[[str], None] = say,
        *,
        alone: bool = True,
        backend: str = "inductor",
    ) -> None:
        self.model, self.tell, self.alone, self.backend = model, tell, alone, backend
        self.mode: Compile = mode
        self.seconds, self.graphs, self.on, self.active, self._flex = 0.0, 0, False, False, False
        self._began: float | None = None
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._admitted: set[tuple[Any, ...]] = set()
        self._config = torch._dynamo.config.patch(recompile_limit=GRAPHS, accumulated_recompile_limit=4 * GRAPHS)

    def __enter__(self) -> Compiler:
        if self.mode == "none" or not (blocks := _blocks(self.model)):
            return self
        try:
            function = _compiled(self.mode, self.backend)
            if not self.alone:
                _probe(self.model.device, self.backend)
        except RuntimeError as error:  # no compiler, or a Python or a system that torch.compile does not know
            self._say_why(error)
            return self
        self.on = True
        self._flex = flex.usable(self.model.device)
        self._config.__enter__()
        callback_handler.register_start_callback(self._start)
        callback_handler.register_end_callback(self._end)
        for block in blocks:
            block.forward = self._forward(block, function)  # an attribute of the instance: no name changes
        for module in self.model.modules():
            if isinstance(module, MoE):  # it counts what its experts got, and sorts rows by values
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        if not self.on:
            return
        self.on = self.active = self.model.in_blocks = False
        for module in self.model.modules():
            vars(module).pop("forward", None)
        callback_handler.remove_start_callback(self._start)
        callback_handler.remove_end_callback(self._end)
        self._config.__exit__(None, None, None)

    def begin(self, batch: dict[str, Tensor]) -> None:
        """Before the forward pass of a (micro-)batch: decides for it and its backward pass whether it is compiled.

        The shape of the first batch is compiled at once, others when they have come `USUAL` times.
        """
        if not self.on:
            return
        shape = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(batch.items()))
        self._seen[shape] += 1
        usual = not self._admitted or self._seen[shape] > USUAL
        if shape not in self._admitted and usual and len(self._admitted) < SHAPES:
            self._admitted.add(shape)
        self.active = shape in self._admitted
        self.model.in_blocks = self.active and self._flex
        if self.active and self.mode != "default":
            torch.compiler.cudagraph_mark_step_begin()

    def failed(self, error: BaseException) -> bool:
        """Whether an error of a pass came from compilation; then everything is eager from now on, and says so."""
        if not self.on or not _of_compiler(error):
            return False
        self.__exit__()
        self._say_why(error)
        return True

    def metrics(self) -> dict[str, float]:
        """Seconds and graphs so far; empty where nothing was compiled."""
        return {"compile_s": self.seconds, "compile_graphs": float(self.graphs)} if self.graphs else {}

    def _forward(self, block: nn.Module, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        eager = block.forward

        def forward(x: Tensor, context: Any) -> Tensor:
            if not (self.active and block.training and torch.is_grad_enabled()):
                return eager(x, context)
            # Masks are made here, once a batch, and not inside of what is compiled, once a layer.
            return function(eager, x, replace(context, masks=dict(context.masks)))

        return forward

    def _start(self, _: object) -> None:
        self._began = time.monotonic()

    def _end(self, _: object) -> None:
        if self._began is not None:
            self.seconds += time.monotonic() - self._began
            self._began = None
            self.graphs += 1

    def _say_why(self, error: BaseException) -> None:
        while error.__cause__ is not None:  # the compiler wraps what went wrong
            error = error.__cause__
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        self.tell(
            tr(
                f"The blocks could not be compiled ({cause}); training goes on without (compile: none is the same).",
                f"无法编译模型块（{cause}）；训练改为不编译继续（等同 compile: none）。",
            )
        )


def _probe(device: torch.device, backend: str) -> None:
    """Compile a small function and its gradient."""
    x = torch.ones(64, device=device, requires_grad=True)
    torch.compile(lambda x: torch.nn.functional.silu(x * 2).sum(), dynamic=False, backend=backend)(x).backward()


def _compiled(mode: Compile, backend: str) -> Callable[..., Tensor]:
    """Compiled call of a block. A function of its own for each run: what an earlier run compiled does not count."""

    def run(forward: Callable[..., Tensor], x: Tensor, context: Any) -> Tensor:
        return forward(x, context)

    how = {"mode": mode} if backend == "inductor" and mode != "default" else {}
    return torch.compile(run, dynamic=False, backend=backend, **how)  # type: ignore[call-overload]


def _blocks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, Block | StackBlock)]


def _of_compiler(error: BaseException | None) -> bool:
    """Whether this error, or what caused it, was raised by the compiler. Running out of memory is none of these."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return False
        if type(error).__module__.startswith(OURS):
            return True
        error = error.__cause__ or error.__context__
    return False
