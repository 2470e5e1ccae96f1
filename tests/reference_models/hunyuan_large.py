"""Hunyuan-Large as its report and its published layout describe it, in plain PyTorch.

Sun et al. 2024, "Hunyuan-Large", sections 2.2 (cross-layer attention, grouped queries) and 2.3 (shared and routed
experts).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference
from tests.reference_models.grok1 import linear


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight


def gated(width: int, inner: int) -> Any:
    """The three matrices of a gated MLP."""
    mlp: Any = nn.Module()
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = linear(width, inner), linear(width, inner), linear(inner, width)
    return mlp


def run(mlp: Any, x: Tensor) -> Tensor:
    """down(silu(gate(x)) · up(x))."""
    return mlp.down_proj(F.silu(mlp.gate_proj(x)) * mlp.up_proj(x))


class HunyuanLarge(Reference):
    """Every second layer has no keys and values of its own; one expert for each token beside the shared one."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({"architectures": ["HunYuanForCausalLM"], "model_type": "hunyuan", **values})
        width, inner = values["hidden_size"], values["intermediate_size"]
        heads, kv_heads, self.size = values["num_attention_heads"], values["num_key_value_heads"], values["head_dim"]
        model: Any = nn.Module()
        model.embed_tokens = nn.Embedding(values["vocab_size"], width)
        model.layers = nn.ModuleList()
        for index in range(values["num_hidden_layers"]):
            layer: Any = nn.Module()
            layer.input_layernorm, layer.post_attention_layernorm = Norm(width), Norm(width)
            layer.self_attn = nn.Module()
            layer.self_attn.q_proj = linear(width, heads * self.size)
            layer.self_attn.o_proj = linear(heads * self.size, width)
            if index % values["cla_share_factor"] == 0:
                layer.self_attn.k_proj = linear(width, kv_heads * self.size)
                layer.self_attn.v_proj = linear(width, kv_heads * self.size)
            layer.self_attn.query_layernorm, layer.self_attn.key_layernorm = Norm(self.size), Norm(self.size)
            layer.mlp = nn.Module()
            layer.mlp.gate = nn.Module()
            layer.mlp.gate.wg = linear(width, values["num_experts"])
            layer.mlp.experts = nn.ModuleList(gated(width, inner) for _ in range(values["num_experts"]))
            layer.mlp.shared_mlp = gated(width, inner)
            model.layers.append(layer)
        model.norm = Norm(width)
        self.model = model

    def logits(self, ids: Tensor) -> Tensor:
        """One row after the other; the output embedding is the input's."""
        return torch.stack([self.row(row) @ self.model.embed_tokens.weight.T for row in ids])

    def row(self, ids: Tensor) -> Tensor:
        """Normalised hidden states (time, width) of one row."""
        model: Any = self.model
        x, shared = model.embed_tokens(ids), None
        for layer in model.layers:
            mixed, shared = self.attention(layer.self_attn, layer.input_layernorm(x), shared)
            x = x + mixed
            x = x + self.feed(layer.mlp, layer.post_attention_layernorm(x))
        return model.norm(x)

    def turned(self, x: Tensor) -> Tensor:
        """Rotary positions whose base a fixed alpha stretches."""
        half, alpha = self.size // 2, (self.values["rope_scaling"] or {"alpha": 1.0})["alpha"]
        base = self.values["rope_theta"] * alpha ** (self.size / (self.size - 2))
        angle = torch.arange(len(x))[:, None] / base ** (torch.arange(half) / half)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def attention(
        self, attn: Any, x: Tensor, shared: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output, and the keys and values of this layer or of the one before, rotated but not normalised."""
        time = len(x)
        query = attn.query_layernorm(self.turned(attn.q_proj(x).view(time, -1, self.size)))
        if hasattr(attn, "k_proj"):
            key, value = (getattr(attn, f"{name}_proj")(x).view(time, -1, self.size) for name in "kv")
            shared = self.turned(key), value
        assert shared is not None
        key, value = attn.key_layernorm(shared[0]), shared[1]
        group, found = query.shape[1] // key.shape[1], []
        for head in range(query.shape[1]):
            scores = query[:, head] @ key[:, head // group].T / self.size**0.5
            scores = scores.masked_fill(torch.ones(time, time).triu(1) > 0, -torch.inf)
            found.append(scores.softmax(-1) @ value[:, head // group])
        return attn.o_proj(torch.cat(found, -1)), shared

    def feed(self, mlp: Any, x: Tensor) -> Tensor:
        """The shared expert, and the best routed one times its probability."""
        shares, chosen = mlp.gate.wg(x).softmax(-1).max(-1)
        routed = [share * run(mlp.experts[index], row) for share, index, row in zip(shares, chosen, x, strict=True)]
        return run(mlp.shared_mlp, x) + torch.stack(routed)
