"""The interface of all methods: attach, parameter groups, hooks of the training loop, merging, what is saved."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from luhuo.adapter.config import AdapterConfig
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.base import LanguageModel

Passes = Callable[[int], Iterator[None]]
"""Gradients of so many batches: one after the other lies in the parameters while the iterator is gone through."""


@dataclass(frozen=True)
class TrainedGroup:
    """Parameters of an adapter that are moved alike."""

    name: str
    parameters: dict[str, nn.Parameter]
    """By their name in the model."""
    rate: float
    """Learning rate over that of the run."""
    why: str
    decays: bool = False


class Adapter(abc.ABC):
    """One method on one model. Made by `attach.attach`, which freezes everything before.

    The hooks are called by the trainer: `begin` before the first step of a run, then in each step `before_step`,
    `after_backward` (gradients of this process are there) and `after_step` (weights have moved, gradients of all
    processes are still there).
    """

    rate: ClassVar[float] = 10.0
    """Learning rate over that of full fine-tuning, where the config does not say."""
    orthogonal: ClassVar[bool] = False
    """Whether Muon may move the model's own matrices that this method trains."""
    decays: ClassVar[bool] = True
    """Whether the weight decay of the run may move the model's own weights."""
    whole: ClassVar[bool] = False
    """Whether the result is a model directory, because all of the model may have moved."""

    def __init__(self, model: LanguageModel, config: AdapterConfig) -> None:
        self.model, self.config = model, config
        self.extra: dict[str, nn.Parameter] = {}
        """Parameters of the model itself that are trained and saved with the adapter."""
        self.originals: dict[str, Tensor] = {}
        """What those of the model's own parameters were that are trained, as far as `disabled` needs them."""
        self.base = ""
        """The reference of the model that is adapted."""
        self.first: dict[str, Tensor] | None = None
        """The trained parameters at the beginning, where training goes on from a trained adapter."""

    @abc.abstractmethod
    def put(self, *, on: bool) -> None:
        """Let the model compute with (`on`) or without the adapter."""

    @abc.abstractmethod
    def own(self) -> dict[str, nn.Parameter]:
        """The parameters of the method itself, by their name in the model."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What is saved, by published name (peft's, where peft has the method), without `extra`."""

    def owns(self, name: str) -> bool:
        """Whether a saved tensor of this name belongs to the method."""
        return name in self.tensors()

    @abc.abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what `tensors` gave. Raises `LuhuoError` where names or shapes differ."""

    @abc.abstractmethod
    def layout(self) -> dict[str, Any]:
        """What adapter_config.json says of the method."""

    def groups(self) -> list[TrainedGroup]:
        """The method's parameters with their learning rates; `extra` is the optimiser's usual business."""
        why = tr("an adapter starts near zero: larger steps", "适配器自零附近起步：步子更大")
        return [TrainedGroup("adapter", self.own(), self.factor, why)]

    @property
    def factor(self) -> float:
        """Learning rate over that of the run."""
        return self.rate if self.config.rate is None else self.config.rate

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the trained parameters: the tensors themselves, filled when it resumes."""
        return {}

    def begin(self, steps: int, passes: Passes | None) -> None:  # noqa: B027 (a hook)
        """A run of `steps` steps begins; `passes` is None where it goes on from a checkpoint."""

    def before_step(self, step: int) -> None:  # noqa: B027 (a hook)
        """Step `step`, from 0, begins."""

    def after_backward(self, share: float) -> None:  # noqa: B027 (a hook)
        """Change the gradients of this process, one of 1 / `share` whose gradients will be summed."""

    def after_step(self, step: int) -> None:  # noqa: B027 (a hook)
        """Step `step`, from 0, has moved the weights."""

    def merge(self) -> Callable[[], None]:
        """Make the model's own weights do what the adapter does, and take the adapter off; what is returned undoes it
        exactly. Raises `LuhuoError` for a method whose work no weight can do."""
        raise LuhuoError(
            tr(
                f"{self.config.method} cannot be merged into the model's weights.",
                f"{self.config.method} 无法合并进模型权重。",
            ),
            fix=tr("Use the adapter attached.", "请以附加方式使用该适配器。"),
        )

    @property
    def mergeable(self) -> bool:
        """Whether `merge` works: not where layers share weights, each of which has an adapter of its own."""
        return type(self).merge is not Adapter.merge and not getattr(self.model.config, "shared_layers", ())

    def leave(self) -> None:
        """Forget that the model has this adapter."""
        self.model.__dict__.pop("_adapter", None)

    def trained(self) -> dict[str, nn.Parameter]:
        """All parameters that move, by their name in the model."""
        return self.own() | self.extra

    def remember(self) -> None:
        """Keep what the trained parameters of the model itself are now."""
        self.originals = {name: p.detach().clone() for name, p in self.extra.items()}

    @torch.no_grad()
    def swap(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put tensors in the place of trained parameters; returns what was there. No gradient may be pending."""
        found: dict[str, Tensor] = {}
        trained = self.trained()
        for name, value in values.items():
            found[name] = trained[name].data
            trained[name].data = value
        return found
