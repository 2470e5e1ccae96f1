"""One size at several token counts for little more than the price of the longest: a trunk at a constant learning rate,
and a decay that branches off it for each rung (Hu et al. 2024, MiniCPM, section 4.3; Hägele et al. 2024).

A rung of T steps, with decay share d, leaves the trunk after round(T·(1-d)) steps. Its weights, optimiser, random
state and place in the data are the trunk's checkpoint, so it is the very run that schedule `wsd` makes with T steps.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.digest import value_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.metrics import MetricsLog
from luhuo.core.progress import say
from luhuo.core.seeds import derive_seed
from luhuo.corpus.loader import PackedLoader
from luhuo.model.count import flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.config import TrainerConfig
from luhuo.train.heldout import bits_per_byte
from luhuo.train.objective import CausalLM
from luhuo.train.scaling.points import Point, read_point, write_points
from luhuo.train.sizes import Derived, derive
from luhuo.train.trainer import Evaluate, Trainer

if TYPE_CHECKING:
    from luhuo.train.scaling.stages import ScalingRunStage

EVAL_ROWS = 16
"""Rows of a held-out batch: the same for every size, so that all sizes are scored on the same tokens."""


def plan_of(size: str | int | float, vocab_size: int, stage: ScalingRunStage) -> Derived:
    """Shape, batch and learning rate of one size: `sizes.derive`, at the common row length."""
    rate = stage.learning_rate or None
    plan = derive(size, vocab_size, shape=stage.shape, length=stage.length, batch=stage.batch, learning_rate=rate)
    return replace(plan, reasons={name: why for name, why in plan.reasons.items() if name != "tokens"})


def climb(stage: ScalingRunStage, tokenizer: Tokenizer, out: Workspace, device: torch.device) -> None:
    """Measure every rung of a stage, and write `points.json`; what is measured already is not measured again."""
    run = _Ladder(stage, tokenizer, out, device)
    points = [run.measure(rung) for rung in stage.rungs]
    write_points(out.path, points)
    for folder in (run.trunk, run.branch, run.done):
        shutil.rmtree(folder, ignore_errors=True)
    last = points[-1]
    out.results |= {"parameters": last.parameters, "body": last.body, "tokens": last.tokens, "flops": last.flops}
    out.results |= {f"bpb.{point.tokens}": point.loss for point in points}
    out.results["seconds"] = round(sum(point.seconds for point in points), 2)


class _Ladder:
    """The trunk and the branches of one size."""

    def __init__(self, stage: ScalingRunStage, tokenizer: Tokenizer, out: Workspace, device: torch.device) -> None:
        self.stage, self.tokenizer, self.out, self.device = stage, tokenizer, out, device
        self.trunk, self.branch, self.done = (out.path / name for name in (".trunk", ".branch", ".done"))
        self.plan = plan_of(stage.size, self.tokenizer.vocab_size, stage)
        self.rows = max(1, round(self.plan.batch / self.plan.length))
        self.steps = [max(1, round(rung / (self.rows * self.plan.length))) for rung in stage.rungs]
        if len(set(self.steps)) < len(self.steps):
            raise LuhuoError(
                tr("Two rungs come to the same number of steps.", "有两级的步数相同。"),
                found=", ".join(f"{rung:,}" for rung in stage.rungs),
                fix=tr(
                    f"Keep them more than {self.rows * self.plan.length:,} tokens apart.",
                    f"相邻两级须相差 {self.rows * self.plan.length:,} 个词元以上。",
                ),
            )
        self.warm = round(self.steps[0] * stage.warmup)
        self.unique = int(self._loader("train", self.rows, verify=True).header["tokens"])
        self.evaluate = self._evaluation()
        say(tr("Scaling run:", "缩放实验：") + "\n" + self.plan.table())

    def measure(self, rung: int) -> Point:
        """The held-out loss at the end of one rung."""
        steps = self.steps[self.stage.rungs.index(rung)]
        kept = self.done / f"{steps}.json"
        if (point := read_point(kept)) is not None:
            return point
        leaves = max(self.warm, round(steps * (1 - self.stage.decay)))
        title = tr(f"trunk to {leaves:,}", f"主干至 {leaves:,}")
        if leaves:
            self._train(self.trunk, "trunk.jsonl", leaves, "constant", title, None)
        mark = self.branch / "steps"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != str(steps):
            shutil.rmtree(self.branch, ignore_errors=True)
            if leaves:
                shutil.copytree(self.trunk, self.branch)
            self.branch.mkdir(exist_ok=True)
            mark.write_text(str(steps), encoding="utf-8")
        title = tr(f"rung of {steps:,}", f"第 {steps:,} 步一级")
        trainer = self._train(self.branch, f"rung-{steps}.jsonl", steps, "wsd", title, self.evaluate)
        point = self._point(trainer, steps)
        self.done.mkdir(exist_ok=True)
        write_json(kept, point.as_dict())
        shutil.rmtree(self.branch)
        return point

    def _point(self, trainer: Trainer, steps: int) -> Point:
        counts = parameters(self.plan.model)
        body = sum(n for name, n in counts.items() if name not in ("embedding", "positions", "head"))
        rates = sorted(row["tokens_per_s"] for row in trainer.out.metrics.read() if "tokens_per_s" in row)
        rate = rates[len(rates) // 2] if rates else 0.0
        per_token = flops_per_token(self.plan.model, self.plan.length)
        return Point(
            parameters=sum(counts.values()),
            body=body,
            tokens=trainer.tokens,
            unique=self.unique,
            loss=trainer.state.last["valid_bpb"],
            flops=float(per_token) * trainer.tokens,
            flops_per_s=per_token * rate,
            seconds=trainer.tokens / rate if rate else 0.0,
            run=value_digest(self.plan.model.model_dump(mode="json"))[:12],
            steps=steps,
            batch=self.rows * self.plan.length,
            length=self.plan.length,
            learning_rate=self.plan.learning_rate,
            shape={name: getattr(self.plan.model, name) for name in ("layers", "hidden_size", "vocab_size")},
        )

    def _train(
        self, folder: Path, log: str, steps: int, schedule: str, title: str, evaluate: Evaluate | None
    ) -> Trainer:
        """Train to `steps` from the checkpoint in `folder`, or from nothing."""
        folder.mkdir(exist_ok=True)
        leaves = max(self.warm, round(steps * (1 - self.stage.decay)))
        values = {name: getattr(self.stage, name) for name in TrainerConfig.model_fields} | {
            "steps": steps,
            "schedule": schedule,
            "learning_rate": self.plan.learning_rate,
            "warmup": self.warm / steps,
            "decay": (steps - leaves) / steps,
            "eval_every": 0,
            "keep": 1,
        }
        model = initialise(Decoder(self.plan.model), derive_seed(self.stage.seed, "weights"))
        model.tokenizer = self.tokenizer
        trainer = Trainer(
            model.to(self.device),
            CausalLM(),
            self._loader("train", self.rows),
            TrainerConfig(**values),
            Workspace(folder, MetricsLog(self.out.path / log)),
            evaluate=evaluate,
            title=title,
        )
        trainer.run()
        return trainer

    def _loader(self, split: str, rows: int, *, verify: bool = False) -> PackedLoader:
        seed = derive_seed(self.stage.seed, "loader", split)
        return PackedLoader(
            Path(self.stage.shards) / split, batch=rows, length=self.plan.length, seed=seed, verify=verify
        )

    def _evaluation(self) -> Evaluate:
        sizes = [len(self.tokenizer.token_bytes(token)) for token in range(self.tokenizer.vocab_size)]
        batches = max(1, self.stage.eval_tokens // (EVAL_ROWS * self.plan.length))
        return bits_per_byte(lambda: self._loader("valid", EVAL_ROWS).epoch(), sizes, batches)
