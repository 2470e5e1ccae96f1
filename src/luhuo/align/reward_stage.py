"""The stage `reward`: from judgements to a model that gives scores, measured against judges that cannot read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from luhuo.align.policy import PolicyConfig
from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    import torch

    from luhuo.core.artifact import Workspace
    from luhuo.files.records import Broken


class RewardStage(Stage, PolicyConfig):
    """Train a reward model: a scalar head on any decoder or encoder, from comparisons, labels, scores or steps."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    data: list[Input] | Input = field(
        ...,
        "File or files of judgements; the layout is detected: pairs, rankings, labels, scores or steps.",
        "评判数据文件（一个或多个），自动识别格式：成对、排名、标签、分数或步骤。",
    )
    test: Input | None = field(
        None,
        "Held-out judgements: accuracy, calibration, length and baselines are measured on them.",
        "留出的评判数据：用于测量准确率、校准、长度相关性与基线。",
    )
    normalise: Input | None = field(
        None,
        "Conversations whose answers get mean 0 and deviation 1; by default the better answers of the data.",
        "使其回答得分均值为 0、标准差为 1 的对话；默认取训练数据中较好的回答。",
    )
    epochs: float = field(1.0, "Passes over the data, unless `steps` is given.", "数据遍数（未设 steps 时）。", gt=0)
    steps: int = field(0, "Optimiser steps; 0: from `epochs`.", "优化步数；0 表示由 epochs 决定。", ge=0)
    batch: int = field(4096, "Tokens per optimiser step.", "每步的词元数。", ge=1)
    length: int = field(
        512,
        "Tokens of a row, which holds all texts of a comparison.",
        "一行的词元数，须容下一次比较的全部文本。",
        ge=8,
    )
    centre: float = field(
        0.01,
        "Weight of the squared sum of a pair's scores, which keeps their mean at 0.",
        "成对得分之和平方的权重，使得分均值保持在 0。",
        ge=0,
    )
    learning_rate: float = field(1e-3, "Peak learning rate of the matrices.", "矩阵参数的峰值学习率。", gt=0)
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "constant"] = field(
        "linear", "Shape of the learning rate after warm-up.", "预热之后学习率的形状。"
    )
    warmup: float = field(0.05, "Share of the steps spent on warm-up.", "预热所占步数比例。", ge=0, le=1)
    weight_decay: float = field(0.0, "Decoupled weight decay of the matrices.", "矩阵参数的解耦权重衰减。", ge=0)

    def run(self, out: Workspace) -> None:
        """Train, resuming from the last checkpoint if there is one; write a model directory and `reward.json`."""
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            self._run(out, device)

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.align.reward_data import RewardLoader, read_reward_data
        from luhuo.align.reward_measures import held_out
        from luhuo.align.reward_training import (
            announce,
            check_kinds,
            local_files,
            objective,
            open_model,
            report,
            settle,
        )
        from luhuo.align.stages import note_sources
        from luhuo.core.device import pick_dtype
        from luhuo.train.parallel import spread, whole
        from luhuo.train.ranks import Ranks
        from luhuo.train.trainer import Trainer

        ranks = Ranks()
        model = open_model(self)
        tokenizer = model.tokenizer
        assert tokenizer is not None
        with Path(out.path / "quarantine.jsonl" if ranks.main else os.devnull).open("w", encoding="utf-8") as handle:

            def quarantine(row: Broken) -> None:
                line = {"source": row.file, "line": row.line, "reason": row.reason, "excerpt": row.excerpt}
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")

            files = local_files([self.data] if isinstance(self.data, str) else self.data)
            data = read_reward_data(files, tokenizer, self.length, quarantine)
            test = None
            if self.test:
                test = read_reward_data(local_files([self.test]), tokenizer, self.length, quarantine)
        note_sources(files, out)
        check_kinds(data, test, self)
        if ranks.main:
            announce(data, test)
        options: dict[str, Any] = {"length": self.length, "seed": self.seed, "pad_id": tokenizer.pad_id}
        rows = len(RewardLoader(data, batch=1, **options).rows(0))
        batch = max(1, min(self.batch // self.length, rows) // ranks.count)
        loader = RewardLoader(data, batch=batch, rank=ranks.rank, world=ranks.count, **options)
        config = self.trainer_config(steps=self.steps or loader.steps(self.epochs))
        evaluate = held_out(test, pad_id=tokenizer.pad_id) if test else None
        model = spread(model.to(device), self.parallel, pick_dtype(self.dtype, device))
        learned = objective(data.kind, self.centre)
        trainer = Trainer(model, learned, loader, config, out, evaluate=evaluate, title="reward")  # type: ignore[arg-type]
        metrics = trainer.run()
        finished = whole(model)
        if finished is None:
            return
        unit = settle(finished, self, data, out)
        report(finished, self, data, test, out, unit)
        trainer.clean()
        out.results |= {"loss": metrics["loss"], "steps": config.steps, "tokens": data.tokens}
        out.results |= {f"rows.{name}": count for name, count in sorted(data.counts.items())}

    def disk_bytes(self) -> int:
        """The model with room for checkpoints (weights and optimiser state, `keep` and one more)."""
        folder = Path(self.model)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 20_000_000
        return (2 + 3 * (self.keep + 1)) * weights + 50_000_000
