"""What the stages that learn from the policy's own answers share: how they run, and how they end."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from luhuo.align.rollout_config import RolloutConfig
from luhuo.core.artifact import Workspace
from luhuo.core.language import tr
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    import torch

    from luhuo.model.decoder import Decoder
    from luhuo.train.trainer import Trainer


class RolloutStage(Stage, RolloutConfig):
    """Base of `grpo`, `ppo` and `online-dpo`."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        divided = [name for name in ("fsdp", "tp", "ep") if getattr(self.parallel, name) != 1]
        if divided:
            raise ValueError(
                tr(
                    f"parallel.{divided[0]}: sampling needs whole copies of the model; use parallel.dp",
                    f"parallel.{divided[0]}：采样需要完整的模型副本；请使用 parallel.dp",
                )
            )
        return self

    def run(self, out: Workspace) -> None:
        """Train, resuming from the last checkpoint if there is one, and write a model or an adapter directory."""
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            self._run(out, device)

    @abc.abstractmethod
    def _run(self, out: Workspace, device: torch.device) -> None:
        """What this process does, with `device` its own."""

    def _finish(
        self, trainer: Trainer, policy: Decoder, out: Workspace, told: Sequence[str], families: tuple[str, ...]
    ) -> None:
        """Train, and keep the policy with the metrics that are `told` or whose names begin with one of `families`."""
        from luhuo.align.policy import keep_policy
        from luhuo.train.ranks import Ranks

        metrics = trainer.run()
        if not Ranks().main:
            return
        keep_policy(policy, out.path)
        trainer.clean()
        out.results |= {name: metrics[name] for name in told if name in metrics} | {"steps": self.steps}
        out.results |= {name: value for name, value in metrics.items() if name.startswith(families)}
