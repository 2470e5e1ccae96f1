"""The stage `quantize`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from luhuo.compress.calibrated_stage import CalibratedStage
from luhuo.core.artifact import Workspace
from luhuo.core.config import field
from luhuo.core.language import tr

Method = Literal["rtn", "gptq", "awq", "awq_gptq", "w8a8", "smoothquant", "llm_int8", "fp8"]
NEEDS_DATA = ("gptq", "awq", "awq_gptq", "smoothquant")
EIGHT_BITS = ("w8a8", "smoothquant", "llm_int8", "fp8")
"""Methods that have no other number of bits."""


class QuantizeStage(CalibratedStage):
    """Keep the matrices of a decoder in few bits, block by block: a model directory in the layout of
    compressed-tensors, which our engine, transformers and vLLM load."""

    resumable: ClassVar[bool] = True

    method: Method = field("gptq", "How matrices are rounded.", "量化方法。")
    bits: Literal[8, 4, 3, 2] = field(4, "Bits of a weight.", "每个权重的位数。")
    group: int | Literal["auto", "row"] = field(
        "auto",
        "Columns under one scale; auto: 128, 64 or 32, whichever divides all matrices; row: whole rows.",
        "共用一个缩放的列数；auto 取 128、64、32 中能整除所有矩阵者；row 为整行。",
    )
    symmetric: bool = field(True, "Whether zero is in the middle of the grid.", "零点是否居中。")
    search: bool = field(
        True,
        "Whether a group's range is searched for the least squared error; otherwise smallest to largest.",
        "是否搜索使平方误差最小的范围；否则取最小到最大。",
    )
    order: Literal["given", "static", "activation"] = field(
        "static",
        "gptq: columns are rounded as they stand, by the size of their inputs with groups of neighbours, or with "
        "groups by that size (act-order).",
        "gptq：按原列序；按输入大小排序而分组不变；或分组也按此排序（act-order）。",
    )
    damping: float = field(
        0.01,
        "gptq: share of the mean diagonal added to the second moment; raised by itself where that is needed.",
        "gptq：加到二阶矩上的平均对角线比例；需要时自动加大。",
        gt=0,
        le=1,
    )
    average_bits: float | None = field(
        None,
        "Mixed bits: each matrix has its own, such that all together take what this many would.",
        "混合位数：各矩阵位数不同，总大小与统一使用此位数时相同。",
        ge=2,
        le=16,
    )
    megabytes: float | None = field(
        None,
        "Mixed bits: the largest size of the model's files, in millions of bytes.",
        "混合位数：模型文件的最大大小（百万字节）。",
        gt=0,
    )
    choices: list[Literal[2, 3, 4, 8, 16]] = field(
        [2, 3, 4, 8], "Mixed bits: what a matrix may have; 16: as it is.", "混合位数：可选位数；16 为不取整。"
    )
    embedding_bits: Literal[4, 8, 16] = field(
        16,
        "Bits of the embedding, which is the output matrix too in many models; 16: as it is.",
        "嵌入的位数（许多模型中它也是输出矩阵）；16 为不取整。",
    )
    head_bits: Literal[4, 8, 16] = field(
        16, "Bits of an output matrix of its own; 16: as it is.", "独立输出矩阵的位数；16 为不取整。"
    )
    activations: Literal["none", "token", "tensor"] = field(
        "token",
        "w8a8, smoothquant, fp8: what a matrix multiplies is rounded with a scale for each token, or (w8a8, "
        "smoothquant) with one from the calibration text; fp8 also leaves it as it is.",
        "w8a8、smoothquant、fp8：矩阵输入的取整：按词元各自缩放，或（前二者）用校准所得的统一缩放；fp8 亦可不取整。",
    )
    smoothing: float | None = field(
        None,
        "smoothquant: α for the inputs behind norms (the paper takes 0.5); by default each input has the best of 20.",
        "smoothquant：归一化之后各输入的 α（论文取 0.5）；默认为每处输入在 20 个值中选最优。",
        ge=0,
        le=1,
    )
    percentile: float = field(
        100.0,
        "activations=tensor: share of the inputs, in percent, that the scale covers; the rest is cut off.",
        "activations=tensor：缩放所覆盖的输入百分比，其余截断。",
        gt=50,
        le=100,
    )
    threshold: float = field(
        6.0,
        "llm_int8: columns of the inputs with a larger magnitude are multiplied unrounded.",
        "llm_int8：输入中幅值更大的列不取整相乘。",
        gt=0,
    )

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.method in NEEDS_DATA and self.data is None:
            raise ValueError(
                tr(f"{self.method} needs calibration text: data=…", f"{self.method} 需要校准文本：data=…")
            )
        if self.method in EIGHT_BITS and "bits" in self.model_fields_set and self.bits != 8:
            raise ValueError(tr(f"{self.method} has 8 bits", f"{self.method} 固定为 8 位"))
        if self.mixed and (self.method in EIGHT_BITS or self.data is None or "bits" in self.model_fields_set):
            raise ValueError(
                tr(
                    "average_bits and megabytes go with rtn, gptq, awq or awq_gptq, with data=…, and without bits",
                    "average_bits 与 megabytes 须配合 rtn、gptq、awq 或 awq_gptq 及 data=…，且不设 bits",
                )
            )
        if self.average_bits is not None and self.megabytes is not None:
            raise ValueError(tr("average_bits or megabytes, not both", "average_bits 与 megabytes 只能设一个"))
        if self.activations == "tensor" and (self.method == "fp8" or self.data is None):
            raise ValueError(
                tr(
                    "activations=tensor is for w8a8 and smoothquant, with calibration text",
                    "activations=tensor 用于 w8a8 与 smoothquant，且需要校准文本",
                )
            )
        if self.activations == "none" and self.method in ("w8a8", "smoothquant"):
            raise ValueError(
                tr(f"{self.method} rounds inputs: token or tensor", f"{self.method} 须对输入取整：token 或 tensor")
            )
        if isinstance(self.group, int) and (self.group < 8 or self.group % 8):
            raise ValueError(tr("group: a multiple of 8, auto or row", "group：8 的倍数、auto 或 row"))
        return self

    @property
    def mixed(self) -> bool:
        """Whether matrices have bits of their own."""
        return self.average_bits is not None or self.megabytes is not None

    def disk_bytes(self) -> int:
        """The parts and the directory: together less than the original in bf16, twice."""
        from luhuo.compress.sizes import directory_bytes

        return 2 * directory_bytes(self.model) + 50_000_000

    def run(self, out: Workspace) -> None:
        """Round, continuing what lies there, and write the model directory."""
        from luhuo.compress.quantise import quantise
        from luhuo.core.device import use_threads

        use_threads(self.threads)
        quantise(self, out)
