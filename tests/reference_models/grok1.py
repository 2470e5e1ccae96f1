"""Grok-1 as its published JAX code describes it, in plain PyTorch, with the names of the PyTorch conversion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference


class Scale(nn.Module):
    """RMSNorm, whose weight is called scale."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor, eps: float) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * self.scale


def turned(x: Tensor) -> Tensor:
    """Rotary positions of (time, heads, size): feature i pairs with i + size / 2, base 10000."""
    time, _, size = x.shape
    half = size // 2
    angle = torch.arange(time)[:, None] / 10_000 ** (torch.arange(half) / half)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def linear(columns: int, rows: int) -> nn.Linear:
    """A matrix with random values of about unit gain."""
    layer = nn.Linear(columns, rows, bias=False)
    nn.init.normal_(layer.weight, 0, 0.2)
    return layer


class Grok1(Reference):
    """Two experts of a few for each token, chosen by softmax and weighted by their plain probabilities."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({"architectures": ["Grok1ModelForCausalLM"], "model_type": "grok-1", **values})
        width, inner = values["hidden_size"], values["intermediate_size"]
        heads, kv_heads = values["num_attention_heads"], values["num_key_value_heads"]
        self.size = width // heads
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(values["vocab_size"], width)
        self.model.layers = nn.ModuleList()
        for _ in range(values["num_hidden_layers"]):
            layer = nn.Module()
            for name in ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"):
                layer.add_module(name, Scale(width))
            layer.attn = nn.Module()
            for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                layer.attn.add_module(f"{name}_proj", linear(width, rows * self.size))
            layer.attn.o_proj = linear(heads * self.size, width)
            layer.moe_block = nn.Module()
            layer.moe_block.gate = linear(width, values["num_experts"])
            layer.moe_block.experts = nn.ModuleList()
            for _ in range(values["num_experts"]):
                expert = nn.Module()
                expert.linear, expert.linear_v = linear(width, inner), linear(width, inner)
                expert.linear_1 = linear(inner, width)
                layer.moe_block.experts.append(expert)
            self.model.layers.append(layer)
        self.model.norm = Scale(width)
        if not values["tie_word_embeddings"]:
            self.lm_head = linear(width, values["vocab_size"])

    def logits(self, ids: Tensor) -> Tensor:
        """One row after the other."""
        return torch.stack([self.row(row) for row in ids])

    def row(self, ids: Tensor) -> Tensor:
        """Logits (time, vocab) of one row."""
        values = self.values
        model: Any = self.model
        eps = values["rms_norm_eps"]
        x = model.embed_tokens(ids) * values["embedding_multiplier_scale"]
        for layer in model.layers:
            x = x + layer.post_attn_norm(self.attention(layer.attn, layer.pre_attn_norm(x, eps)), eps)
            x = x + layer.post_moe_norm(self.experts(layer.moe_block, layer.pre_moe_norm(x, eps)), eps)
        x = model.norm(x, eps)
        weight = model.embed_tokens.weight if values["tie_word_embeddings"] else self.lm_head.weight
        return x @ weight.T * values["output_multiplier_scale"]

    def attention(self, attn: Any, x: Tensor) -> Tensor:
        """Grouped queries; the scores are capped by a tanh before the mask."""
        time, values = len(x), self.values
        query, key, value = (getattr(attn, f"{name}_proj")(x).view(time, -1, self.size) for name in "qkv")
        query, key = turned(query), turned(key)
        group = query.shape[1] // key.shape[1]
        found = []
        for head in range(query.shape[1]):
            scores = query[:, head] @ key[:, head // group].T * values["attn_output_multiplier"]
            scores = values["max_attn_value"] * torch.tanh(scores / values["max_attn_value"])
            scores = scores.masked_fill(torch.ones(time, time).triu(1) > 0, -torch.inf)
            found.append(scores.softmax(-1) @ value[:, head // group])
        return attn.o_proj(torch.cat(found, -1))

    def experts(self, block: Any, x: Tensor) -> Tensor:
        """Each token through its best experts."""
        rows = []
        for token in x:
            shares, chosen = block.gate(token).softmax(-1).topk(self.values["num_experts_per_tok"])
            total = torch.zeros_like(token)
            for share, index in zip(shares, chosen.tolist(), strict=True):
                expert = block.experts[index]
                inner = F.gelu(expert.linear(token), approximate="tanh") * expert.linear_v(token)
                total = total + share * expert.linear_1(inner)
            rows.append(total)
        return torch.stack(rows)
