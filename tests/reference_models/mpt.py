"""MPT with what transformers leaves out: normalised queries and keys, other slopes, another width of the MLP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference
from tests.reference_models.parts import alibi, heads_of, layer_norm, mixed


class MPT(Reference):
    """Published: the MPT model card and its configuration's description of `attn_config`."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({"architectures": ["MPTForCausalLM"], "model_type": "mpt", **values})
        width, inner = values["d_model"], values["d_model"] * values["expansion_ratio"]

        def linear(columns: int, rows: int) -> nn.Linear:
            return nn.Linear(columns, rows, bias=False)

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, bias=False)

        def block() -> nn.ModuleDict:
            attn = {
                "Wqkv": linear(width, 3 * width),
                "out_proj": linear(width, width),
                "q_ln": norm(),
                "k_ln": norm(),
            }
            ffn = {"up_proj": linear(width, inner), "down_proj": linear(inner, width)}
            parts = {"norm_1": norm(), "attn": nn.ModuleDict(attn), "norm_2": norm(), "ffn": nn.ModuleDict(ffn)}
            return nn.ModuleDict(parts)

        blocks = nn.ModuleList(block() for _ in range(values["n_layers"]))
        wte = nn.Embedding(values["vocab_size"], width)
        self.transformer = nn.ModuleDict({"wte": wte, "blocks": blocks, "norm_f": norm()})

    def logits(self, ids: Tensor) -> Tensor:
        """The head is the embedding."""
        part = dict(self.named_parameters())
        attention, heads = self.values["attn_config"], self.values["n_heads"]
        clip, steepest = attention["clip_qkv"], attention["alibi_bias_max"]
        x = part["transformer.wte.weight"][ids]
        for layer in range(self.values["n_layers"]):
            at = f"transformer.blocks.{layer}."
            normed = layer_norm(x, part[at + "norm_1.weight"], 1e-5)
            query, key, value = (normed @ part[at + "attn.Wqkv.weight"].T).clamp(-clip, clip).chunk(3, -1)
            query = layer_norm(query, part[at + "attn.q_ln.weight"], 1e-5)
            key = layer_norm(key, part[at + "attn.k_ln.weight"], 1e-5)
            bias = alibi(heads, ids.shape[1], steepest)
            out = mixed(*(heads_of(y, heads) for y in (query, key, value)), bias, attention["softmax_scale"])
            x = x + out @ part[at + "attn.out_proj.weight"].T
            normed = layer_norm(x, part[at + "norm_2.weight"], 1e-5)
            x = x + F.gelu(normed @ part[at + "ffn.up_proj.weight"].T) @ part[at + "ffn.down_proj.weight"].T
        x = layer_norm(x, part["transformer.norm_f.weight"], 1e-5)
        return x @ part["transformer.wte.weight"].T
