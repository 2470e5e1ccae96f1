"""Students and teachers for the tests of distillation: small, over the same tokens, with opinions of their own."""

from __future__ import annotations

import torch

from luhuo.model.decoder import Decoder
from tests.small_chat import small_model


def sharpened(model: Decoder, scale: float) -> Decoder:
    """The model with a last norm that makes it surer of what it says."""
    with torch.no_grad():
        model.norm.weight.fill_(scale)  # type: ignore[union-attr]
    return model


def teacher_model() -> Decoder:
    """Wider and deeper than the student, and surer."""
    return sharpened(small_model(hidden_size=96, layers=3, heads=6, kv_heads=3), 1.0)


def student_model() -> Decoder:
    """What is to learn."""
    return sharpened(small_model(), 0.5)
