"""ChatGLM-6B and GLM-130B as their papers and published configs describe them (Zeng et al. 2022; Du et al. 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference


class Layer(nn.Module):
    """One block; `inner` is the number of rows of the first matrix of the MLP."""

    def __init__(self, hidden: int, width: int, inner: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(hidden)
        self.attention = nn.ModuleDict(
            {"query_key_value": nn.Linear(hidden, 3 * hidden), "dense": nn.Linear(hidden, hidden)}
        )
        self.post_attention_layernorm = nn.LayerNorm(hidden)
        self.mlp = nn.ModuleDict(
            {"dense_h_to_4h": nn.Linear(hidden, inner), "dense_4h_to_h": nn.Linear(width, hidden)}
        )


class ChatGLM(Reference):
    """One document at a time. What stands before the first `bos` sees all of that; later tokens see backwards."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        hidden, self.heads = values["hidden_size"], values["num_attention_heads"]
        width = values["inner_hidden_size"]
        self.two = values["position_encoding_2d"]
        inner = width if self.two else 2 * width
        self.transformer = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(values["vocab_size"], hidden),
                "layers": nn.ModuleList(Layer(hidden, width, inner) for _ in range(values["num_layers"])),
                "final_layernorm": nn.LayerNorm(hidden),
            }
        )

    def logits(self, ids: Tensor) -> Tensor:
        return torch.stack([self._row(row) for row in ids])

    def _row(self, ids: Tensor) -> Tensor:
        time, values = len(ids), self.values
        tokens = ids.tolist()
        bos = values["bos_token_id"]
        context = tokens.index(bos) if bos in tokens else 0
        first, second = list(range(time)), [0] * time
        if self.two and context:
            masks = [values["gmask_token_id"], values["mask_token_id"]]
            place = next((tokens.index(mask) for mask in masks if mask in tokens[:context]), context - 1)
            for index in range(context, time):
                first[index], second[index] = place, index - context + 1
        seen = torch.ones(time, time).tril().bool()
        seen[:, :context] = True
        alpha = (2 * values["num_layers"]) ** 0.5
        x = self.transformer["word_embeddings"](ids)
        layers: Any = self.transformer["layers"]
        for layer in layers:
            y = layer.input_layernorm(x)
            x = alpha * y + self._attention(layer.attention, y, seen, torch.tensor(first), torch.tensor(second))
            y = layer.post_attention_layernorm(x)
            x = alpha * y + self._mlp(layer.mlp, y)
        x = self.transformer["final_layernorm"](x)
        return x @ self.transformer["word_embeddings"].weight.T

    def _attention(self, part: Any, y: Tensor, seen: Tensor, first: Tensor, second: Tensor) -> Tensor:
        time, hidden = y.shape
        size = hidden // self.heads
        if self.two:
            q, k, v = part["query_key_value"](y).view(time, self.heads, 3, size).unbind(2)
            q, k = (
                torch.cat([turn(x[..., : size // 2], first), turn(x[..., size // 2 :], second)], -1) for x in (q, k)
            )
        else:
            q, k, v = part["query_key_value"](y).view(time, 3, self.heads, size).unbind(1)
            q, k = turn(q, first), turn(k, first)
        scores = torch.einsum("qhd,khd->hqk", q, k) / size**0.5
        share = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        return part["dense"](torch.einsum("hqk,khd->qhd", share, v).reshape(time, hidden))

    def _mlp(self, part: Any, y: Tensor) -> Tensor:
        inner = part["dense_h_to_4h"](y)
        if self.two:
            return part["dense_4h_to_h"](F.gelu(inner, approximate="tanh"))
        up, gate = inner.chunk(2, -1)
        return part["dense_4h_to_h"](up * F.gelu(gate))


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions (time,) on x (time, heads, size), feature i together with i + size / 2, as complex numbers."""
    size = x.shape[-1]
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, size, 2) / size)
    pairs = torch.complex(x[..., : size // 2].contiguous(), x[..., size // 2 :].contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat([turned.real, turned.imag], -1)
