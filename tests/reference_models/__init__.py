"""Plain references, written from the published descriptions, of models that transformers has no class for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Reference(nn.Module):
    """Looks like a model class of transformers as far as tests/family_checks.py uses one.

    Parameters have the published names; `values` is the published config.json.
    """

    config_class = dict

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        self.values = values

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (batch, time, vocab) of ids (batch, time)."""
        raise TypeError("a reference says how its logits are computed")

    def forward(self, ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits(ids))

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.values), encoding="utf-8")
        save_file({name: p.detach().clone() for name, p in self.named_parameters()}, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype) -> Self:
        """Read them back."""
        model = cls(json.loads((folder / "config.json").read_text(encoding="utf-8"))).to(dtype)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model
