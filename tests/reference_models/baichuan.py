"""Baichuan-13B: Llama's block with ALiBi, and Baichuan 2's head of rows of length one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference
from tests.reference_models.parts import alibi, heads_of, mixed, rms


class Baichuan(Reference):
    """Published: the Baichuan-13B model card; Baichuan 2 (2023), section 2."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({"architectures": ["BaichuanForCausalLM"], "model_type": "baichuan", **values})
        width, inner = values["hidden_size"], values["intermediate_size"]

        def linear(columns: int, rows: int) -> nn.Linear:
            return nn.Linear(columns, rows, bias=False)

        def norm() -> nn.RMSNorm:
            return nn.RMSNorm(width)

        def block() -> nn.ModuleDict:
            attn = {"W_pack": linear(width, 3 * width), "o_proj": linear(width, width)}
            mlp = {
                "gate_proj": linear(width, inner),
                "up_proj": linear(width, inner),
                "down_proj": linear(inner, width),
            }
            return nn.ModuleDict(
                {
                    "input_layernorm": norm(),
                    "self_attn": nn.ModuleDict(attn),
                    "post_attention_layernorm": norm(),
                    "mlp": nn.ModuleDict(mlp),
                }
            )

        embedding = nn.Embedding(values["vocab_size"], width)
        blocks = nn.ModuleList(block() for _ in range(values["num_hidden_layers"]))
        self.model = nn.ModuleDict({"embed_tokens": embedding, "layers": blocks, "norm": norm()})
        self.lm_head = linear(width, values["vocab_size"])

    def logits(self, ids: Tensor) -> Tensor:
        """Rows of the head are scaled to length one in the second generation, which has a weight of its loss."""
        part, eps = dict(self.named_parameters()), self.values["rms_norm_eps"]
        heads = self.values["num_attention_heads"]
        x = part["model.embed_tokens.weight"][ids]
        for layer in range(self.values["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            normed = rms(x, part[at + "input_layernorm.weight"], eps)
            three = (normed @ part[at + "self_attn.W_pack.weight"].T).chunk(3, -1)
            out = mixed(*(heads_of(y, heads) for y in three), alibi(heads, ids.shape[1]))
            x = x + out @ part[at + "self_attn.o_proj.weight"].T
            normed = rms(x, part[at + "post_attention_layernorm.weight"], eps)
            gate = F.silu(normed @ part[at + "mlp.gate_proj.weight"].T)
            x = x + (gate * (normed @ part[at + "mlp.up_proj.weight"].T)) @ part[at + "mlp.down_proj.weight"].T
        head = part["lm_head.weight"]
        if "z_loss_weight" in self.values:
            head = head / head.norm(dim=1, keepdim=True)
        return rms(x, part["model.norm.weight"], eps) @ head.T
