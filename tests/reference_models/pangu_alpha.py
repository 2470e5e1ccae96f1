"""PanGu-α as its paper describes it (Zeng et al. 2021, sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference


class PanGuAlpha(Reference):
    """A stack of pre-norm blocks; in the last one the query of a token is a vector of its position."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        hidden, places = values["hidden_size"], values["max_position_embeddings"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(values["vocab_size"], hidden),
                "wpe": nn.Embedding(places, hidden),
                "wqe": nn.Embedding(places, hidden),
                "h": nn.ModuleList(_block(hidden, values["intermediate_size"]) for _ in range(values["num_layers"])),
                "ln_f": nn.LayerNorm(hidden),
            }
        )
        self.heads = values["num_heads"]

    def logits(self, ids: Tensor) -> Tensor:
        parts: Any = self.transformer
        places = torch.arange(ids.shape[1])
        x = parts["wte"](ids) + parts["wpe"](places)
        blocks = list(parts["h"])
        for block in blocks[:-1]:
            y = block["ln_1"](x)
            x = self._finish(block, x, self._attend(block, y, y))
        x = parts["ln_f"](x)
        asked = parts["wqe"](places).expand_as(x)
        x = self._finish(blocks[-1], x, self._attend(blocks[-1], asked, blocks[-1]["ln_1"](x)))
        return x @ parts["wte"].weight.T

    def _attend(self, block: Any, asking: Tensor, seen: Tensor) -> Tensor:
        batch, time, hidden = seen.shape
        part = block["attn"]
        sources = (("q_proj", asking), ("k_proj", seen), ("v_proj", seen))
        q, k, v = (part[name](x).view(batch, time, self.heads, -1) for name, x in sources)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / (hidden / self.heads) ** 0.5
        share = scores.masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf).softmax(-1)
        return part["c_proj"](torch.einsum("bhqk,bkhd->bqhd", share, v).reshape(batch, time, hidden))

    def _finish(self, block: Any, x: Tensor, added: Tensor) -> Tensor:
        x = x + added
        return x + block["mlp"]["c_proj"](F.gelu(block["mlp"]["c_fc"](block["ln_2"](x))))


def _block(hidden: int, inner: int) -> nn.ModuleDict:
    names = ("q_proj", "k_proj", "v_proj", "c_proj")
    return nn.ModuleDict(
        {
            "ln_1": nn.LayerNorm(hidden),
            "attn": nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in names}),
            "ln_2": nn.LayerNorm(hidden),
            "mlp": nn.ModuleDict({"c_fc": nn.Linear(hidden, inner), "c_proj": nn.Linear(inner, hidden)}),
        }
    )
