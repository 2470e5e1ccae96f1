"""How much work a batch is: tokens, and floating-point operations, for each kind of model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from luhuo.model import count, count_stack
from luhuo.model.config import ModelConfig
from luhuo.model.encoder_config import EncoderConfig


def batch_work(config: Any, batch: dict[str, Tensor]) -> tuple[int, int]:
    """(tokens of the batch, operations per token of forward and backward); padding counts like any token.

    A decoder's row has one token more than it reads. Of an encoder and an encoder-decoder those that are read count.
    """
    rows, width = batch["ids"].shape
    if isinstance(config, ModelConfig):
        return rows * (width - 1), count.flops_per_token(config, width - 1)
    if isinstance(config, EncoderConfig):
        predicted = float(batch["mask"].float().mean()) if "mask" in batch else 1.0
        return rows * width, count_stack.flops_per_token(config, width, predicted=predicted)
    return rows * width, count_stack.flops_per_token(config, width, written=batch["decoder_ids"].shape[1])
