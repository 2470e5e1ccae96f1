"""The stages of this room."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.align.policy import PolicyConfig
from luhuo.align.sft_fields import DataSet, RopeStretch
from luhuo.core.artifact import Workspace, owner
from luhuo.core.config import Input, field
from luhuo.core.stage import Stage


class SftStage(Stage, PolicyConfig):
    """Supervised fine-tuning on conversations: the loss counts assistant turns only."""

    version: ClassVar[int] = 3
    resumable: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    data: list[Input | DataSet] | Input = field(
        ...,
        "File or files of conversations, the layout is detected; {path, weight} says how often a set is seen.",
        "对话文件（一个或多个），自动识别格式；{path, weight} 指明某数据集出现的次数。",
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
    turns: Literal["all", "last"] = field(
        "all",
        "Answers that are learned: all of a conversation, or its last one.",
        "学习哪些回答：对话中的全部，或仅最后一个。",
    )
    plain: bool = field(
        False,
        "Rows are plain text (text, or prompt and completion): no chat template.",
        "数据为纯文本（text，或 prompt 与 completion）：不用对话模板。",
    )
    neftune: float = field(
        0.0,
        "Noise on the embeddings in training (NEFTune's alpha, 5 to 15); 0: none.",
        "训练时嵌入上的噪声（NEFTune 的 alpha，5 到 15）；0 为无。",
        ge=0,
    )
    rope: RopeStretch | None = field(
        None,
        "Stretch the context: {type: yarn, factor: 4}; config.json says so to transformers.",
        "拉长上下文：{type: yarn, factor: 4}；写入 config.json，transformers 可读。",
    )
    new_tokens: list[str] = field(
        [],
        "Special tokens to add; their embeddings begin as the mean of all.",
        "要新增的特殊词元；其嵌入初值为全体均值。",
    )
    chat_template: Input | None = field(
        None, "Jinja file of a chat template for the model.", "为模型指定的对话模板（Jinja 文件）。"
    )
    chatml: bool = field(
        False, "Give the model ChatML, the template and its tokens.", "为模型配上 ChatML 模板及其词元。"
    )
    control: Input | None = field(
        None,
        "Folder that the stage control made: each class of its attributes gets a token of its own (CTRL).",
        "control 阶段生成的目录：其属性的每一类成为一个独立词元（CTRL）。",
    )
    shuffle_answers: bool = field(
        False,
        "Control experiment: permute answers within family and language; formats stay, the mapping is lost.",
        "对照实验：在同一题型与语言内打乱答案；格式保留，对应关系丢失。",
    )

    @model_validator(mode="after")
    def _fits_data(self) -> Self:
        if self.chatml and self.chat_template is not None:
            raise ValueError("chatml and chat_template exclude each other")
        turned = self.chatml or self.chat_template or self.control or self.shuffle_answers or self.turns != "all"
        if self.plain and turned:
            raise ValueError("plain text has no turns, template or answers to shuffle")
        return self

    def run(self, out: Workspace) -> None:
        """Fine-tune, resuming from the last checkpoint if there is one, and write a model directory or an adapter."""
        from luhuo.align.sft_run import fine_tune
        from luhuo.core.device import use_threads
        from luhuo.train.parallel import processes

        use_threads(self.threads)
        with processes(self.device, self.parallel) as device:
            fine_tune(self, out, device, lambda files: note_sources(files, out))

    def disk_bytes(self) -> int:
        """The model, and two checkpoints with the optimiser's state."""
        folder = Path(self.model)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 20_000_000
        return 8 * weights + 10_000_000


def note_sources(files: list[Path], out: Workspace) -> None:
    """Files that no stage made are raw material: the manifest names them."""
    from luhuo.core.digest import file_digest

    for file in files:
        if file.is_file() and owner(file.absolute()) is None:
            size = file.stat().st_size
            record = {"name": file.name, "reference": str(file), "sha256": file_digest(file), "bytes": size}
            out.sources.append(record | {"licence": "unknown"})
