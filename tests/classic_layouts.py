"""Published layouts that transformers knows under other names: its files rewritten, and what we write put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.family_checks import Files, Layout

Values = dict[str, Any]
Tensors = dict[str, Tensor]
LETTERS = ("q", "k", "v")


def keys(values: Values, renamed: dict[str, str], **extra: Any) -> Values:
    """A config with keys renamed and others set (removed, if None)."""
    changed = {renamed.get(key, key): value for key, value in values.items()} | extra
    return {key: value for key, value in changed.items() if value is not None or key not in extra}


def names(tensors: Tensors, renamed: dict[str, str]) -> Tensors:
    """Tensors with parts of their names replaced, in order."""
    found = {}
    for name, tensor in tensors.items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


def backwards(renamed: dict[str, str]) -> dict[str, str]:
    """The table from new to old."""
    return {new: old for old, new in reversed(renamed.items())}


def fuse(tensors: Tensors, parts: list[str], whole: str, join: Callable[[list[Tensor]], Tensor]) -> Tensors:
    """Modules `parts` of each layer, weight and bias, made one module `whole`."""
    found, first = dict(tensors), parts[0]
    for name in tensors:
        if first in name:
            others = [name.replace(first, part) for part in parts]
            found[name.replace(first, whole)] = join([found.pop(other) for other in others])
    return found


def take_apart(tensors: Tensors, parts: list[str], whole: str, split: Callable[[Tensor], list[Tensor]]) -> Tensors:
    """The inverse of `fuse`."""
    found = {}
    for name, tensor in tensors.items():
        if whole in name:
            found |= {name.replace(whole, part): piece for part, piece in zip(parts, split(tensor), strict=True)}
        else:
            found[name] = tensor
    return found


def under(rows: tuple[int, ...]) -> tuple[Callable[[list[Tensor]], Tensor], Callable[[Tensor], list[Tensor]]]:
    """Queries, keys and values under one another."""
    return torch.cat, lambda whole: list(whole.split(rows))


def by_key_head(kv_heads: int, size: int) -> tuple[Callable[[list[Tensor]], Tensor], Callable[[Tensor], list[Tensor]]]:
    """For each key head its queries, its key and its value."""

    def join(parts: list[Tensor]) -> Tensor:
        return torch.cat([part.unflatten(0, (kv_heads, -1, size)) for part in parts], 1).flatten(0, 2)

    def split(whole: Tensor) -> list[Tensor]:
        grouped = whole.unflatten(0, (kv_heads, -1, size))
        return [part.flatten(0, 2) for part in grouped.split([grouped.shape[1] - 2, 1, 1], 1)]

    return join, split


def layout(
    architecture: str,
    published: dict[str, str],
    *,
    tensors: dict[str, str] | None = None,
    whole: str = "",
    fused: Any = None,
    extra: Values | None = None,
    model: tuple[str, str] = ("LlamaForCausalLM", "llama"),
    restored: Values | None = None,
) -> Layout:
    """A layout that renames keys and tensors, then fuses `self_attn.{q,k,v}_proj` into `whole`."""
    renamed, parts = tensors or {}, [f"self_attn.{letter}_proj" for letter in LETTERS]

    def publish(values: Values, found: Tensors) -> Files:
        found = fuse(found, parts, whole, fused[0]) if whole else found
        gone = {"rope_parameters": None, "head_dim": None, **(extra or {})}
        return keys(values, published, architectures=[architecture], **gone), names(found, renamed)

    def restore(values: Values, found: Tensors) -> Files:
        found = names(found, backwards(renamed))
        found = take_apart(found, parts, whole, fused[1]) if whole else found
        own = {"architectures": [model[0]], "model_type": model[1], **(restored or {})}
        return keys(values, backwards(published), **own), found

    return Layout(publish, restore)


def with_normalised_head(inner: Layout) -> Layout:
    """A layout whose head is scaled to rows of length one when it is used; published rows have any length."""

    def publish(values: Values, found: Tensors) -> Files:
        values, found = inner.publish(values, found)
        lengths = torch.linspace(0.5, 3.0, len(found["lm_head.weight"]))[:, None]
        return values, {**found, "lm_head.weight": found["lm_head.weight"] * lengths}

    def restore(values: Values, found: Tensors) -> Files:
        values, found = inner.restore(values, found)
        return values, {**found, "lm_head.weight": F.normalize(found["lm_head.weight"])}

    def prepare(model: Any) -> None:
        model.lm_head.weight.copy_(F.normalize(model.lm_head.weight))

    return Layout(publish, restore, prepare)


ROTARY = {"type": "dynamic", "base": 10000, "scaling_factor": 2.0}
INTERNLM = layout(
    "InternLMForCausalLM",
    {"attention_bias": "bias"},
    extra={"rotary": ROTARY, "rope_theta": None, "rope_scaling": None},
)
INTERNLM2_TENSORS = {
    "model.embed_tokens": "model.tok_embeddings",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "lm_head": "output",
}
INTERNLM2 = layout(
    "InternLM2ForCausalLM",
    {"attention_bias": "bias"},
    tensors=INTERNLM2_TENSORS,
    whole="attention.wqkv",
    fused=by_key_head(2, 8),
    extra={"rope_theta": 5000.0, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
)
INTERNLM3 = layout(
    "InternLM3ForCausalLM",
    {"attention_bias": "qkv_bias", "mlp_bias": "bias"},
    extra={"head_dim": 8, "rope_theta": 5000.0, "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}},
)
BAICHUAN = layout("BaiChuanForCausalLM", {}, whole="self_attn.W_pack", fused=under((32, 32, 32)))
BAICHUAN2 = with_normalised_head(
    layout(
        "BaichuanForCausalLM",
        {},
        whole="self_attn.W_pack",
        fused=under((32, 32, 32)),
        extra={"z_loss_weight": 0},
    )
)
QWEN_TENSORS = {
    "model.embed_tokens": "transformer.wte",
    "model.layers.": "transformer.h.",
    "model.norm": "transformer.ln_f",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.down_proj": "mlp.c_proj",
    "mlp.gate_proj": "mlp.w2",
    "mlp.up_proj": "mlp.w1",
}
QWEN = layout(
    "QWenLMHeadModel",
    {"rms_norm_eps": "layer_norm_epsilon", "rope_theta": "rotary_emb_base"},
    tensors=QWEN_TENSORS,
    whole="attn.c_attn",
    fused=under((32, 32, 32)),
    extra={"intermediate_size": 96, "kv_channels": 8, "seq_length": 128, "rotary_emb_base": 5000},
    model=("Qwen2ForCausalLM", "qwen2"),
    restored={"intermediate_size": 48, "rope_theta": 5000.0, "num_key_value_heads": 4},
)
MOSS = layout("MossForCausalLM", {}, extra={"wbits": 32}, model=("CodeGenForCausalLM", "codegen"))
OLD_FALCON = layout(
    "RWForCausalLM",
    {
        "hidden_size": "n_embed",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "num_kv_heads": "n_head_kv",
    },
    extra={"model_type": "RefinedWeb", "new_decoder_architecture": None, "num_ln_in_parallel_attn": None},
    model=("FalconForCausalLM", "falcon"),
)
OLD_STABLELM = layout(
    "StableLMEpochForCausalLM",
    {"layer_norm_eps": "norm_eps", "partial_rotary_factor": "rope_pct"},
    extra={"model_type": "stablelm_epoch", "rope_pct": 0.5, "rope_theta": 10000},
    model=("StableLmForCausalLM", "stablelm"),
)
