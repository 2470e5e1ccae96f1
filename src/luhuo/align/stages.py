"""The stages of this room."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from luhuo.align.policy import PolicyConfig
from luhuo.core.artifact import Workspace, owner
from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    import torch

    from luhuo.align.sft import Prepared
    from luhuo.tokenizer.tokenizer import Tokenizer


class SftStage(Stage, PolicyConfig):
    """Supervised fine-tuning on conversations: the loss counts assistant turns only."""

    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    data: list[Input] | Input = field(
        ..., "File or files of conversations; the layout is detected.", "对话文件（一个或多个），自动识别格式。"
    )
    valid: Input | None = field(
        None,
        "Held-out conversations; their loss is measured every `eval_every` steps.",
        "留出对话，每 eval_every 步测其损失。",
    )
    epochs: float = field(3.0, "Passes over the data, unless `steps` is given.", "数据遍数（未设 steps 时）。", gt=0)
    steps: int = field(0, "Optimiser steps; 0: from `epochs`.", "优化步数；0 表示由 epochs 决定。", ge=0)
    batch: int = field(2048, "Tokens per optimiser step.", "每步的词元数。", ge=1)
    length: int = field(512, "Tokens of a packed row.", "每个打包行的词元数。", ge=8)
    learning_rate: float = field(1e-3, "Peak learning rate of the matrices.", "矩阵参数的峰值学习率。", gt=0)
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "constant"] = field(
        "linear", "Shape of the learning rate after warm-up.", "预热之后学习率的形状。"
    )
    warmup: float = field(0.05, "Share of the steps spent on warm-up.", "预热所占步数比例。", ge=0, le=1)
    weight_decay: float = field(0.0, "Decoupled weight decay of the matrices.", "矩阵参数的解耦权重衰减。", ge=0)
    overlong: Literal["truncate", "drop"] = field(
        "truncate",
        "A conversation longer than a row: drop whole turns from its front, or all of it.",
        "对话超过一行时：从前面整轮截去，或整条丢弃。",
    )
    shuffle_answers: bool = field(
        False,
        "Control experiment: permute answers within family and language; formats stay, the mapping is lost.",
        "对照实验：在同一题型与语言内打乱答案；格式保留，对应关系丢失。",
    )

    def run(self, out: Workspace) -> None:
        """Fine-tune, resuming from the last checkpoint if there is one, and write a model directory."""
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            self._run(out, device)

    def _run(self, out: Workspace, device: torch.device) -> None:
        from luhuo.align.policy import keep_policy, open_policy
        from luhuo.align.sft import held_out, prepare
        from luhuo.core.device import pick_dtype
        from luhuo.dialogue.packing import ConversationLoader
        from luhuo.files.readers import list_files
        from luhuo.files.references import resolve
        from luhuo.train.objective import CausalLM
        from luhuo.train.parallel import spread, whole
        from luhuo.train.ranks import Ranks
        from luhuo.train.samples import sampler
        from luhuo.train.trainer import Trainer

        ranks = Ranks()
        model = open_policy(self, seed=self.seed)
        tokenizer = self._checked(model.tokenizer, model.config.max_positions)
        data = [self.data] if isinstance(self.data, str) else self.data
        files = [file for value in data for file in list_files(resolve(value).path)]
        note_sources(files, out)
        seed = self.seed if self.shuffle_answers else None
        with Path(out.path / "quarantine.jsonl" if ranks.main else os.devnull).open("w", encoding="utf-8") as handle:

            def quarantine(row: Any) -> None:
                line = {"source": row.file, "line": row.line, "reason": row.reason, "excerpt": row.excerpt}
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")

            rules: dict[str, Any] = {"overlong": self.overlong, "quarantine": quarantine}
            prepared = prepare(files, tokenizer, self.length, shuffle_seed=seed, **rules)
            kept = None
            if self.valid:
                kept = prepare(list_files(resolve(self.valid).path), tokenizer, self.length, **rules).store
        if ranks.main:
            announce(prepared, tokenizer)
        options = {"length": self.length, "seed": self.seed, "pad_id": tokenizer.pad_id}
        rows = len(ConversationLoader(prepared.store, batch=1, **options).rows(0))
        batch = max(1, min(self.batch // self.length, rows) // ranks.count)
        loader = ConversationLoader(prepared.store, batch=batch, rank=ranks.rank, world=ranks.count, **options)
        config = self.trainer_config(steps=self.steps or loader.steps(self.epochs))
        evaluate = held_out(kept, self.length, tokenizer.pad_id) if kept else None
        model = spread(model.to(device), self.parallel, pick_dtype(self.dtype, device))
        sample = sampler(config, self.seed, chat=True)
        trainer = Trainer(model, CausalLM(), loader, config, out, evaluate=evaluate, sample=sample, title="sft")
        metrics = trainer.run()
        finished = whole(model)
        if finished is None:
            return
        keep_policy(finished, out.path)
        trainer.clean()
        out.results |= {
            "loss": metrics["loss"],
            "tokens_per_s": metrics["tokens_per_s"],
            "steps": config.steps,
            "tokens": prepared.tokens,
            "supervised_tokens": prepared.supervised,
            "conversations": prepared.counts["used"],
        }
        if "valid.loss" in metrics:
            out.results["valid.loss"] = metrics["valid.loss"]
        for name in ("broken", "no_target", "empty_answer", "too_long", "truncated"):
            out.results[f"rows.{name}"] = prepared.counts[name]

    def disk_bytes(self) -> int:
        """The model, and two checkpoints with the optimiser's state."""
        folder = Path(self.model)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 20_000_000
        return 8 * weights + 10_000_000

    def _checked(self, tokenizer: Tokenizer | None, context: int) -> Tokenizer:
        if tokenizer is None:
            raise LuhuoError(
                tr("The model has no tokenizer.", "该模型没有分词器。"), expected="tokenizer.json", where=self.model
            )
        if self.length > context:
            raise LuhuoError(
                tr("The rows are longer than the model's context.", "打包行长于模型上下文。"),
                expected=f"length <= {context}",
                found=self.length,
                where="length",
            )
        return tokenizer


def announce(prepared: Prepared, tokenizer: Tokenizer) -> None:
    """Tell what was found: layouts, counts, token statistics, and one example with its mask."""
    import sys

    import numpy as np

    from luhuo.core.progress import say
    from luhuo.dialogue.preview import preview

    for name, layout in prepared.layouts.items():
        say(tr(f"{Path(name).name}: layout “{layout}”", f"{Path(name).name}：格式“{layout}”"))
    say(", ".join(f"{name} {count:,}" for name, count in sorted(prepared.counts.items()) if count))
    lengths = prepared.store.lengths()
    median, longest = int(np.median(lengths)), int(lengths.max())
    share = prepared.supervised / prepared.tokens
    say(
        tr(
            f"{prepared.tokens:,} tokens, {prepared.supervised:,} supervised ({share:.0%}); "
            f"a conversation has {median} (median) to {longest} (longest)",
            f"共 {prepared.tokens:,} 词元，受监督 {prepared.supervised:,}（{share:.0%}）；"
            f"单条中位数 {median}，最长 {longest}",
        )
    )
    if prepared.first:
        say(tr("The first conversation; what is learned is marked:", "第一条对话，标出的部分为学习目标："))
        say(preview(prepared.first, tokenizer, colour=sys.stderr.isatty()))


def note_sources(files: list[Path], out: Workspace) -> None:
    """Files that no stage made are raw material: the manifest names them."""
    from luhuo.core.digest import file_digest

    for file in files:
        if file.is_file() and owner(file.absolute()) is None:
            size = file.stat().st_size
            record = {"name": file.name, "reference": str(file), "sha256": file_digest(file), "bytes": size}
            out.sources.append(record | {"licence": "unknown"})
