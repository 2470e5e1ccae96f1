"""The shape of a decoder, as data."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from luhuo.core.config import Config, field


class ModelConfig(Config):
    """A Qwen3-style decoder: pre-norm, rotary positions, grouped-query attention with QK-norm, SwiGLU."""

    vocab_size: int = field(..., "Rows of the embedding.", "词表大小（嵌入的行数）。", ge=1)
    hidden_size: int = field(..., "Width of the residual stream.", "残差流的宽度。", ge=1)
    layers: int = field(..., "Number of blocks.", "层数。", ge=1)
    heads: int = field(..., "Query heads.", "查询头数。", ge=1)
    kv_heads: int = field(..., "Key and value heads; divides `heads`.", "键值头数，须整除 heads。", ge=1)
    head_dim: int = field(..., "Size of one head; even.", "每个头的维度，须为偶数。", ge=2, multiple_of=2)
    intermediate_size: int = field(..., "Inner width of the gated MLP.", "门控前馈层的内部宽度。", ge=1)
    rope_theta: float = field(10_000.0, "Base of the rotary frequencies.", "旋转位置编码的基数。", gt=0)
    norm_eps: float = field(1e-6, "Added to the mean square in RMSNorm.", "RMSNorm 中加在均方上的小量。", gt=0)
    tie_embeddings: bool = field(True, "Input and output embedding are one.", "输入与输出嵌入共用。")
    max_positions: int = field(2048, "Longest context, in tokens.", "最长上下文（词元数）。", ge=1)
    stop_ids: tuple[int, ...] = field((), "Tokens that end a generation.", "结束生成的词元。")
    pad_id: int | None = field(None, "The padding token.", "填充词元。")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self

    @property
    def qkv_rows(self) -> tuple[int, int, int]:
        """Rows of the query, key and value projections inside the fused one."""
        return self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim

    def parameters(self) -> dict[str, int]:
        """Number of parameters by part; the values add up to the model's total."""
        inner, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "embedding": self.vocab_size * self.hidden_size,
            "attention": self.layers * self.hidden_size * (2 * inner + 2 * kv),
            "mlp": self.layers * self.hidden_size * self.intermediate_size * 3,
            "norms": self.layers * (2 * self.hidden_size + 2 * self.head_dim) + self.hidden_size,
            "head": 0 if self.tie_embeddings else self.vocab_size * self.hidden_size,
        }

    def flops_per_token(self, length: int) -> int:
        """Floating-point operations of forward and backward for one token of a causal sequence of `length` tokens.

        Six per matrix parameter (the output embedding included, the lookup not) and 12 · layers · heads · head_dim
        per visible key, of which there are length / 2 on average (Kaplan et al. 2020, appendix B).
        """
        parts = self.parameters()
        matrices = parts["attention"] + parts["mlp"] + self.vocab_size * self.hidden_size
        return 6 * matrices + 6 * self.layers * self.heads * self.head_dim * length
