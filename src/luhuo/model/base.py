"""What a decoder, an encoder and an encoder-decoder have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.recompute import Recompute

if TYPE_CHECKING:
    from luhuo.tokenizer.tokenizer import Tokenizer


class LanguageModel(nn.Module):
    """A model of tokens. Parameters may be fp32 while it computes in bf16: see `compute_in`."""

    embedding: nn.Parameter
    """(vocab, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer: Tokenizer | None = None
        self._dtype: torch.dtype | None = None
        self.recompute: Recompute = "none"
        """What a training pass computes again in its backward pass instead of keeping it."""
        self.in_blocks = False
        """Whether a decoder's training pass over packed rows goes through flex attention (`flex`)."""
        self.part_rates: dict[str, float] = {}
        """Learning rates of parts of the model relative to that of the run, by prefix of their parameters' names."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and logits."""
        return self._dtype or self.embedding.dtype

    @property
    def recomputed(self) -> Recompute:
        """`recompute` in training mode; otherwise nothing has to be kept."""
        return self.recompute if self.training else "none"

    def compute_in(self, dtype: torch.dtype | None) -> Self:
        """Use this dtype for activations and products, whatever the parameters are kept in; None: the parameters'."""
        self._dtype = dtype
        return self

    def update_balance(self, speed: float) -> None:
        """Correct the routing of experts after an optimiser step; a model without them has nothing to correct."""

    def expert_load(self) -> Tensor | None:
        """Share of the work each expert got; None where there are no experts."""
        return None

    def check_ids(self, largest: int) -> None:
        """Raise `LuhuoError` if token id `largest` is not in the vocabulary (a tokenizer of another model)."""
        vocab: int = cast(Any, self).config.vocab_size  # each kind of model has a config of its own
        if largest >= vocab:
            raise LuhuoError(
                tr("A token id lies outside the model's vocabulary.", "词元编号超出模型词表。"),
                expected=f"< {vocab}",
                found=largest,
                fix=tr("Use the tokenizer this model was made with.", "请使用与该模型配套的分词器。"),
            )
