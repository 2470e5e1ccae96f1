"""Settings of the training loop."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.train.parallel_config import Parallel
from luhuo.train.quantisation.config import Quantisation
from luhuo.train.sparsity_config import Sparsity


class TrainerConfig(Config):
    """How long, how fast and how safely to train. What is learned is the objective's business."""

    steps: int = field(..., "Optimiser steps.", "优化步数。", ge=1)
    learning_rate: float = field(4e-3, "Peak learning rate of the matrices.", "矩阵参数的峰值学习率。", gt=0)
    optimiser: Literal["muon", "adamw", "lion", "adafactor", "adamw8", "lion8"] = field(
        "muon",
        "muon (matrices; AdamW for the rest), adamw, lion, adafactor, or adamw8 and lion8 (8-bit states of matrices).",
        "muon（矩阵；其余用 AdamW）、adamw、lion、adafactor，或 adamw8、lion8（矩阵状态为 8 位）。",
    )
    muon_scale: Literal["rms", "spectral"] = field(
        "rms",
        "Size of Muon's steps: rms (as AdamW's) or spectral (one learning rate for all widths).",
        "Muon 步长：rms（与 AdamW 相当）或 spectral（学习率不随宽度变）。",
    )
    betas: tuple[float, float] | None = field(
        None,
        "Averages of AdamW and Lion; by default 0.9, 0.95 and 0.9, 0.99.",
        "AdamW 与 Lion 的滑动平均系数；默认 0.9、0.95 与 0.9、0.99。",
    )
    epsilon: float | None = field(
        None,
        "Added to the root of AdamW's second moment; by default 1e-10.",
        "AdamW 二阶矩平方根所加的常数；默认 1e-10。",
        gt=0,
    )
    relative: bool = field(
        False, "Adafactor's steps are relative to each parameter's size.", "Adafactor 的步长与各参数大小成比例。"
    )
    embedding_rate: float = field(
        3.0, "Learning rate of embeddings and norms, relative to the matrices'.", "嵌入与归一化的学习率倍数。", gt=0
    )
    base_width: int = field(
        0,
        "Width at which learning_rate was tuned: the rates follow to this model's width; 0: they do not.",
        "调定 learning_rate 时的宽度：学习率随本模型宽度换算；0 为不换算。",
        ge=0,
    )
    balance_speed: float = field(
        1e-3,
        "Step of the routers' corrections against uneven load, where a model has them.",
        "路由均衡偏置每步的修正量（模型带该偏置时）。",
        ge=0,
    )
    weight_decay: float = field(0.1, "Decoupled weight decay of the matrices.", "矩阵参数的解耦权重衰减。", ge=0)
    schedule: Literal["wsd", "cosine", "linear", "inverse_sqrt", "constant"] = field(
        "wsd", "Shape of the learning rate after warm-up.", "预热之后学习率的形状。"
    )
    warmup: float = field(0.02, "Share of the steps spent on warm-up.", "预热所占步数比例。", ge=0, le=1)
    warmup_steps: int | None = field(
        None, "Steps of warm-up, in place of its share.", "预热步数，代替所占比例。", ge=0
    )
    decay: float = field(0.4, "Share of the steps in which wsd decays.", "wsd 衰减所占步数比例。", ge=0, le=1)
    decay_shape: Literal["linear", "sqrt"] = field(
        "linear", "How wsd decays: linear, or 1 - root of the progress.", "wsd 的衰减形状：线性，或 1 减进度的平方根。"
    )
    floor: float = field(0.0, "Final learning rate, relative to the peak.", "终点学习率与峰值之比。", ge=0, le=1)
    batch_warmup: float = field(
        0.0, "Share of the steps in which the batch grows to its size.", "批量逐渐增大的步数比例。", ge=0, le=1
    )
    batch_start: float = field(
        0.25, "Size of the first batch, relative to the full one.", "起始批量与完整批量之比。", gt=0, le=1
    )
    ema: float = field(
        0.0,
        "Decay of the averaged weights, which become the result; 0: none.",
        "权重滑动平均的衰减；0 为不用。",
        ge=0,
        lt=1,
    )
    clip: float = field(1.0, "Largest gradient norm; 0: no clipping.", "梯度范数上限；0 为不裁剪。", ge=0)
    micro_batch: int = field(
        0,
        "Rows per forward pass; the rest is accumulated; 0: all that fit.",
        "每次前向的行数，其余累积；0 为放得下的全部。",
        ge=0,
    )
    recompute: Literal["none", "selective", "full"] = field(
        "none",
        "Activations computed again in the backward pass instead of kept: none, the feed-forward parts, whole blocks.",
        "反向传播时重算而不保存的激活：不重算、仅前馈部分、整个块。",
    )
    dtype: Literal["auto", "fp32", "bf16"] = field(
        "auto", "Arithmetic; the weights themselves stay fp32.", "运算格式；权重本身保持 fp32。"
    )
    fp8: bool = field(
        False,
        "The blocks' matrices are multiplied in 8-bit floats (in hardware from Ada and Hopper on, else emulated).",
        "模型块的矩阵以 8 位浮点相乘（Ada、Hopper 起由硬件计算，否则为模拟）。",
    )
    quantisation: Quantisation | None = field(
        None,
        "Round the blocks' matrices while they are trained, and in the result: {bits: 4}.",
        "训练时即对模型块的矩阵取整，结果亦然：{bits: 4}。",
    )
    compile: Literal["auto", "none", "default", "reduce-overhead", "max-autotune"] = field(
        "auto",
        "torch.compile of the blocks: auto (on CUDA only), none, or one of its modes.",
        "对模型块使用 torch.compile：auto（仅 CUDA）、none，或其某种模式。",
    )
    sparsity: Sparsity = field(
        Sparsity(), "Zeros in the matrices: kept, or added gradually.", "矩阵中的零：保持，或逐步增加。"
    )
    log_every: int = field(1, "Steps between lines of metrics.jsonl.", "写入 metrics.jsonl 的步数间隔。", ge=1)
    eval_every: int = field(
        0, "Steps between held-out evaluations; 0: only at the end.", "留出集评估间隔；0 为仅在最后。", ge=0
    )
    checkpoint_every: int = field(
        0, "Steps between checkpoints; 0: by time only.", "检查点步数间隔；0 为仅按时间。", ge=0
    )
    checkpoint_every_s: float = field(
        60.0, "Seconds between checkpoints; 0: by steps only.", "检查点时间间隔（秒）；0 为仅按步数。", ge=0
    )
    keep: int = field(2, "Checkpoints kept.", "保留的检查点个数。", ge=1)
    keep_best: str = field(
        "",
        "Name of a held-out score (lower is better) whose best weights become the result, such as valid_bpb.",
        "留出集指标名（越低越好），其最佳权重成为结果，如 valid_bpb。",
    )
    background: bool = field(True, "Checkpoints are written while training goes on.", "边训练边写检查点。")
    spike: float = field(
        10.0,
        "A loss this many robust deviations above the usual is passed over; 0: only one that is not finite.",
        "损失高出常态多少个稳健标准差即跳过；0 为仅跳过非有限值。",
        ge=0,
    )
    rollbacks: int = field(
        3, "Returns to the last checkpoint before the run gives up.", "放弃之前回退到上一检查点的次数。", ge=0
    )
    prefetch: int = field(
        2, "Batches made ahead of time in a thread; 0: none.", "在线程中提前准备的批数；0 为不提前。", ge=0, watch=True
    )
    samples_every: int = field(
        0,
        "Steps between samples of what the model writes; 0: none.",
        "每隔多少步生成样例文本；0 为不生成。",
        ge=0,
        watch=True,
    )
    sample_prompts: list[str] = field(
        [],
        "Prompts of the samples; by default some in English and Chinese.",
        "样例的提示；默认中英文各若干条。",
        watch=True,
    )
    sample_tokens: int = field(48, "Tokens of a sample.", "每个样例的词元数。", ge=1, watch=True)
    track: list[Literal["tensorboard", "wandb", "swanlab", "mlflow"]] = field(
        [],
        "Trackers that are told too: tensorboard, wandb, swanlab, mlflow.",
        "同时上报的实验跟踪工具：tensorboard、wandb、swanlab、mlflow。",
        watch=True,
    )
    watchdog_s: float = field(
        900.0,
        "Seconds without progress before the ranks are compared; 0: never.",
        "多少秒无进展即报告；0 为不报告。",
        ge=0,
    )
    parallel: Parallel = field(
        Parallel(),
        "How the processes of torchrun divide the work: dp, fsdp, tp, ep.",
        "torchrun 各进程如何分工：dp、fsdp、tp、ep。",
        watch=True,
    )

    @model_validator(mode="after")
    def _fits_parallel(self) -> Self:
        if self.parallel.tp != 1 and self.optimiser in ("adamw8", "lion8"):
            raise ValueError(f"{self.optimiser} keeps its states by whole rows: it does not go with parallel.tp")
        if self.quantisation is not None and (self.fp8 or self.parallel.tp != 1):
            raise ValueError(f"quantisation does not go with {'fp8' if self.fp8 else 'parallel.tp'}")
        divided = [name for name in ("fsdp", "tp", "ep") if getattr(self.parallel, name) != 1]
        if divided and self.sparsity.grows:
            raise ValueError(f"zeros are chosen in whole matrices: parallel.{divided[0]} does not go with new ones")
        return self
