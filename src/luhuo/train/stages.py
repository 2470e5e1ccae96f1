"""Stage `pretrain`: shards and a tokenizer to a base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.core.stage import Stage
from luhuo.corpus.mixture import Mixture
from luhuo.train.config import TrainerConfig
from luhuo.train.denoising.config import Objectives
from luhuo.train.sizes import Shape, parse_size

if TYPE_CHECKING:
    import torch

    from luhuo.core.artifact import Workspace
    from luhuo.tokenizer.tokenizer import Tokenizer
    from luhuo.train.objective import Objective


class PretrainStage(Stage, TrainerConfig, Objectives):
    """Train a language model on tokenised text, from nothing or from an existing model.

    Under `torchrun` all processes share the work.
    """

    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    shards: Input = field(..., "Output of stage shards.", "shards 阶段的输出。")
    tokenizer: Input = field(..., "The tokenizer the shards were made with.", "制作分片所用的分词器。")
    model: Input | None = field(
        None, "Model directory to go on from; the size is then its own.", "要继续训练的模型目录，规模由它决定。"
    )
    size: str = field(
        "3m",
        "Parameters: 1m, 3m, 10m, 30m, 100m, 300m, 1b, or any number.",
        "参数量：1m、3m、10m、30m、100m、300m、1b，或任意数。",
    )
    shape: Shape = field(Shape(), "Parts of the architecture set by hand.", "手工指定的架构参数。")
    length: int | None = field(None, "Tokens a row; from the size by default.", "每行词元数，默认由规模决定。", ge=2)
    batch: int | None = field(None, "Tokens a step; from the size by default.", "每步词元数，默认由规模决定。", ge=2)
    steps: int = field(0, "Optimiser steps; 0: from `tokens`.", "优化步数；0 表示由 tokens 决定。", ge=0)
    tokens: int | None = field(
        None, "Tokens to train on; 20 a parameter by default.", "训练词元数，默认每参数 20 个。", ge=1
    )
    learning_rate: float = field(0.0, "Peak; 0: from the size.", "峰值学习率；0 表示由规模决定。", ge=0)
    eval_every: int = field(
        0, "Steps between held-out evaluations; 0: ten in all.", "留出集评估间隔（步）；0 为共十次。", ge=0
    )
    eval_tokens: int = field(32_768, "Held-out tokens scored each time.", "每次评估的留出词元数。", ge=1)
    mixture: Mixture | None = field(
        None,
        "Shares of sources and languages, phase by phase (null: all text, once an epoch).",
        "各来源与语言的份额，可分阶段（null：全部文本，每轮一遍）。",
    )
    device: str = field("auto", "auto, cpu, cuda or mps.", "auto、cpu、cuda 或 mps。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps and self.tokens:
            raise ValueError("give steps or tokens, not both")
        if self.mixture is not None and (self.objective != "causal" or self.replay is not None):
            raise ValueError("a mixture goes with the objective causal, without replay")
        parse_size(self.size)
        return self

    def disk_bytes(self) -> int:
        """Weights, and three checkpoints (one being written) of weights and two optimiser states, all fp32."""
        return int(4 * parse_size(self.size) * 10)

    def run(self, out: Workspace) -> None:
        """Train, resuming from the last checkpoint if there is one, and write a model directory."""
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            self._run(out, device)

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.core.device import pick_dtype
        from luhuo.model.count_stack import total
        from luhuo.model.save import save
        from luhuo.tokenizer.tokenizer import Tokenizer
        from luhuo.train import pretraining
        from luhuo.train.parallel import spread, whole
        from luhuo.train.quantisation.training import settle
        from luhuo.train.ranks import Ranks
        from luhuo.train.samples import sampler
        from luhuo.train.trainer import Trainer

        ranks = Ranks()
        tokenizer = Tokenizer.load(self.tokenizer)
        for shards in [self.shards] if self.replay is None else [self.shards, self.replay.shards]:
            _check_shards(shards, tokenizer)
        model, plan, prepared = pretraining.build(self, tokenizer)
        model = model.to(device)
        objective = self._objective(model)
        model = spread(model, self.parallel, pick_dtype(self.dtype, device))
        rows = max(1, round(plan.batch / plan.length / ranks.count))
        steps = self.steps or -(-plan.tokens // (rows * ranks.count * plan.length))
        if ranks.main:
            say(tr(f"Training for {steps:,} steps:", f"训练 {steps:,} 步：") + "\n" + plan.table())

        task = pretraining.task(self, prepared, plan.length, rows, steps, ranks.rank, ranks.count)
        trainer = Trainer(
            model,
            objective or task.objective,
            task.loader,
            self._trainer_config(steps, plan.learning_rate),
            out,
            evaluate=task.evaluate,
            sample=sampler(self, self.seed) if self.objective in ("causal", "fim") else None,
            title=tr("pretrain", "预训练"),
        )
        last = trainer.run()
        self._finish(model)
        finished = whole(model)
        if finished is None:
            return
        save(settle(finished), out.path)
        trainer.clean()
        out.results |= {"loss": last["loss"], "parameters": total(model.config)}
        scores = {name.removeprefix("valid_").partition("."): last[name] for name in last if name.startswith("valid_")}
        out.results |= {f"{name}.valid{dot}{part}": value for (name, dot, part), value in scores.items()}
        out.results |= {"steps": steps, "tokens": trainer.tokens, "tokens_per_s": _median_rate(out)}

    def _objective(self, model: Any) -> Objective | None:
        """What this model is trained by, on the rows of `objective`; None: by what they say."""
        return None

    def _finish(self, model: Any) -> None:
        """Take off the trained model, in every process, what was there for training alone."""

    def _trainer_config(self, steps: int, learning_rate: float) -> TrainerConfig:
        values = {name: getattr(self, name) for name in TrainerConfig.model_fields}
        derived = {
            "steps": steps,
            "learning_rate": learning_rate,
            "eval_every": self.eval_every or max(1, steps // 10),
        }
        return TrainerConfig(**{**values, **derived})


def _check_shards(folder: str, tokenizer: Tokenizer) -> None:
    """Raise `LuhuoError` unless these are shards, made with this tokenizer."""
    from luhuo.train.pretraining import other_tokenizer

    header = Path(folder) / "train" / "header.json"
    if not header.is_file():
        raise LuhuoError(
            tr("These are no tokenised shards.", "这不是分词后的分片目录。"),
            expected="train/header.json",
            where=folder,
        )
    found = json.loads(header.read_text(encoding="utf-8")).get("tokenizer")
    if found not in (None, tokenizer.fingerprint):
        raise other_tokenizer(found, tokenizer, folder)


def _median_rate(out: Workspace) -> float:
    rates = sorted(row["tokens_per_s"] for row in out.metrics.read() if "tokens_per_s" in row)
    return rates[len(rates) // 2] if rates else 0.0
