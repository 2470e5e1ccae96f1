"""Methods that train weights of the model itself: all of them, some of them, or single numbers in them.

- `full` trains what `freeze` does not name.
- BitFit (Ben Zaken et al. 2021) trains the biases; a model without them gets some, which are zero.
- Child-tuning F (Xu et al. 2021) lets a new random share of the numbers move in each step; D always the same ones,
  those with the largest Fisher information on the task's data.
- FishMask (Sung et al. 2021) chooses as D does, but so few that only they are kept as the adapter.

The Fisher information is the mean square of the gradients of whole batches: of single rows it would take a backward
pass each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.adapter.adapter import Adapter, Passes
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.matrices import fill
from luhuo.adapter.targets import layer_of
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.model.base import LanguageModel
from luhuo.model.config import ModelConfig
from luhuo.model.families import read_config, write_config
from luhuo.model.layers import Linear


class Full(Adapter):
    """The model's own weights, except those that `freeze` names."""

    rate = 1.0
    orthogonal = True
    whole = True

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        super().__init__(model, config)
        self.seed = seed
        try:
            frozen = [re.compile(pattern) for pattern in config.freeze]
        except re.error as error:
            raise LuhuoError(
                tr("This is not a regular expression.", "这不是合法的正则表达式。"),
                found=error,
                where="adapter.freeze",
            ) from None
        named = {name: p for name, p in model.named_parameters() if not name.endswith("router.correction")}
        unused = [p.pattern for p in frozen if not any(p.search(name) for name in named)]
        self.extra = {name: p for name, p in named.items() if not any(each.search(name) for each in frozen)}
        if unused or not self.extra:
            raise LuhuoError(
                tr("This freezes nothing, or everything.", "所写的模式没有匹配到参数，或冻结了全部参数。"),
                expected=", ".join(list(named)[:6]) + " …",
                found=", ".join(unused or config.freeze),
                where="adapter.freeze",
            )

    def put(self, *, on: bool) -> None:
        """There is nothing to put: the weights are the model's own."""

    def own(self) -> dict[str, nn.Parameter]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        fill({}, tensors)

    def layout(self) -> dict[str, Any]:
        return {"peft_type": self.config.method.upper()}

    def merge(self) -> Callable[[], None]:
        return _nothing

    def remember(self) -> None:
        """Nothing: a copy of everything is made by those who need one, from the files."""


def _nothing() -> None:
    """Undoes what changed nothing."""


class ChildF(Full):
    """A new random share of the gradient in each step, as large on average as all of it."""

    orthogonal = False
    decays = False

    def before_step(self, step: int) -> None:
        self.step = step

    @torch.no_grad()
    def after_backward(self, share: float) -> None:
        for name, p in self.extra.items():
            if p.grad is not None:
                random = torch.Generator().manual_seed(derive_seed(self.seed, "child", name, self.step))
                kept = torch.rand(p.shape, generator=random) < self.config.kept
                p.grad.mul_(kept.to(p.device)).div_(self.config.kept)


class ChildD(Full):
    """The share of the numbers with the most Fisher information; the others never move."""

    orthogonal = False
    decays = False

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        super().__init__(model, config, seed)
        self.masks = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in self.extra.items()}

    def state(self) -> dict[str, Tensor]:
        return self.masks

    def begin(self, steps: int, passes: Passes | None) -> None:
        if passes is None:
            return
        fisher = {name: torch.zeros(p.shape) for name, p in self.extra.items()}
        for _ in passes(self.config.fisher_batches):
            for name, p in self.extra.items():
                if p.grad is not None:
                    fisher[name] += p.grad.float().square().cpu()
        least = _largest(torch.cat([found.flatten() for found in fisher.values()]), self.config.kept)
        for name, found in fisher.items():
            self.masks[name].copy_(found >= least)

    @torch.no_grad()
    def after_backward(self, share: float) -> None:
        for name, p in self.extra.items():
            if p.grad is not None:
                p.grad.mul_(self.masks[name].to(p.device))


def _largest(values: Tensor, share: float) -> float:
    """The least of the largest `share` of (n,) values, and more than zero."""
    count = max(1, round(share * len(values)))
    found = values.kthvalue(len(values) - count + 1).values.item()
    return max(found, torch.finfo(torch.float32).tiny)


class FishMask(ChildD):
    """Few numbers, kept by their places. What all were before is held, since those that move are not known yet."""

    rate = 3.0
    whole = False

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        super().__init__(model, config, seed)
        self.away: dict[str, Tensor] | None = None

    def _values(self) -> dict[str, Tensor]:
        return {name: p.detach()[self.masks[name].to(p.device)] for name, p in self.extra.items()}

    @torch.no_grad()
    def put(self, *, on: bool) -> None:
        """Put what was trained, or what was there before, into its places."""
        if on == (self.away is None):
            return
        before = {name: kept[self.masks[name]] for name, kept in self.kept.items()}
        values = before if self.away is None else self.away
        self.away = None if on else self._values()
        for name, p in self.extra.items():
            p.data[self.masks[name].to(p.device)] = values[name].to(p.device)

    def remember(self) -> None:
        self.kept = {name: p.detach().cpu().clone() for name, p in self.extra.items()}

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, values in self._values().items():
            if len(values):
                found[f"{name}.places"] = self.masks[name].flatten().nonzero()[:, 0]
                found[f"{name}.values"] = values
        return found

    def owns(self, name: str) -> bool:
        return name.removesuffix(".places").removesuffix(".values") in self.extra

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, p in self.extra.items():
            places, values = tensors.get(f"{name}.places"), tensors.get(f"{name}.values")
            if places is None or values is None:
                continue
            if len(places) != len(values) or int(places.max()) >= p.numel() or int(places.min()) < 0:
                raise LuhuoError(
                    tr("The adapter does not fit this model and config.", "适配器与该模型及配置不符。"), found=name
                )
            self.masks[name].view(-1)[places] = True
            p.data.view(-1)[places.to(p.device)] = values.to(p.device)


BIASES = ("bias", "head_bias")


class BitFit(Adapter):
    """All biases of the model; matrices without one get one."""

    rate = 10.0

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        super().__init__(model, config)
        self.added: list[str] = []
        for name, module in model.named_modules():
            if isinstance(module, Linear) and module.bias is None and layer_of(name) is not None:
                module.bias = nn.Parameter(torch.zeros(len(module.weight), device=module.weight.device))
                self.added.append(f"{name}.bias")

    def put(self, *, on: bool) -> None:
        """There is nothing to put: biases are swapped for what they were."""

    def own(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if name.rpartition(".")[2] in BIASES}

    def merge(self) -> Callable[[], None]:
        """The biases are the model's; its config says so from now on. Raises `LuhuoError` where its family cannot."""
        config: Any = self.model.config
        if not self.mergeable:
            raise LuhuoError(
                tr("Models of this family have no such biases.", "该模型家族没有这些偏置。"),
                found=config.family,
                fix=tr("Use the adapter attached, or another method.", "请以附加方式使用，或换用其他方法。"),
            )
        self.model.config = self._told() if self.added else config  # type: ignore[assignment]

        def undo() -> None:
            self.model.config = config  # type: ignore[assignment]

        return undo

    @property
    def mergeable(self) -> bool:
        if not self.added or not isinstance(self.model.config, ModelConfig):  # type: ignore[attr-defined]
            return not self.added
        again = read_config(write_config(self._told(), torch.float32))
        return (again.qkv_bias, again.out_bias, again.mlp_bias) == (True, True, True)

    def _told(self) -> ModelConfig:
        """The config of a model whose matrices all have biases."""
        flags = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
        return self.model.config.model_copy(update=flags)  # type: ignore[attr-defined]

    def remember(self) -> None:
        self.originals = {name: p.detach().clone() for name, p in self.own().items()}

    def tensors(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.own().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        fill(self.own(), tensors)

    def layout(self) -> dict[str, Any]:
        return {"peft_type": "BITFIT"}
