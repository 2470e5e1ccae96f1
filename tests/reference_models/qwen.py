"""Qwen 1 beyond the length it was trained with: a base that grows in steps, and queries scaled by logarithms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference
from tests.reference_models.parts import causal, heads_of, mixed, rms, rotated


class Qwen(Reference):
    """Published: Qwen (2023), section 2.3 and the model's configuration."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({"architectures": ["QWenLMHeadModel"], "model_type": "qwen", **values})
        width, inner = values["hidden_size"], values["intermediate_size"] // 2

        def linear(columns: int, rows: int) -> nn.Linear:
            return nn.Linear(columns, rows, bias=False)

        def block() -> nn.ModuleDict:
            attn = {"c_attn": nn.Linear(width, 3 * width), "c_proj": linear(width, width)}
            mlp = {"w1": linear(width, inner), "w2": linear(width, inner), "c_proj": linear(inner, width)}
            norms = {"ln_1": nn.RMSNorm(width), "ln_2": nn.RMSNorm(width)}
            return nn.ModuleDict({"attn": nn.ModuleDict(attn), "mlp": nn.ModuleDict(mlp), **norms})

        wte = nn.Embedding(values["vocab_size"], width)
        blocks = nn.ModuleList(block() for _ in range(values["num_hidden_layers"]))
        self.transformer = nn.ModuleDict({"wte": wte, "h": blocks, "ln_f": nn.RMSNorm(width)})
        self.lm_head = linear(width, values["vocab_size"])

    def logits(self, ids: Tensor) -> Tensor:
        """The base is multiplied by a^(d / (d - 2)), a = 2^⌈log2(length / trained) + 1⌉ - 1, if that is above one."""
        part, eps, heads = dict(self.named_parameters()), self.values["layer_norm_epsilon"], 4
        time, trained, size = ids.shape[1], self.values["seq_length"], self.values["kv_channels"]
        alpha = max(2 ** math.ceil(math.log2(time / trained) + 1) - 1, 1)
        theta = self.values["rotary_emb_base"] * alpha ** (size / (size - 2))
        longer = torch.tensor([max(math.log(n, trained), 1.0) for n in range(1, time + 1)])[:, None]
        x = part["transformer.wte.weight"][ids]
        for layer in range(self.values["num_hidden_layers"]):
            at = f"transformer.h.{layer}."
            normed = rms(x, part[at + "ln_1.weight"], eps)
            three = (normed @ part[at + "attn.c_attn.weight"].T + part[at + "attn.c_attn.bias"]).chunk(3, -1)
            query, key, value = (heads_of(y, heads) for y in three)
            out = mixed(rotated(query, theta) * longer, rotated(key, theta), value, causal(time))
            x = x + out @ part[at + "attn.c_proj.weight"].T
            normed = rms(x, part[at + "ln_2.weight"], eps)
            up, gate = normed @ part[at + "mlp.w1.weight"].T, normed @ part[at + "mlp.w2.weight"].T
            x = x + (up * F.silu(gate)) @ part[at + "mlp.c_proj.weight"].T
        return rms(x, part["transformer.ln_f.weight"], eps) @ part["lm_head.weight"].T
