"""What is read off an encoder's states: tokens behind masks, labels of tokens, labels of whole texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.model.layers import ACTIVATIONS, Linear
from luhuo.model.stack import stack_norm

if TYPE_CHECKING:
    from luhuo.model.config import Activation
    from luhuo.model.encoder_config import EncoderConfig


class Transform(nn.Module):
    """A dense layer, its activation, and a norm where the model has one."""

    def __init__(self, config: EncoderConfig, size: int, activation: Activation, *, norm: bool) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, size, bias=config.transform_bias)
        self.activation: Activation = activation
        self.norm = stack_norm(config, size) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = ACTIVATIONS[self.activation](self.dense(x))
        return x if self.norm is None else self.norm(x)


class MaskedTokens(nn.Module):
    """Logits (B, T, vocab) of the tokens, by the input embedding (Devlin et al. 2019, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.transform = Transform(config, config.width, config.token_activation, norm=True)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.head_bias else None

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(hidden.dtype)
        return F.linear(self.transform(hidden), embedding.to(hidden.dtype), bias)


class TokenLabels(nn.Module):
    """Logits (B, T, labels) of each token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        transform = config.token_transform or config.head == "detection"
        size, norm = config.hidden_size, config.token_transform
        self.transform = Transform(config, size, config.token_activation, norm=norm) if transform else None
        self.out = Linear(config.hidden_size, config.token_outputs, bias=True)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.out(hidden if self.transform is None else self.transform(hidden))


class TextLabels(nn.Module):
    """Logits (B, labels) of each row, which is one text; without labels the dense layer's output (B, hidden)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.transform = Transform(config, config.hidden_size, config.text_activation, norm=config.text_norm)
        self.out = Linear(config.hidden_size, config.text_outputs, bias=True) if config.text_outputs else None

    def forward(self, hidden: Tensor, segments: Tensor | None) -> Tensor:
        pooled = self.transform(pool(hidden, segments, self.pooling))
        return pooled if self.out is None else self.out(pooled)


def pool(hidden: Tensor, segments: Tensor | None, kind: str) -> Tensor:
    """One vector (B, C) for the states (B, T, C) of each row: the mean, first, max or last of its real tokens."""
    if segments is None:
        segments = torch.ones(hidden.shape[:2], dtype=torch.int32, device=hidden.device)
    real = segments != 0
    if kind == "mean":
        share = real.to(hidden.dtype)[..., None]
        return (hidden * share).sum(1) / share.sum(1).clamp(min=1)
    if kind == "max":
        return hidden.masked_fill(~real[..., None], -torch.inf).amax(1)
    index = torch.arange(hidden.shape[1], device=hidden.device)
    place = torch.where(real, index, -1 if kind == "last" else hidden.shape[1] - 1)
    place = place.amax(1).clamp(min=0) if kind == "last" else place.amin(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), place]
