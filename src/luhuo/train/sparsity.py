"""Zeros in training: those of a pruned model stay exactly zero, and more may come gradually.

Before the gradients are summed and clipped, those of zeros are taken out, so that they count in no norm, no momentum
and no orthogonalised step; after the step the weights are set to zero again, whatever momentum or decay has done.
Gradual pruning (Zhu and Gupta 2017, "To prune, or not to prune") takes away the smallest weights of each matrix until
s(t) = s_final · (1 - (1 - t)³) of them are zero, t being the way from `begin` to `end`: many while the model still
learns fast, few at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.kernels.sparsity import Pattern, kept_of_pattern, kept_of_share
from luhuo.train.ema import Average
from luhuo.train.optimisers.groups import sort_parameters
from luhuo.train.pieces import local
from luhuo.train.sparsity_config import Sparsity


def cubic(progress: float) -> float:
    """The share of the final zeros that are reached at `progress` (0 … 1) of the way (Zhu and Gupta 2017, eq. 1)."""
    return 1 - (1 - min(max(progress, 0.0), 1.0)) ** 3


class Zeros:
    """The zeros of a model's matrices during a run of `steps` steps.

    Raises `LuhuoError` if zeros are to be kept and there are none, or a pattern does not fit.
    """

    def __init__(self, model: nn.Module, config: Sparsity, steps: int) -> None:
        self.config = config
        used = config.keep or config.grows
        self.parameters = sort_parameters(model)["matrices"] if used else {}
        self.pattern = Pattern.parse(config.pattern) if config.pattern else None
        if self.pattern is not None:
            for name, parameter in self.parameters.items():
                self.pattern.check(parameter.shape[-1], name)
        self.first = round(config.begin * steps)
        self.last = max(self.first + 1, round(config.end * steps))
        self.masks: dict[str, Tensor] = {}
        self.restore(0)
        if config.keep and not self.masks:
            raise LuhuoError(
                tr(
                    "There are no zeros to keep: no matrix that is trained has any.",
                    "没有可保持的零：所训练的矩阵中没有零。",
                ),
                where="sparsity.keep",
                fix=tr(
                    "Prune the model first (luhuo prune), or leave keep out.", "请先剪枝（luhuo prune），或去掉 keep。"
                ),
            )

    def restore(self, step: int) -> None:
        """Take the masks from the weights, which are those after `step` steps: what was taken away is zero.

        Zeros in matrices that training begins with are no pruning, unless they are to be kept.
        """
        counts = self.config.keep or (self.config.grows and step > self.first)
        masks = {name: local(p.detach()) != 0 for name, p in self.parameters.items()} if counts else {}
        self.masks = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        self.share = self._share()

    def hide(self) -> None:
        """Take the gradients of zeros out."""
        for name, mask in self.masks.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                local(gradient).mul_(mask)

    @torch.no_grad()
    def hold(self, step: int, average: Average | None = None) -> None:
        """After optimiser step `step` (from 1): choose more zeros if it is time, and set all of them to zero."""
        if self._due(step):
            self._choose(cubic((step - self.first) / (self.last - self.first)))
            if average is not None:
                for name, mask in self.masks.items():
                    local(average.weights[name]).mul_(mask)
        for name, mask in self.masks.items():
            local(self.parameters[name]).mul_(mask)

    def metrics(self) -> dict[str, float]:
        """The share of zeros among the matrices this process holds, where there are any."""
        return {"zeros": self.share} if self.masks else {}

    def _share(self) -> float:
        zeros = sum(mask.numel() - int(mask.count_nonzero()) for mask in self.masks.values())
        return zeros / max(1, sum(local(p.detach()).numel() for p in self.parameters.values()))

    def _due(self, step: int) -> bool:
        if not self.config.grows or not self.first < step <= self.last:
            return False
        return step == self.last or (step - self.first) % self.config.every == 0

    def _choose(self, reached: float) -> None:
        """The smallest weights of each matrix become zeros, besides those that are; `reached`: of the final share."""
        for name, parameter in self.parameters.items():
            size = local(parameter.detach()).abs()
            if name in self.masks:
                size = torch.where(self.masks[name], size, -1.0)
            if self.pattern is None:
                mask = kept_of_share(size, self.config.final * reached, "matrix")
            else:
                away = round((self.pattern.of - self.pattern.kept) * reached)
                mask = kept_of_pattern(size, Pattern(self.pattern.of - away, self.pattern.of))
            self.masks[name] = mask if name not in self.masks else mask & self.masks[name]
        self.share = self._share()
