"""The shape of a decoder, as data. Every published decoder family is a set of values for these fields."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, field

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "tanh"]


class RopeConfig(Config):
    """Rotary positions (Su et al. 2021) and the ways to stretch them to longer contexts."""

    theta: float = field(10_000.0, "Base of the rotary frequencies.", "旋转位置编码的基数。", gt=0)
    dim: int | None = field(
        None, "Rotated features of a head; all by default.", "每个头中旋转的维数，默认全部。", ge=2
    )
    interleaved: bool = field(False, "Pairs are neighbours (0, 1) instead of halves.", "成对的是相邻维而不是前后半。")
    axes: Literal[1, 2] = field(
        1,
        "2: half of the pairs turn by the place in the prompt, half by that in the answer.",
        "2：前半按提示位置、后半按回答位置旋转。",
    )
    kind: Literal["plain", "linear", "dynamic", "doubling", "yarn", "llama3", "longrope"] = field(
        "plain", "How frequencies are stretched.", "频率的拉伸方式。"
    )
    factor: float = field(1.0, "How many times longer the context becomes.", "上下文拉长的倍数。", gt=0)
    original_positions: int | None = field(None, "Context before stretching.", "拉伸前的上下文长度。", ge=1)
    low_factor: float = field(1.0, "llama3: below it frequencies are divided by `factor`.", "llama3：低频界。")
    high_factor: float = field(4.0, "llama3: above it frequencies stay.", "llama3：高频界。")
    beta_fast: float = field(
        32.0, "yarn: turns over the context above which frequencies stay.", "yarn：高频界（圈数）。"
    )
    beta_slow: float = field(1.0, "yarn: turns below which they are divided by `factor`.", "yarn：低频界（圈数）。")
    truncate: bool = field(True, "yarn: round the borders between both to whole features.", "yarn：边界取整。")
    attention_factor: float | None = field(
        None, "yarn, longrope: scale of cosines and sines; computed by default.", "yarn、longrope：余弦正弦的缩放。"
    )
    mscale: float = field(0.0, "yarn as in DeepSeek: numerator of the scale.", "DeepSeek 的 yarn：缩放分子。")
    mscale_all_dim: float = field(
        0.0, "yarn as in DeepSeek: denominator; scales logits.", "DeepSeek 的 yarn：缩放分母。"
    )
    short_factors: tuple[float, ...] = field(
        (), "longrope: divisors up to the original context.", "longrope：短除数。"
    )
    long_factors: tuple[float, ...] = field((), "longrope: divisors beyond it.", "longrope：长除数。")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.axes == 2 and (self.kind != "plain" or self.interleaved):
            raise ValueError("two axes go with plain rotary positions in halves only")
        if self.kind == "longrope" and (not self.short_factors or len(self.short_factors) != len(self.long_factors)):
            raise ValueError("longrope needs short_factors and long_factors, as many of each")
        return self

    @property
    def by_length(self) -> bool:
        """Whether the frequencies depend on the length of the document."""
        return self.kind in ("dynamic", "doubling", "longrope")

    @property
    def by_border(self) -> bool:
        """Whether they change at certain lengths only, so that a row that grows beyond one is read again."""
        return self.kind in ("doubling", "longrope")


class MLAConfig(Config):
    """Multi-head latent attention (DeepSeek-V2 2024, section 2.1): keys and values from one small latent vector."""

    q_rank: int | None = field(None, "Size of the query's latent; None: one full matrix.", "查询潜变量的维数。", ge=1)
    kv_rank: int = field(
        ..., "Size of the latent of keys and values, which is cached.", "键值潜变量的维数（被缓存）。", ge=1
    )
    nope_dim: int = field(..., "Features of a head without position.", "每个头不带位置的维数。", ge=1)
    rope_dim: int = field(
        ..., "Features of a head with rotary position, shared by all heads' keys.", "带位置的维数。", ge=2
    )
    value_dim: int = field(..., "Features of a head's value.", "每个头的值的维数。", ge=1)


class MoEConfig(Config):
    """Mixture of experts in place of the MLP, without dropped tokens."""

    experts: int = field(..., "Number of routed experts.", "路由专家数。", ge=1)
    active: int = field(..., "Experts each token is sent to.", "每个词元使用的专家数。", ge=1)
    intermediate_size: int = field(..., "Inner width of one expert.", "单个专家的内部宽度。", ge=1)
    shared_size: int = field(
        0, "Inner width of the expert that all tokens use; 0: none.", "共享专家的内部宽度。", ge=0
    )
    shared_gate: bool = field(False, "A sigmoid gate on the shared expert.", "共享专家带 sigmoid 门。")
    score: Literal["softmax", "sigmoid", "sparsemixer"] = field(
        "softmax", "Function of the router's logits.", "路由打分函数。"
    )
    jitter: float = field(
        0.0, "sparsemixer: experts further below the best than twice this do not count.", "sparsemixer：阈值。", ge=0
    )
    normalise: bool = field(True, "Weights of the chosen experts add up to one.", "所选专家的权重归一。")
    scale: float = field(1.0, "The weights are multiplied by this.", "权重的倍数。")
    correction: bool = field(
        False, "A bias that is used for choosing only, for balance without a loss.", "仅用于选择的偏置（无损均衡）。"
    )
    groups: int = field(1, "Experts are chosen within the best groups of this many.", "专家分组数。", ge=1)
    active_groups: int = field(1, "Groups a token may use.", "每个词元可用的组数。", ge=1)
    group_score: Literal["max", "top2"] = field("max", "A group's score: its best, or its best two.", "组的打分方式。")
    router_bias: bool = field(False, "A bias in the router.", "路由带偏置。")
    router_softcap: float = field(0.0, "Router logits are squashed into ± this.", "路由 logits 的软上限。", ge=0)
    expert_bias: bool = field(False, "Biases in the experts.", "专家带偏置。")
    limit: float = field(
        0.0,
        "gpt-oss: inputs of the activation are clamped to ± this, the linear part is shifted by 1.",
        "激活截断。",
        ge=0,
    )
    dense_layers: tuple[int, ...] = field((), "Layers with a plain MLP instead.", "使用普通前馈的层。")
    balance: float = field(0.0, "Weight of the auxiliary balancing loss.", "辅助均衡损失的权重。", ge=0)
    balance_over: Literal["batch", "sequence"] = field(
        "batch", "It is taken over all tokens (Switch, Mixtral) or in each sequence (DeepSeek).", "均衡损失的范围。"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.active > self.experts or self.experts % self.groups or self.active_groups > self.groups:
            raise ValueError("active must not exceed experts, groups must divide experts, active_groups fit groups")
        return self


class RecordConfig(Config):
    """Texts that are records, as CPM-Bee's: named entries, each name and value a segment of its own."""

    begin_id: int = field(..., "The token that begins a segment.", "分段的起始词元。", ge=0)
    answer_id: int = field(..., "The name of the entry that is generated.", "待生成条目的名称词元。", ge=0)
    buckets: int = field(..., "Rows of the table of biases for distances.", "距离偏置的行数。", ge=4)
    relations: int = field(..., "Rows for relations between segments.", "分段关系偏置的行数。", ge=19)
    longest: int = field(..., "Distances from here on share a row.", "此距离以上共用一行。", ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.longest <= self.buckets // 4:
            raise ValueError(f"longest ({self.longest}) must exceed a quarter of buckets ({self.buckets})")
        return self


class ModelConfig(Config):
    """A decoder. The defaults are Qwen3's: pre-norm, rotary positions, grouped queries with QK-norm, SwiGLU."""

    family: str = field("qwen3", "The file in `families/` that reads and writes it.", "读写它的 families/ 文件名。")
    vocab_size: int = field(..., "Rows of the embedding.", "词表大小（嵌入的行数）。", ge=1)
    hidden_size: int = field(..., "Width of the residual stream.", "残差流的宽度。", ge=1)
    layers: int = field(..., "Number of blocks.", "层数。", ge=1)
    heads: int = field(..., "Query heads.", "查询头数。", ge=1)
    kv_heads: int = field(..., "Key and value heads; divides `heads`.", "键值头数，须整除 heads。", ge=1)
    head_dim: int = field(..., "Size of one head.", "每个头的维度。", ge=1)
    intermediate_size: int = field(..., "Inner width of the MLP.", "前馈层的内部宽度。", ge=1)
    max_positions: int = field(2048, "Longest context, in tokens.", "最长上下文（词元数）。", ge=1)
    stop_ids: tuple[int, ...] = field((), "Tokens that end a generation.", "结束生成的词元。")
    pad_id: int | None = field(None, "The padding token.", "填充词元。")
    bos_id: int | None = field(None, "The token in front of every text, if any.", "文本开头的词元。")

    norm: Literal["rms", "layer"] = field("rms", "RMSNorm or LayerNorm.", "归一化：RMSNorm 或 LayerNorm。")
    norm_eps: float = field(1e-6, "Added to the mean square (or variance).", "加在均方（或方差）上的小量。", gt=0)
    norm_bias: bool = field(False, "LayerNorm has a bias.", "LayerNorm 带偏置。")
    norm_plus_one: bool = field(False, "The stored weight is one less than the factor.", "存储的权重比系数小 1。")
    norm_affine: bool = field(True, "Norms in the blocks have a weight.", "块内归一化带权重。")
    block: Literal["pre", "post", "output", "sandwich", "parallel", "parallel_two"] = field(
        "pre",
        "Where norms stand: pre x+f(n(x)), post n(x+f(x)), output x+n(f(x)), sandwich x+n(f(n(x))), "
        "parallel x+a(n(x))+m(n(x)), parallel_two x+a(n1(x))+m(n2(x)).",
        "归一化的位置与并行方式。",
    )
    carry_normed: bool = field(
        False, "The residual continues from the normalised input.", "残差从归一化后的输入继续。"
    )
    carry_scale: float = field(1.0, "Factor on the residual before a branch is added.", "加上分支前残差的倍数。")
    branch_scale: float = field(1.0, "Factor on what a branch adds.", "分支输出的倍数。")
    root_scaled: bool = field(
        False,
        "Products with the blocks' matrices are divided by the root of their inputs.",
        "块内矩阵乘积除以输入维数的平方根。",
    )
    no_attention: tuple[int, ...] = field((), "root_scaled: layers without attention.", "root_scaled：无注意力的层。")
    no_mlp: tuple[int, ...] = field(
        (), "root_scaled: layers without a feed-forward part.", "root_scaled：无前馈的层。"
    )
    embedding_size: int | None = field(
        None, "Width of the embedding if not the model's.", "嵌入宽度（若不同）。", ge=1
    )
    embedding_scale: float = field(1.0, "Factor on the embeddings.", "嵌入的倍数。")
    embedding_norm: bool = field(False, "The embeddings are normalised.", "嵌入后归一化。")
    final_norm: bool = field(True, "A norm in front of the head.", "输出头前归一化。")
    tie_embeddings: bool = field(True, "Input and output embedding are one.", "输入与输出嵌入共用。")
    head_bias: bool = field(False, "A bias on the logits.", "输出头带偏置。")
    head_normed: bool = field(False, "Rows of the head are scaled to length one.", "输出头的行归一化。")
    logit_scale: float = field(1.0, "Factor on the logits.", "logits 的倍数。")
    logit_softcap: float = field(0.0, "Logits are squashed into ± this.", "logits 的软上限。", ge=0)

    positions: Literal["rope", "learned", "sinusoidal", "none"] = field(
        "rope", "How positions enter; ALiBi is set by its slopes.", "位置编码方式；ALiBi 由斜率给出。"
    )
    position_offset: int = field(
        0, "Rows before position 0 in a learned or sinusoidal table.", "位置表中 0 之前的行数。", ge=0
    )
    rope: RopeConfig = field(RopeConfig(), "Rotary positions.", "旋转位置编码。")
    local_rope: RopeConfig | None = field(
        None, "Rotary positions of windowed layers, if different.", "窗口层的旋转位置。"
    )
    unrotated: tuple[int, ...] = field((), "Layers without positions.", "不带位置编码的层。")
    alibi_slopes: tuple[float, ...] = field((), "ALiBi: slope of each head.", "ALiBi：每个头的斜率。")
    windows: tuple[int, ...] = field(
        (), "Tokens visible per layer; 0 or empty: all.", "各层可见的词元数；0 或空为全部。"
    )

    query_block: bool = field(
        False, "In the last block learned vectors of the positions ask.", "最后一层以可学习的位置向量作查询。"
    )
    prefix_end: int | None = field(
        None, "The token that ends a prompt whose tokens all see one another.", "结束双向可见的提示部分的词元。"
    )
    record: RecordConfig | None = field(
        None,
        "Texts are records; biases by distance and relation, and the prompt sees itself.",
        "文本为记录：按距离与关系加偏置，提示双向可见。",
    )
    gap_ids: tuple[int, ...] = field(
        (),
        "Two axes: tokens in whose place the answer stands, the first present.",
        "回答所处位置的词元，取首个出现者。",
    )

    qkv_bias: bool = field(False, "Biases of query, key and value.", "查询、键、值带偏置。")
    out_bias: bool = field(False, "Bias of attention's output.", "注意力输出带偏置。")
    qk_norm: Literal["none", "head", "heads", "full"] = field(
        "head",
        "Norm of queries and keys: one weight for all heads, one for each head, or over all heads together.",
        "查询与键的归一化：各头共用权重、各头各自权重或跨头归一。",
    )
    qk_norm_bias: bool = field(
        True, "The norm of queries and keys has a bias if the other norms do.", "查询与键的归一化随其他归一化带偏置。"
    )
    qk_norm_after_rope: bool = field(False, "It stands behind the rotation.", "在旋转之后归一化。")
    qkv_clip: float = field(0.0, "Queries, keys and values are clamped to ± this.", "查询、键、值的截断。", ge=0)
    attention_scale: float | None = field(None, "Factor on scores; head_dim^-0.5 by default.", "注意力分数的倍数。")
    log_scale: int = field(
        0, "Queries at place n beyond it are multiplied by log(n) / log(it).", "超过此长度的查询按对数放大。", ge=0
    )
    attention_softcap: float = field(0.0, "Scores are squashed into ± this.", "注意力分数的软上限。", ge=0)
    attention_sinks: bool = field(False, "A learned score of “nothing” per head.", "每个头一个可学习的空分数。")
    mla: MLAConfig | None = field(None, "Multi-head latent attention.", "多头潜在注意力。")

    activation: Activation = field("silu", "Activation of the MLP.", "前馈层的激活函数。")
    gated: bool = field(True, "The MLP is gated.", "前馈层带门控。")
    mlp_bias: bool = field(False, "Biases of the MLP.", "前馈层带偏置。")
    linear_layers: tuple[int, ...] = field(
        (), "Layers with linear attention that decays (lightning attention).", "使用带衰减线性注意力的层。"
    )
    kv_share: int = field(
        1, "Layers that share the keys and values of the first of them.", "共用一组键值的层数（跨层注意力）。", ge=1
    )

    shared_layers: tuple[int, ...] = field(
        (), "For each layer the one whose weights it uses; empty: its own.", "每层使用哪一层的权重；空为各用其自身。"
    )

    moe: MoEConfig | None = field(None, "Mixture of experts.", "混合专家。")
    mtp_layers: int = field(0, "Multi-token prediction blocks.", "多词元预测层数。", ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.windows and len(self.windows) != self.layers:
            raise ValueError(f"windows has {len(self.windows)} entries for {self.layers} layers")
        shared = self.shared_layers
        if shared and (len(shared) != self.layers or any(s > i or shared[s] != s for i, s in enumerate(shared))):
            raise ValueError("shared_layers names for each layer itself or an earlier one that has weights of its own")
        if self.alibi_slopes and len(self.alibi_slopes) != self.heads:
            raise ValueError(f"alibi_slopes has {len(self.alibi_slopes)} entries for {self.heads} heads")
        if self.positions == "rope" and self.rope_dim % 2:
            raise ValueError(f"the rotated part of a head must be even, it is {self.rope_dim}")
        if self.rope.kind == "longrope" and 2 * len(self.rope.short_factors) != self.rope_dim:
            raise ValueError(f"longrope has {len(self.rope.short_factors)} factors for {self.rope_dim // 2} pairs")
        if self.rope.axes == 2 and self.prefix_end is None:
            raise ValueError("two rotary axes need prefix_end: the second counts from there")
        if self.local_rope is not None and (self.rope.axes == 2 or self.local_rope.axes == 2):
            raise ValueError("two rotary axes do not go with a rope of their own for windowed layers")
        if self.query_block and (self.block != "pre" or self.mla is not None or self.final_norm):
            raise ValueError("query_block needs block: pre and final_norm: false (it has its own), and no mla")
        if self.mla is not None and self.prefix_end is not None:
            raise ValueError("prefix_end does not go with multi-head latent attention")
        if self.rope_dim > self.head_dim:
            raise ValueError(f"rope.dim ({self.rope_dim}) is larger than head_dim ({self.head_dim})")
        if self.mla and self.head_dim != self.mla.nope_dim + self.mla.rope_dim:
            raise ValueError(f"with mla, head_dim is nope_dim + rope_dim, not {self.head_dim}")
        if self.kv_share > 1 and (self.mla or self.linear_layers or not self.qk_norm_after_rope or self.mtp_layers):
            raise ValueError("kv_share needs qk_norm_after_rope, and no mla, linear_layers or mtp_layers")
        if self.linear_layers and (self.mla or self.prefix_end is not None):
            raise ValueError("linear_layers do not go with mla or prefix_end")
        whole = self.mla is None and not self.windows and not self.alibi_slopes and not self.linear_layers
        if self.record and (self.positions != "none" or self.prefix_end is not None or not whole or self.mtp_layers):
            raise ValueError("record needs positions: none, and no prefix_end, mla, windows, ALiBi or linear_layers")
        if self.root_scaled and (
            self.block != "pre" or self.moe or self.carry_normed or self.query_block or not whole
        ):
            raise ValueError("root_scaled goes with plain pre-norm blocks only")
        if (self.no_attention or self.no_mlp) and not self.root_scaled:
            raise ValueError("no_attention and no_mlp need root_scaled")
        if self.moe and not self.gated:
            raise ValueError("experts are gated MLPs; gated: false does not go with moe")
        return self

    @property
    def rope_dim(self) -> int:
        """Rotated features of a head."""
        return self.mla.rope_dim if self.mla else self.rope.dim or self.head_dim

    @property
    def value_dim(self) -> int:
        """Features of a head's value."""
        return self.mla.value_dim if self.mla else self.head_dim

    @property
    def qkv_rows(self) -> tuple[int, int, int]:
        """Rows of the query, key and value projections inside the fused one."""
        return self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim

    @property
    def cache_widths(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(heads, features) that one layer caches of a token: of its keys, and of its values.

        With MLA it is the latent and the shared rotary key, once for all heads, and nothing for the values.
        """
        if self.mla:
            return (1, self.mla.kv_rank + self.mla.rope_dim), (1, 0)
        return (self.kv_heads, self.head_dim), (self.kv_heads, self.head_dim)

    @property
    def layer_widths(self) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
        """The `cache_widths` of each layer; none without attention or where another layer's keys are used."""
        full = (self.heads, self.head_dim), (self.heads, self.head_dim)
        of = (self.cache_widths, full, ((self.kv_heads, 0), (self.kv_heads, 0)))
        idle = [self.kv_source(layer) != layer or layer in self.no_attention for layer in range(self.layers)]
        kinds = ((layer in self.linear_layers) + 2 * idle[layer] for layer in range(self.layers))
        return tuple(of[kind] for kind in kinds)

    def kv_source(self, layer: int) -> int:
        """The layer whose keys and values a layer uses."""
        return layer - layer % self.kv_share

    @property
    def reads_back(self) -> bool:
        """Whether a later token can change what earlier ones are to each other; then a cache keeps their ids."""
        return self.prefix_end is not None or self.record is not None or self.rope.by_border

    def window(self, layer: int) -> int:
        """Tokens a layer sees, its own included; 0: all before it."""
        return self.windows[layer] if self.windows else 0

    def sparse(self, layer: int) -> bool:
        """Whether a layer has experts instead of a plain MLP."""
        return self.moe is not None and layer not in self.moe.dense_layers
