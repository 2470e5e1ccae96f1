"""How much a model's predictions suffer when one of its matrices is rounded, told before anything is rounded.

An error E of a matrix whose inputs have the second moment A changes output r by an error of the square (E A Eᵀ)_rr. To
second order the divergence of the predictions is then ½ Σ_r G_r (E A Eᵀ)_rr, where G_r is the mean square of
∂(-log p)/∂y_r for tokens drawn from the model's own predictions: the diagonal of the Fisher information of the outputs
(Kronecker-factored as in Martens and Grosse 2015). One backward pass over some text gives G for all matrices, a walk
over the blocks gives A; neither depends on how many ways of rounding are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.compress.inputs import SecondMoment
from luhuo.compress.walk import Step
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.model.decoder import Decoder
from luhuo.model.grid import Grid, dense
from luhuo.model.layers import Linear
from luhuo.model.load import load

Costs = dict[int, float]
"""By bits, the expected divergence in nats a token."""
READ = 32
"""Sequences read for the gradients: of each token all that come after it tell something."""


def output_fisher(reference: str | Path, sequences: Tensor, seed: int) -> dict[str, Tensor]:
    """G (rows,) of each matrix in the blocks, by its name in the model; `sequences` (count, length) int64.

    The model is in memory as a whole, in fp32.
    """
    model = load(reference, dtype="fp32", device="cpu").eval()
    assert isinstance(model, Decoder)
    squares: dict[str, Tensor] = {}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.blocks[0].register_forward_pre_hook(_with_gradient)
    for name, module in model.named_modules():
        if type(module) is Linear and name.startswith("blocks."):
            module.register_full_backward_hook(_adder(squares, name))
    generator = torch.Generator().manual_seed(seed)
    with Progress(tr("sensitivity", "敏感度"), min(READ, len(sequences)), unit=tr("sequences", "序列")) as progress:
        for ids in sequences[:READ]:
            logs = torch.log_softmax(model(ids[None])[0].float(), -1)
            drawn = torch.multinomial(logs.detach().exp(), 1, generator=generator)
            (-logs.gather(1, drawn).sum()).backward()
            progress.advance(1)
    tokens = sequences[:READ].numel()
    return {name: total / tokens for name, total in squares.items()}


def _with_gradient(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let gradients begin at the first block, so that those of no parameter are kept."""
    return (inputs[0].detach().requires_grad_(), *inputs[1:])


def _adder(squares: dict[str, Tensor], name: str) -> Callable[..., None]:
    def add(module: nn.Module, of_inputs: object, of_outputs: tuple[Tensor, ...]) -> None:
        found = of_outputs[0].flatten(0, -2).square().sum(0)
        squares[name] = found if name not in squares else squares[name] + found

    return add


def block_costs(step: Step, fisher: Mapping[str, Tensor], grids: Sequence[Grid]) -> dict[str, Costs]:
    """For each matrix of a block, by its name in the model, what rounding it to the nearest on each grid costs."""
    collectors = {name: SecondMoment(module.weight.shape[1]) for name, module in step.matrices.items()}
    step.collect({name: [one] for name, one in collectors.items()})
    found = {}
    for name, module in step.matrices.items():
        of_rows, moment = fisher[f"{step.name}.{name}"], collectors[name].moment
        found[f"{step.name}.{name}"] = {
            grid.bits: expected_cost(module.weight.detach(), moment, of_rows, grid) for grid in grids
        }
    return found


def expected_cost(weight: Tensor, moment: Tensor, fisher: Tensor, grid: Grid) -> float:
    """½ Σ_r G_r (E A Eᵀ)_rr of a matrix rounded to the nearest; `moment` is 2 A, as `SecondMoment` has it."""
    error = dense(grid.round(weight, *grid.scales(weight, moment.diagonal()))) - weight
    return float(((error @ moment) * error).sum(1).double() @ fisher.double()) / 4
