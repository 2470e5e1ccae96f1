"""The shape of an encoder-decoder, as data."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.model.stack_config import StackConfig


class EncoderDecoderConfig(Config):
    """Two stacks: one reads a text both ways, the other writes and looks at what was read."""

    family: str = field("t5", "The file in `families/` that reads and writes it.", "读写它的 families/ 文件名。")
    vocab_size: int = field(..., "Rows of the embedding, which both stacks share.", "词表大小（两侧共用嵌入）。", ge=1)
    encoder: StackConfig = field(..., "The stack that reads.", "编码器。")
    decoder: StackConfig = field(..., "The stack that writes.", "解码器。")
    stop_ids: tuple[int, ...] = field((), "Tokens that end a generation.", "结束生成的词元。")
    pad_id: int | None = field(None, "The padding token.", "填充词元。")
    bos_id: int | None = field(None, "The token in front of every text, if any.", "文本开头的词元。")
    start_id: int | None = field(None, "The token that the decoder starts from.", "解码器的起始词元。")
    forced_first_id: int | None = field(None, "The first token that is generated.", "强制生成的首个词元。")
    forced_last_id: int | None = field(
        None, "The token generated where the length limit is reached.", "到达长度上限时强制生成的词元。"
    )
    embedding_scale: float = field(1.0, "Factor on the embeddings.", "嵌入的倍数。")
    tie_embeddings: bool = field(True, "Input and output embedding are one.", "输入与输出嵌入共用。")
    head_bias: bool = field(False, "A bias on the logits.", "输出头带偏置。")
    logit_scale: float = field(1.0, "Factor on the states in front of the head.", "输出头之前的倍数。")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder.hidden_size != self.decoder.hidden_size or self.encoder.width != self.decoder.width:
            raise ValueError("encoder and decoder must have the same hidden_size and embedding_size")
        if (
            self.decoder.groups
            or self.decoder.disentangled
            or self.decoder.windows
            or self.decoder.positions == "rope"
        ):
            raise ValueError("a decoder stack has layers of its own and learned, bucketed or no positions")
        return self
