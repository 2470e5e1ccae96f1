"""Small decoders in the shapes that compiled code computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from luhuo.kernels.native import library
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
}
LLAMA = {"family": "llama", "qk_norm": "none"}
VARIANTS: list[dict[str, Any]] = [
    {},
    LLAMA | {"tie_embeddings": False, "qkv_bias": True, "out_bias": True, "mlp_bias": True},
    {"qk_norm": "heads", "intermediate_size": 100, "attention_scale": 0.3},
    LLAMA | {"heads": 5, "kv_heads": 1, "head_dim": 32},
]
needs_compiler = pytest.mark.skipif(library() is None, reason="no C++ compiler here")


def small(dtype: torch.dtype = torch.float32, **changes: Any) -> Decoder:
    model = initialise(Decoder(ModelConfig(**SMALL | changes)), 0).to(dtype).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # the usual start has zeros where a branch ends
        noise = torch.randn(parameter.shape, generator=generator).to(dtype)
        parameter.data = parameter + 0.2 * noise if parameter.dim() == 1 else noise * parameter.shape[1] ** -0.5
    return model
