"""Stage `mixture-search`: shares of sources found with small models."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from luhuo.core.config import Input, field
from luhuo.core.stage import Stage

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class MixtureSearchStage(Stage):
    """Train small models on drawn mixtures, predict the loss of others, and check the best (RegMix).

    An experiment: shares that suit a small model for a short time are a guess for a large one.
    """

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True

    shards: Input = field(..., "Output of stage shards.", "shards 阶段的输出。")
    tokenizer: Input = field(..., "The tokenizer the shards were made with.", "制作分片所用的分词器。")
    size: str = field("300k", "Parameters of the small models.", "小模型的参数量。")
    tokens: int = field(300_000, "Tokens each is trained on.", "每个小模型训练的词元数。", ge=1)
    length: int = field(128, "Tokens a row.", "每行词元数。", ge=2)
    batch: int = field(2048, "Tokens a step.", "每步词元数。", ge=2)
    runs: int = field(24, "Drawn mixtures.", "抽取的配比数。", ge=4)
    checks: int = field(3, "Seeds with which the chosen mixture is compared.", "对选出的配比做对照的种子数。", ge=1)
    target: dict[str, float] = field(
        {},
        "Sources whose held-out loss counts, with weights (none: all alike).",
        "计入留出损失的来源及权重（空：一视同仁）。",
    )
    eval_tokens: int = field(32_768, "Held-out tokens scored.", "评估的留出词元数。", ge=1)
    device: str = field("auto", "auto, cpu, cuda or mps.", "auto、cpu、cuda 或 mps。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def run(self, out: Workspace) -> None:
        """Search, and write `mixture.json` for the field `mixture` of pretrain."""
        from luhuo.train.mixture_search import Search

        Search(self, out).run()

    def disk_bytes(self) -> int:
        from luhuo.train.sizes import parse_size

        return int(parse_size(self.size) * 4 * (self.runs + 3 * self.checks)) + 50_000_000
