"""What to train of a model: which method, where, how much of it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, Input, field

Method = Literal[
    "lora",
    "dora",
    "adalora",
    "dylora",
    "vera",
    "ia3",
    "houlsby",
    "pfeiffer",
    "prefix",
    "p-tuning-v2",
    "prompt",
    "bitfit",
    "child-f",
    "child-d",
    "fishmask",
    "full",
]

MATRICES = frozenset({"targets", "layers", "train"})
"""Fields of methods that work on single matrices."""
LOW_RANK = MATRICES | {"rank", "alpha", "rslora", "lora_plus"}
VIRTUAL = frozenset({"tokens", "text"})
USES: dict[str, frozenset[str]] = {
    "lora": LOW_RANK | {"init"},
    "dora": LOW_RANK,
    "adalora": (LOW_RANK - {"rslora", "lora_plus"}) | {"start_rank", "budget_from", "budget_to", "orthogonality"},
    "dylora": LOW_RANK,
    "vera": MATRICES | {"rank"},
    "ia3": MATRICES,
    "houlsby": frozenset({"layers", "train", "rank"}),
    "pfeiffer": frozenset({"layers", "train", "rank"}),
    "prefix": VIRTUAL | {"rank"},
    "p-tuning-v2": VIRTUAL,
    "prompt": VIRTUAL,
    "bitfit": frozenset(),
    "child-f": frozenset({"share", "freeze"}),
    "child-d": frozenset({"share", "freeze", "fisher_batches"}),
    "fishmask": frozenset({"share", "freeze", "fisher_batches"}),
    "full": frozenset({"freeze"}),
}
"""The fields each method reads, beside `method`, `path`, `base` and `rate`."""
COMMON = frozenset({"method", "path", "base", "rate"})


class AdapterConfig(Config):
    """How a model is adapted. A field that the method does not read is refused."""

    method: Method = field(
        "lora",
        "lora, dora, adalora, dylora, vera, ia3, houlsby, pfeiffer, prefix, p-tuning-v2, prompt, bitfit, child-f, "
        "child-d, fishmask or full.",
        "lora、dora、adalora、dylora、vera、ia3、houlsby、pfeiffer、prefix、p-tuning-v2、prompt、bitfit、child-f、"
        "child-d、fishmask 或 full。",
    )
    path: Input | None = field(
        None, "A trained adapter to go on with; it says the method.", "要继续训练的适配器；方法以它为准。"
    )
    base: Literal["fp32", "bf16", "int8", "int4"] = field(
        "fp32",
        "Number format of the frozen weights; int4 with lora is QLoRA.",
        "冻结权重的数值格式；int4 加 lora 即 QLoRA。",
    )
    rate: float | None = field(
        None,
        "Learning rate of the adapter relative to learning_rate; by default what suits the method (LoRA: 10).",
        "适配器学习率与 learning_rate 之比；默认取适合该方法的值（LoRA 为 10）。",
        gt=0,
    )
    rank: int = field(
        16, "Rank of the update, or width of a bottleneck.", "更新矩阵的秩，或瓶颈层的宽度。", ge=1, le=4096
    )
    alpha: float | None = field(
        None,
        "The update is multiplied by alpha / rank; by default twice the rank.",
        "更新乘以 alpha / rank；默认为秩的两倍。",
        gt=0,
    )
    rslora: bool = field(False, "Multiply by alpha / √rank instead (rsLoRA).", "改为乘以 alpha / √rank（rsLoRA）。")
    init: Literal["zero", "pissa", "olora"] = field(
        "zero",
        "Start of the two factors: zero (random and zero), pissa (principal directions), olora (orthonormal).",
        "两个因子的初值：zero（随机与零）、pissa（主方向）、olora（正交）。",
    )
    lora_plus: float = field(
        1.0,
        "Learning rate of the factor at the output over that at the input (LoRA+: 16).",
        "输出侧与输入侧因子的学习率之比（LoRA+：16）。",
        gt=0,
    )
    targets: list[str] = field(
        [],
        "Matrices: attention, mlp, all, or ends of their published names such as q_proj; default: what suits the "
        "method (all; IA3: keys, values and the feed-forward's last).",
        "所作用的矩阵：attention、mlp、all，或其公开名称的结尾如 q_proj；默认取适合该方法者"
        "（全部；IA3 为键、值与前馈最后一层）。",
    )
    layers: list[int] = field([], "Layers by number, from 0; default: all.", "层号，从 0 起；默认全部。")
    train: list[str] = field(
        [],
        "Further modules that are trained whole and saved with the adapter, by published name: embed_tokens, "
        "lm_head, norm.",
        "另外整体训练并随适配器保存的模块（公开名称）：embed_tokens、lm_head、norm。",
    )
    freeze: list[str] = field(
        [],
        "Of methods that train the model's own weights: regular expressions of parameters that stay as they are.",
        "对训练模型自身权重的方法：保持不变的参数（正则表达式）。",
    )
    tokens: int = field(16, "Virtual tokens in front of each text.", "每段文本之前的虚拟词元数。", ge=1)
    text: str = field(
        "",
        "Text whose tokens the virtual ones begin as; by default a short instruction.",
        "虚拟词元的初值文本；默认为一句简短的指令。",
    )
    start_rank: int = field(
        0,
        "AdaLoRA's rank at the start; 0: one and a half times `rank`.",
        "AdaLoRA 的起始秩；0 为 rank 的 1.5 倍。",
        ge=0,
    )
    budget_from: float = field(
        0.1, "Share of the steps before AdaLoRA removes directions.", "AdaLoRA 开始裁减方向前的步数比例。", ge=0, lt=1
    )
    budget_to: float = field(
        0.6, "Share of the steps at which its budget is final.", "其预算到达终值时的步数比例。", gt=0, le=1
    )
    orthogonality: float = field(
        0.5, "Weight of AdaLoRA's penalty on factors that are not orthogonal.", "AdaLoRA 正交惩罚的权重。", ge=0
    )
    share: float | None = field(
        None,
        "Share of the numbers that move; by default 0.3 (Child-tuning) and 0.005 (FishMask).",
        "会移动的数值所占比例；默认 0.3（Child-tuning）与 0.005（FishMask）。",
        gt=0,
        le=1,
    )
    fisher_batches: int = field(
        16, "Batches from which the Fisher information is measured.", "估计 Fisher 信息所用的批数。", ge=1
    )

    @model_validator(mode="after")
    def _only_what_is_read(self) -> Self:
        unread = sorted(self.model_fields_set - USES[self.method] - COMMON)
        if unread:
            raise ValueError(f"{self.method} does not read {', '.join(unread)}")
        if self.budget_from >= self.budget_to:
            raise ValueError("budget_from must lie before budget_to")
        if self.base != "fp32" and self.in_place:
            raise ValueError(f"{self.method} trains the weights themselves: base must be fp32")
        return self

    @property
    def in_place(self) -> bool:
        """Whether the model's own weights are what is trained."""
        return self.method in ("bitfit", "child-f", "child-d", "fishmask", "full")

    @property
    def kept(self) -> float:
        """Share of the numbers that move."""
        return self.share or (0.005 if self.method == "fishmask" else 0.3)

    @property
    def scale(self) -> float:
        """Factor on a low-rank update."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return alpha / (self.rank**0.5 if self.rslora else self.rank)
