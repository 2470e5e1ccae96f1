"""The shape of an encoder and its heads, as data."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from luhuo.core.config import Config, field
from luhuo.model.config import Activation
from luhuo.model.stack_config import StackConfig

Head = Literal[
    "none",
    "masked_lm",
    "pretraining",
    "relation",
    "classification",
    "token_classification",
    "question_answering",
    "detection",
]
"""masked_lm: the tokens behind the masks (Devlin et al. 2019, section 3.1); relation: do two texts belong together
(next sentence), or in this order (sentence order, Lan et al. 2020, section 3.1); pretraining: both; detection: which
tokens were replaced (ELECTRA, Clark et al. 2020)."""


class SentenceConfig(Config):
    """How a text's token states become one vector."""

    pooling: Literal["mean", "first", "max", "last"] = field(
        "mean", "Mean, first, largest or last of the token states.", "词元状态的均值、首个、最大值或末个。"
    )
    normalise: bool = field(False, "Vectors are scaled to length one.", "向量归一化为单位长度。")
    prompt: str = field("", "Put in front of every text.", "加在每段文本之前。")
    max_length: int | None = field(None, "Longer texts are cut, in tokens.", "文本的最大词元数，超出截断。", ge=1)


class EncoderConfig(StackConfig):
    """An encoder: a stack that looks both ways, its embeddings, and what is read off it."""

    family: str = field("bert", "The file in `families/` that reads and writes it.", "读写它的 families/ 文件名。")
    vocab_size: int = field(..., "Rows of the embedding.", "词表大小（嵌入的行数）。", ge=1)
    token_types: int = field(0, "Kinds of tokens (first or second text).", "词元类型数。", ge=0)
    stop_ids: tuple[int, ...] = field((), "Tokens that end a text.", "文本结束的词元。")
    pad_id: int | None = field(None, "The padding token.", "填充词元。")
    bos_id: int | None = field(None, "The token in front of every text, if any.", "文本开头的词元。")

    head: Head = field("none", "What is read off the states.", "输出头。")
    pooler: bool = field(
        False, "With head `none`: a dense layer over the first token's state.", "无输出头时，首词元之上有全连接层。"
    )
    labels: tuple[str, ...] = field((), "Names of the classes.", "类别名称。")
    pooling: Literal["first", "mean"] = field(
        "first", "What a head for whole texts reads: the first token, or the mean.", "整段文本的头所读的状态。"
    )
    text_activation: Activation = field("tanh", "Activation in a head for whole texts.", "整段文本的头的激活函数。")
    token_activation: Activation = field("gelu", "Activation in a head for tokens.", "词元的头的激活函数。")
    token_transform: bool = field(
        False, "Heads that label tokens have a dense layer in front.", "词元标注头之前有全连接层。"
    )
    transform_bias: bool = field(True, "The dense layer in a head has a bias.", "头内全连接层带偏置。")
    text_norm: bool = field(False, "Heads for labels normalise behind the dense layer.", "标注头的全连接层后归一化。")
    head_bias: bool = field(True, "A bias on the logits of the vocabulary.", "词表 logits 带偏置。")
    sentence: SentenceConfig | None = field(None, "How `embed` makes vectors.", "`embed` 生成向量的方式。")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.head in ("classification", "token_classification") and not self.labels:
            raise ValueError(f"head {self.head} needs labels")
        if self.pooler and self.head != "none":
            raise ValueError("pooler is for head none; other heads say by themselves what they need")
        return self

    @property
    def predicts_tokens(self) -> bool:
        """Whether there are logits over the vocabulary."""
        return self.head in ("masked_lm", "pretraining")

    @property
    def token_outputs(self) -> int:
        """Numbers that a head gives for each token, the vocabulary aside; 0: it has none."""
        return {"token_classification": len(self.labels), "question_answering": 2, "detection": 1}.get(self.head, 0)

    @property
    def text_outputs(self) -> int:
        """Numbers that a head gives for a whole text; 0: none."""
        return {"classification": len(self.labels), "pretraining": 2, "relation": 2}.get(self.head, 0)

    @property
    def tie_embeddings(self) -> bool:
        """The masked-token head always uses the input embedding: a copy of it in a file is not read."""
        return True
