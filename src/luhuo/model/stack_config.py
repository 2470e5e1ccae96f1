"""The shape of a stack of blocks, as data: what encoders, and the two halves of encoder-decoders, are made of."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.model.config import Activation, RopeConfig


class DisentangledConfig(Config):
    """Disentangled attention (He et al. 2021, "DeBERTa", section 3.1): content and distance are scored apart."""

    span: int = field(..., "Distances (or buckets) on each side.", "每侧的距离数（或桶数）。", ge=1)
    buckets: int = field(
        0, "Buckets on each side, the far ones logarithmic; 0: every distance has its own.", "每侧的对数桶数。", ge=0
    )
    longest: int = field(512, "Distance of the last bucket.", "最后一个桶的距离。", ge=1)
    content_to_position: bool = field(True, "A token's query looks for distances.", "内容查询位置。")
    position_to_content: bool = field(True, "A distance's query looks for tokens.", "位置查询内容。")
    shared: bool = field(True, "Distances are projected by the tokens' own matrices.", "距离与内容共用投影矩阵。")
    norm: bool = field(True, "The embeddings of distances are normalised.", "距离嵌入后归一化。")
    kernel: int = field(
        0, "Width of a convolution beside the first block; 0: none.", "首层旁卷积的宽度，0 为没有。", ge=0
    )
    kernel_activation: Activation = field("tanh", "Activation of the convolution.", "卷积的激活函数。")

    @property
    def terms(self) -> int:
        """Scores that are added up: content with content, and the two others where they are there."""
        return 1 + self.content_to_position + self.position_to_content

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kernel and self.kernel % 2 == 0:
            raise ValueError(f"kernel ({self.kernel}) must be odd")
        if self.buckets and self.buckets != self.span:
            raise ValueError(f"span ({self.span}) must be the number of buckets ({self.buckets})")
        if self.buckets and not 1 <= self.buckets // 2 < self.longest - 1:
            raise ValueError(f"{self.buckets} buckets do not fit distances up to {self.longest}")
        return self


class StackConfig(Config):
    """A stack of blocks. The defaults are BERT's: norms behind each branch, learned positions, plain GELU MLP."""

    hidden_size: int = field(..., "Width of the residual stream.", "残差流的宽度。", ge=1)
    layers: int = field(..., "Number of blocks a token passes through.", "词元经过的层数。", ge=1)
    heads: int = field(..., "Attention heads.", "注意力头数。", ge=1)
    head_dim: int = field(..., "Size of one head.", "每个头的维度。", ge=1)
    intermediate_size: int = field(..., "Inner width of the MLP.", "前馈层的内部宽度。", ge=1)
    max_positions: int = field(512, "Longest input, in tokens.", "最长输入（词元数）。", ge=1)

    norm: Literal["rms", "layer"] = field("layer", "RMSNorm or LayerNorm.", "归一化：RMSNorm 或 LayerNorm。")
    norm_eps: float = field(1e-12, "Added to the variance (or mean square).", "加在方差（或均方）上的小量。", gt=0)
    norm_bias: bool = field(True, "LayerNorm has a bias.", "LayerNorm 带偏置。")
    block: Literal["pre", "post"] = field(
        "post", "Where norms stand: pre x+f(n(x)), post n(x+f(x)).", "归一化的位置：前或后。"
    )
    first_norm: bool = field(True, "The first block normalises in front of its attention.", "首层注意力前有归一化。")
    embedding_norm: bool = field(True, "The embeddings are normalised.", "嵌入后归一化。")
    final_norm: bool = field(False, "A norm behind the last block.", "末层之后归一化。")
    embedding_size: int | None = field(
        None, "Width of the embeddings if not the blocks'.", "嵌入宽度（若与各层不同）。", ge=1
    )
    groups: int = field(
        0, "Layers share the weights of this many groups (ALBERT); 0: each has its own.", "共享权重的组数。", ge=0
    )
    group_blocks: int = field(1, "Blocks in a group, all passed by every layer of it.", "每组的块数。", ge=1)

    positions: Literal["learned", "rope", "buckets", "none"] = field(
        "learned", "How positions enter: a table, rotation, or T5's biases by distance.", "位置编码方式。"
    )
    position_offset: int = field(
        0, "Rows before position 0 in a learned table.", "可学习位置表中 0 之前的行数。", ge=0
    )
    rope: RopeConfig = field(RopeConfig(), "Rotary positions.", "旋转位置编码。")
    local_rope: RopeConfig | None = field(
        None, "Rotary positions of windowed layers, if different.", "窗口层的旋转位置。"
    )
    windows: tuple[int, ...] = field(
        (), "Tokens visible on each side per layer; 0 or empty: all.", "各层每侧可见的词元数；0 或空为全部。"
    )
    buckets: int = field(32, "Buckets of distances (T5).", "距离的桶数（T5）。", ge=4)
    bucket_distance: int = field(128, "Distance from which on the last bucket holds.", "最后一个桶的起始距离。", ge=1)
    disentangled: DisentangledConfig | None = field(None, "Disentangled attention.", "解耦注意力。")

    qkv_bias: bool = field(True, "Biases of query, key and value.", "查询、键、值带偏置。")
    out_bias: bool = field(True, "Bias of attention's output.", "注意力输出带偏置。")
    attention_scale: float | None = field(None, "Factor on scores; head_dim^-0.5 by default.", "注意力分数的倍数。")
    activation: Activation = field("gelu", "Activation of the MLP.", "前馈层的激活函数。")
    gated: bool = field(False, "The MLP is gated.", "前馈层带门控。")
    mlp_bias: bool = field(True, "Biases of the MLP.", "前馈层带偏置。")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.windows and len(self.windows) != self.layers:
            raise ValueError(f"windows has {len(self.windows)} entries for {self.layers} layers")
        if self.groups > self.layers:
            raise ValueError(f"groups ({self.groups}) are more than layers ({self.layers})")
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim must be even with rotary positions, it is {self.head_dim}")
        if self.positions == "buckets" and self.buckets // 2 >= self.bucket_distance:
            raise ValueError(f"{self.buckets} buckets do not fit distances up to {self.bucket_distance}")
        if self.windows and self.groups:
            raise ValueError("layers that share weights cannot have windows of their own")
        return self

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        return self.embedding_size or self.hidden_size

    @property
    def order(self) -> tuple[int, ...]:
        """For each block that a token passes through, whose weights it uses."""
        if not self.groups:
            return tuple(range(self.layers))
        firsts = [layer * self.groups // self.layers * self.group_blocks for layer in range(self.layers)]
        return tuple(first + block for first in firsts for block in range(self.group_blocks))

    @property
    def blocks(self) -> int:
        """Blocks with weights of their own."""
        return self.groups * self.group_blocks if self.groups else self.layers

    @property
    def cache_widths(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(heads, features) that one layer of a decoder caches of a token: of its keys, and of its values."""
        return (self.heads, self.head_dim), (self.heads, self.head_dim)

    @property
    def layer_widths(self) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
        """The `cache_widths` of each layer."""
        return (self.cache_widths,) * self.layers

    @property
    def reads_back(self) -> bool:
        """Whether a cache has to keep the tokens themselves, as for some decoders."""
        return False

    def window(self, layer: int) -> int:
        """Tokens a layer sees on each side; 0: all."""
        return self.windows[layer] if self.windows else 0
