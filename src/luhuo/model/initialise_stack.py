"""Initialisation of encoders and encoder-decoders: every parameter from a seed."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from luhuo.model.encoder import Encoder
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.norms import LayerNorm, RMSNorm
from luhuo.model.stack import Stack

Model = TypeVar("Model", Encoder, EncoderDecoder)

TABLES = {"embedding", "types", "positions", "distances"}


def initialise_stack(model: Model, seed: int) -> Model:
    """Fill all parameters from `seed`, the same on every device.

    | parameter                             | distribution                  | why                                    |
    | ------------------------------------- | ----------------------------- | -------------------------------------- |
    | embeddings, types, tables of places   | normal, std 0.02              | small logits: the first is output too  |
    | embeddings where logits are scaled    | normal, std 0.02 / scale      | logits no smaller for it (T5)          |
    | unembedding, last layer for labels    | normal, std 0.02              | no class is preferred at the start     |
    | out, down, norm in front (pre)        | zero                          | every block starts as the identity     |
    | out, down, norm behind (post)         | uniform, std 1/√(inputs · n)  | n branches add up to one of variance 1 |
    | query rows where scores are unscaled  | uniform, std 1/√(inputs · D)  | scores start as if they were scaled    |
    | other matrices                        | uniform, std 1/√inputs        | keeps the variance of what was normed  |
    | norms                                 | one                           | plain normalisation                    |
    | biases, biases by distance            | zero                          | learned as far as they are needed      |
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {f"{name}.weight" for name, norm in model.named_modules() if isinstance(norm, (RMSNorm, LayerNorm))}
    stacks = {name: stack for name, stack in model.named_children() if isinstance(stack, Stack)}
    labels = {"token_labels.out.weight", "text_labels.out.weight", "unembedding.weight"}
    scale = model.config.logit_scale if isinstance(model, EncoderDecoder) else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
            if name in norms:
                value = torch.ones(parameter.shape)
            elif kind == "bias" or kind.endswith("_bias"):
                value = torch.zeros(parameter.shape)
            elif kind in TABLES or name in labels:
                std = 0.02 / scale if kind == "embedding" else 0.02
                value = torch.empty(parameter.shape).normal_(0, std, generator=generator)
            else:
                value = _matrix(kind, parameter, stacks.get(name.partition(".")[0]), generator)
            parameter.copy_(value)
    return model


def _matrix(kind: str, parameter: Tensor, stack: Stack | None, generator: torch.Generator) -> Tensor:
    """A dense layer's or a convolution's weight, in this stack or, without one, in a head."""
    inputs = parameter[0].numel()
    if stack is not None and kind in ("out", "down"):
        if stack.config.block == "pre":
            return torch.zeros(parameter.shape)
        inputs *= len(stack.config.order) * (3 if stack.decoder else 2)
    bound = math.sqrt(3 / inputs)
    value = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
    if stack is not None and kind in ("qkv", "query") and stack.config.attention_scale is not None:
        size = stack.config.head_dim
        value[: stack.config.heads * size] *= size**-0.5 / stack.config.attention_scale
    return value
