"""The optimiser of a run: one rule a group of parameters, their state as named tensors, a table of what is done."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.train.checkpoint import Saved
from luhuo.train.config import TrainerConfig
from luhuo.train.optimisers.adafactor import Adafactor
from luhuo.train.optimisers.adamw import AdamW
from luhuo.train.optimisers.eight_bit import AdamW8, Lion8
from luhuo.train.optimisers.groups import Group, fused_rows, group
from luhuo.train.optimisers.lion import Lion
from luhuo.train.optimisers.muon import Muon
from luhuo.train.pieces import local


class Rule(Protocol):
    """Moves the parameters of its groups by their gradients. All its state exists from the start."""

    def step(self, factor: float) -> None:
        """Move all parameters once, at `factor` times the peak learning rates."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The tensors themselves, by a name that is the same in every run: filling them restores the rule."""
        ...


class Optimiser:
    """What `config.optimiser` says, over the trainable parameters of a model (`groups`)."""

    def __init__(self, model: nn.Module, config: TrainerConfig) -> None:
        self.groups = group(model, config)
        by_rule: dict[str, list[Group]] = {}
        for each in self.groups:
            by_rule.setdefault(each.rule, []).append(each)
        self.rules = [_rule(name, groups, model, config) for name, groups in by_rule.items()]

    def step(self, factor: float) -> None:
        """Move all parameters once, at `factor` times the peak learning rates."""
        for rule in self.rules:
            rule.step(factor)

    def state(self) -> dict[str, Tensor]:
        """All state as named tensors."""
        return {key: tensor for rule in self.rules for key, tensor in rule.state().items()}

    def state_bytes(self) -> int:
        """Memory of the state in this process."""
        return sum(local(tensor).numel() * tensor.element_size() for tensor in self.state().values())

    def restore(self, found: Saved) -> None:
        """Take back what `state` gave, from the part "optimiser" of a checkpoint.

        Raises `LuhuoError` if it was written with another optimiser, or for another model.
        """
        state, names = self.state(), found.names("optimiser")
        if state.keys() != set(names):
            raise LuhuoError(
                tr(
                    "The checkpoint was written by another optimiser or for another model.",
                    "检查点由另一种优化器写出，或属于另一个模型。",
                ),
                expected=_kinds(state),
                found=_kinds(names),
                where=found.path,
                fix=tr(
                    "Go on with the optimiser it was written with, or start in a new folder.",
                    "请用写出它的优化器继续，或换一个新目录重新开始。",
                ),
            )
        for key, tensor in state.items():
            found.load_into("optimiser", key, tensor)

    def table(self) -> str:
        """One line a group: name, numbers, optimiser, peak learning rate, decay, why."""
        lines = [
            f"  {each.name:<10} {each.count:>13,}  {each.rule:<9}  "
            + tr(
                f"rate {each.rate:<8.3g} decay {each.decay:<4.3g}", f"学习率 {each.rate:<8.3g} 衰减 {each.decay:<4.3g}"
            )
            + f"  {each.why}"
            for each in self.groups
        ]
        count = sum(local(p.detach()).numel() for each in self.groups for p in each.parameters.values())
        per = f"{self.state_bytes() / max(1, count):.1f}"
        return "\n".join(
            [*lines, tr(f"  optimiser state: {per} bytes a parameter", f"  优化器状态：每参数 {per} 字节")]
        )


def _rule(name: str, groups: list[Group], model: nn.Module, config: TrainerConfig) -> Rule:
    match name:
        case "muon":
            return Muon(groups, fused_rows(model), scale=config.muon_scale)
        case "lion":
            return Lion(groups, config.betas)
        case "lion8":
            return Lion8(groups, config.betas)
        case "adamw8":
            return AdamW8(groups, config.betas)
        case "adafactor":
            return Adafactor(groups, fused_rows(model), relative=config.relative)
        case _:
            return AdamW(groups, config.betas, config.epsilon)


def _kinds(names: dict[str, Tensor] | list[str]) -> str:
    """What the state consists of, with the number of tensors: "exp_avg (12), momentum (8)"."""
    kinds = [name.rsplit(":", 1)[-1] for name in names]
    return ", ".join(f"{kind} ({kinds.count(kind)})" for kind in sorted(set(kinds)))
