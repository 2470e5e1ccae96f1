"""Normalisations of the residual stream, of heads and of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.model.fused import rms_norm

if TYPE_CHECKING:
    from luhuo.model.config import ModelConfig


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight (Zhang and Sennrich 2019); `plus_one`: the stored weight is one less."""

    def __init__(self, *size: int, eps: float, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size) if plus_one else torch.ones(size))
        self.eps, self.plus_one = eps, plus_one

    @property
    def factor(self) -> Tensor:
        """What the normalised features are multiplied by."""
        return 1 + self.weight if self.plus_one else self.weight

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.factor, self.eps)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) · weight + bias (Ba et al. 2016), the last two where the model has them."""

    def __init__(self, *size: int, eps: float, bias: bool, affine: bool = True, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size) if plus_one else torch.ones(size)) if affine else None
        self.bias = nn.Parameter(torch.zeros(size)) if bias and affine else None
        self.eps, self.plus_one = eps, plus_one

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        if self.weight is not None:
            x = x * (1 + self.weight if self.plus_one else self.weight).to(x.dtype)
        return x if self.bias is None else x + self.bias.to(x.dtype)


def make_norm(config: ModelConfig, *size: int, bias: bool = True) -> RMSNorm | LayerNorm:
    """The norm a decoder uses, over the last of `size` features (further sizes: a weight for each head).

    `bias`: it has one if the decoder's norms do.
    """
    if config.norm == "rms":
        return RMSNorm(*size, eps=config.norm_eps, plus_one=config.norm_plus_one)
    return LayerNorm(
        *size,
        eps=config.norm_eps,
        bias=bias and config.norm_bias,
        affine=config.norm_affine,
        plus_one=config.norm_plus_one,
    )
