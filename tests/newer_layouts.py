"""Published layouts since 2023 of which transformers has an equal model under other names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.family_checks import Files, Layout


def _to_minicpm(values: dict[str, Any], tensors: dict[str, Tensor]) -> Files:
    """Granite's factors under MiniCPM's names. Its scores have to be scaled by head_dim^-0.5."""
    layers, width = values["num_hidden_layers"], values["hidden_size"]
    renamed = {
        "architectures": ["MiniCPMForCausalLM"],
        "scale_emb": values["embedding_multiplier"],
        "scale_depth": values["residual_multiplier"] * layers**0.5,
        "dim_model_base": width / values["logits_scaling"],
    }
    gone = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling", "mlp_bias")
    return {key: value for key, value in values.items() if key not in gone} | renamed, tensors


def _from_minicpm(values: dict[str, Any], tensors: dict[str, Tensor]) -> Files:
    layers, width = values["num_hidden_layers"], values["hidden_size"]
    renamed = {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "embedding_multiplier": values["scale_emb"],
        "residual_multiplier": values["scale_depth"] / layers**0.5,
        "attention_multiplier": (width / values["num_attention_heads"]) ** -0.5,
        "logits_scaling": width / values["dim_model_base"],
    }
    return values | renamed, tensors


MINICPM = Layout(_to_minicpm, _from_minicpm)

CHATGLM2_KEYS = {
    "vocab_size": "padded_vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "multi_query_group_num",
    "head_dim": "kv_channels",
    "intermediate_size": "ffn_hidden_size",
    "max_position_embeddings": "seq_length",
    "rms_norm_eps": "layernorm_epsilon",
    "attention_bias": "add_qkv_bias",
    "pad_token_id": "pad_token_id",
    "eos_token_id": "eos_token_id",
}
CHATGLM2_NAMES = {
    "lm_head.weight": "transformer.output_layer.weight",
    "model.embed_tokens.weight": "transformer.embedding.word_embeddings.weight",
    "model.norm.weight": "transformer.encoder.final_layernorm.weight",
}
CHATGLM2_PARTS = {
    "model.layers.": "transformer.encoder.layers.",
    "self_attn.o_proj": "self_attention.dense",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}


def _to_chatglm2(values: dict[str, Any], tensors: dict[str, Tensor]) -> Files:
    """GLM-4's separate projections in one matrix, the keys and names of ChatGLM's own code."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".q_proj." in name:
            parts = [tensors[name.replace("q_proj", f"{kind}_proj")] for kind in "qkv"]
            name, tensor = name.replace("self_attn.q_proj", "self_attention.query_key_value"), torch.cat(parts)
        if ".k_proj." not in name and ".v_proj." not in name:
            found[_renamed(name, CHATGLM2_NAMES, CHATGLM2_PARTS)] = tensor
    renamed = {theirs: values[ours] for ours, theirs in CHATGLM2_KEYS.items()}
    ratio = values["rope_parameters"]["rope_theta"] / 10_000
    fixed = {"architectures": ["ChatGLMModel"], "model_type": "chatglm", "rope_ratio": ratio, "rmsnorm": True}
    return renamed | fixed | {"multi_query_attention": True, "add_bias_linear": False, "original_rope": True}, found


def _from_chatglm2(values: dict[str, Any], tensors: dict[str, Tensor]) -> Files:
    names = {theirs: ours for ours, theirs in CHATGLM2_NAMES.items()}
    parts = {theirs: ours for ours, theirs in CHATGLM2_PARTS.items()}
    sizes = [values["num_attention_heads"], values["multi_query_group_num"], values["multi_query_group_num"]]
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = _renamed(name, names, parts)
        if "query_key_value" in name:
            split = tensor.split([size * values["kv_channels"] for size in sizes])
            for kind, part in zip("qkv", split, strict=True):
                found[name.replace("self_attention.query_key_value", f"self_attn.{kind}_proj")] = part
        else:
            found[name] = tensor
    renamed = {ours: values[theirs] for ours, theirs in CHATGLM2_KEYS.items()}
    rope = {"rope_type": "default", "rope_theta": 10_000 * values["rope_ratio"], "partial_rotary_factor": 0.5}
    return renamed | {"architectures": ["GlmForCausalLM"], "model_type": "glm", "rope_parameters": rope}, found


def _renamed(name: str, names: dict[str, str], parts: dict[str, str]) -> str:
    for old, new in parts.items():
        name = name.replace(old, new)
    return names.get(name, name)


CHATGLM2 = Layout(_to_chatglm2, _from_chatglm2)
