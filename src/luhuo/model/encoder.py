"""The encoder: token ids to states, and what its head reads off them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.base import LanguageModel
from luhuo.model.encoder_config import EncoderConfig, SentenceConfig
from luhuo.model.encoder_heads import MaskedTokens, TextLabels, TokenLabels, pool
from luhuo.model.stack import Stack

if TYPE_CHECKING:
    from luhuo.tokenizer.tokenizer import Tokenizer


class Encoder(LanguageModel):
    """A model that looks both ways. Parameters may be fp32 while it computes in bf16: see `compute_in`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.width))
        types = config.token_types
        self.types = nn.Parameter(torch.empty(types, config.width)) if types else None
        self.stack = Stack(config)
        self.masked_tokens = MaskedTokens(config) if config.predicts_tokens else None
        self.token_labels = TokenLabels(config) if config.token_outputs else None
        self.text_labels = TextLabels(config) if config.text_outputs or config.pooler else None

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """What the head gives for `ids` (batch, time) int64; the arguments are those of `hidden`.

        masked_lm, pretraining: (batch, time, vocab); token_classification, question_answering (start, end),
        detection: (batch, time, labels); classification, relation: (batch, labels); none: the states.
        """
        hidden = self.hidden(ids, segments=segments, positions=positions, types=types)
        if self.masked_tokens is not None or self.token_labels is not None:
            return self.head(hidden)
        return self.text(hidden, segments) if self.config.text_outputs else hidden

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Tensor:
        """The last states (batch, time, hidden).

        `segments` (batch, time): 0 is padding, equal numbers are one document; attention never crosses documents and
        positions restart in each. `types` (batch, time): 0 for tokens of a first text, 1 for those of a second (all 0
        by default). `positions` (batch, time) overrides the positions.
        """
        x = F.embedding(ids, self.embedding).to(self.dtype)
        if self.types is not None:
            added = self.types[0] if types is None else F.embedding(types, self.types)
            x = x + added.to(x.dtype)
        return self.stack(x, segments=segments, positions=positions, recompute=self.recomputed)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of each token (…, time, vocab or labels) for states (…, time, hidden)."""
        if self.masked_tokens is not None:
            return self.masked_tokens(hidden, self.embedding)
        if self.token_labels is None:
            raise _no_head(self.config.head, tr("for tokens", "词元级"))
        return self.token_labels(hidden)

    def text(self, hidden: Tensor, segments: Tensor | None = None) -> Tensor:
        """Logits (batch, labels) of whole texts, one a row, for states (batch, time, hidden).

        With head `pretraining` these are those of the relation of two texts; with `none` and a pooler its output.
        """
        if self.text_labels is None:
            raise _no_head(self.config.head, tr("for whole texts", "整段文本级"))
        return self.text_labels(hidden, segments)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], *, batch: int = 32) -> Tensor:
        """Vectors (texts, hidden) fp32 on the CPU, made as `config.sentence` says (the mean of all tokens' states by
        default); `batch` texts of similar length at a time. Raises `LuhuoError` without a tokenizer."""
        if self.tokenizer is None:
            raise LuhuoError(
                tr("This model has no tokenizer.", "该模型没有分词器。"),
                fix=tr("Put its tokenizer files beside config.json.", "请把分词器文件放在 config.json 旁。"),
            )
        if isinstance(texts, str):
            raise LuhuoError(
                tr("embed takes a list of texts.", "embed 接受文本列表。"), expected='["…"]', found=repr(texts[:40])
            )
        sentence = self.config.sentence or SentenceConfig()
        limit = min(sentence.max_length or self.config.max_positions, self.config.max_positions)
        rows = [cut(self.tokenizer, sentence.prompt + text, limit) for text in texts]
        found = torch.empty(len(rows), self.config.hidden_size)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            ids = [torch.tensor(rows[i]) for i in members]
            ids = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.config.pad_id or 0)
            segments = torch.tensor([[1] * len(rows[i]) + [0] * (ids.shape[1] - len(rows[i])) for i in members])
            ids, segments = ids.to(self.device), segments.to(self.device)
            vectors = pool(self.hidden(ids, segments=segments), segments, sentence.pooling).float()
            found[members] = (F.normalize(vectors) if sentence.normalise else vectors).cpu()
        return found


def cut(tokenizer: Tokenizer, text: str, limit: int) -> list[int]:
    """Ids of a text as the model expects it ([CLS] … [SEP]), at most `limit`: the text is cut, not its frame."""
    framed = tokenizer.encode(text, framed=True)
    if len(framed) <= limit:
        return framed
    inner = tokenizer.encode(text)
    before = next(i for i in range(len(framed)) if framed[i : i + len(inner)] == inner)
    after = framed[before + len(inner) :]
    return [*framed[:before], *inner[: max(limit - before - len(after), 0)], *after]


def _no_head(head: str, kind: str) -> LuhuoError:
    return LuhuoError(tr("This encoder has no such head.", "该编码器没有这种输出头。"), expected=kind, found=head)
