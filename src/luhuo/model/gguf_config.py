"""The metadata of a GGUF file as our config.

It goes through the family's own `read`, as if it were a published config.json, with each size under all the names
that families give it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model import families
from luhuo.model.config import RopeConfig
from luhuo.model.gguf_layouts import LAYOUTS, Layout
from luhuo.model.rope import frequencies

Shapes = Mapping[str, tuple[int, ...]]
Vector = Callable[[str], list[float]]
"""The numbers of a small tensor of the file."""

SIGMOID = 2
"""`expert_gating_func` of routing by sigmoids."""

EXTRA = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that belong to the config, not to the weights."""

REQUIRED = ("block_count", "embedding_length", "attention.head_count")
SIZES = (
    "embedding_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "rope.dimension_count",
    "expert_count",
)

NAMES: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers", "n_layer", "n_layers"),
    "context_length": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    "embedding_length": ("hidden_size", "n_embd", "d_model"),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
    "attention.key_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
    "attention.clamp_kqv": ("clip_qkv",),
    "attention.scale": ("attention_multiplier",),
    "rope.freq_base": ("rope_theta",),
    "rope.freq_base_swa": ("rope_local_base_freq",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "logit_scale": ("logit_scale",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "use_parallel_residual": ("use_parallel_residual",),
    "expert_count": ("num_experts", "num_local_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_shared_count": ("n_shared_experts",),
    "expert_weights_scale": ("routed_scaling_factor",),
    "expert_weights_norm": ("norm_topk_prob",),
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
    "leading_dense_block_count": ("first_k_dense_replace",),
    "attention.q_lora_rank": ("q_lora_rank",),
    "attention.kv_lora_rank": ("kv_lora_rank",),
    "attention.value_length_mla": ("v_head_dim",),
}
"""Key behind the architecture's name: the published keys it stands for."""


def read_metadata(metadata: Mapping[str, Any], shapes: Shapes, vector: Vector, where: object) -> tuple[Layout, Any]:
    """The layout of a file and our config. Raises `LuhuoError` for an architecture or a variant that is not read."""
    architecture = metadata.get("general.architecture")
    candidates = [layout for layout in LAYOUTS if layout.architecture == architecture]
    if not candidates:
        raise LuhuoError(
            tr("This architecture of GGUF files is not read.", "不读取这种架构的 GGUF 文件。"),
            expected=", ".join(sorted({layout.architecture for layout in LAYOUTS})),
            found=architecture,
            where=where,
            fix=tr("Load the model in the Hugging Face layout instead.", "请改为加载 Hugging Face 目录格式的该模型。"),
        )
    get = _getter(metadata, str(architecture), where)
    _check_sizes(get, shapes, where)
    layout = _choose(candidates, get, shapes)
    values = {"architectures": [layout.published], **_values(get, shapes), **_tokens(metadata), **layout.fixed}
    values |= _rope(get, shapes, vector, values)
    values |= _special(layout, get, values)
    return layout, families.read_config(values, where)


def _getter(metadata: Mapping[str, Any], architecture: str, where: object) -> Callable[[str], Any]:
    def get(key: str) -> Any:
        value = metadata.get(f"{architecture}.{key}")
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise LuhuoError(
                    tr("Layers of different sizes are not supported.", "不支持各层大小不同的模型。"),
                    found=f"{architecture}.{key} = {value}",
                    where=where,
                )
            value = value[0]
        return shortest(value) if isinstance(value, float) else value

    return get


def _check_sizes(get: Callable[[str], Any], shapes: Shapes, where: object) -> None:
    """Sizes must be there and no larger than the tensors: nothing is built for layers and heads that no one has."""
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blk.")}
    largest = max((max(shape, default=0) for shape in shapes.values()), default=0)
    limits = {"block_count": len(blocks), **dict.fromkeys(SIZES, largest)}
    for key, limit in limits.items():
        value = get(key)
        if value is None and key not in REQUIRED:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            raise LuhuoError(
                tr("A size in the GGUF file's metadata is missing or absurd.", "GGUF 元数据中的尺寸缺失或不合理。"),
                expected=tr(f"1 to {limit}, as the tensors say", f"1 到 {limit}（依张量而定）"),
                found=value,
                where=f"{where}: {key}",
                fix=tr("Download the file again, or convert the model anew.", "请重新下载该文件，或重新转换模型。"),
            )


def shortest(value: float) -> float:
    """The shortest decimal that gives this number in single precision: 1e-05 instead of 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _choose(candidates: list[Layout], get: Callable[[str], Any], shapes: Shapes) -> Layout:
    """The layout among those of one architecture."""
    first = candidates[0]
    chosen = first.published
    if first.architecture == "llama":
        chosen = _llama(get, shapes)
    elif first.architecture == "deepseek2":
        chosen = "DeepseekV3ForCausalLM" if get("expert_gating_func") == SIGMOID else "DeepseekV2ForCausalLM"
    found = [layout for layout in candidates if layout.published == chosen]
    if len(found) == 1:
        return found[0]
    two_norms = "blk.0.attn_norm_2.weight" in shapes
    return next(layout for layout in found if (layout.how.first_norm == "attn_norm_2") == two_norms)


def _llama(get: Callable[[str], Any], shapes: Shapes) -> str:
    """Which of the models that llama.cpp calls llama."""
    if get("expert_count"):
        return "MixtralForCausalLM"
    if _has_bias(shapes, "attn_q") != _has_bias(shapes, "attn_output"):
        return "InternLM3ForCausalLM"
    return "MistralForCausalLM" if get("attention.sliding_window") else "LlamaForCausalLM"


def _values(get: Callable[[str], Any], shapes: Shapes) -> dict[str, Any]:
    """Everything that keys and tensors say directly."""
    values = {name: value for key, names in NAMES.items() if (value := get(key)) is not None for name in names}
    heads = get("attention.head_count")
    kv_heads = get("attention.head_count_kv") or heads
    qkv, out = _has_bias(shapes, "attn_q", "attn_qkv"), _has_bias(shapes, "attn_output")
    mlp = _has_bias(shapes, "ffn_up", "ffn_down")
    embedding = shapes.get("token_embd.weight", (0, 0))
    return {
        **values,
        "vocab_size": embedding[0],
        "num_key_value_heads": kv_heads,
        "num_kv_heads": kv_heads,
        "multi_query": kv_heads == 1,
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": qkv,
        "attention_out_bias": out,
        "qkv_bias": qkv,
        "use_qkv_bias": qkv,
        "use_bias": qkv,
        "mlp_bias": mlp,
        "bias": out,
        "use_qk_norm": "blk.0.attn_q_norm.weight" in shapes,
        "qk_layernorm": "blk.0.attn_q_norm.weight" in shapes,
    }


def _has_bias(shapes: Shapes, *names: str) -> bool:
    return any(f"blk.0.{name}.bias" in shapes for name in names)


def _tokens(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens. The end of a turn and the end of a text both end a generation."""
    ids = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot", "padding")}
    stops = [ids[name] for name in ("eos", "eot") if ids[name] is not None]
    return {
        "bos_token_id": ids["bos"],
        "eos_token_id": list(dict.fromkeys(stops)) or None,
        "pad_token_id": ids["padding"],
    }


def _rope(get: Callable[[str], Any], shapes: Shapes, vector: Vector, values: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings as `rope_theta`, `rope_scaling` and `partial_rotary_factor`."""
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    turned = get("rope.dimension_count") or head_dim
    kind = get("rope.scaling.type")
    original = get("rope.scaling.original_context_length")
    scaling: dict[str, Any] | None = None
    if EXTRA[0] in shapes:
        scaling = fit_llama3(vector(EXTRA[0]), values.get("rope_theta", 10_000.0), turned, values)
    elif EXTRA[1] in shapes:
        scaling = {
            "rope_type": "longrope",
            "long_factor": vector(EXTRA[1]),
            "short_factor": vector(EXTRA[2]),
            "original_max_position_embeddings": original,
            "attention_factor": get("rope.scaling.attn_factor"),
        }
    elif kind in ("linear", "yarn") and get("rope.scaling.factor") not in (None, 0, 1):
        scaling = {"rope_type": kind, "factor": get("rope.scaling.factor")}
        if kind == "yarn":
            sharper = get("rope.scaling.yarn_log_multiplier")
            scaling |= {
                "original_max_position_embeddings": original,
                "beta_fast": get("rope.scaling.yarn_beta_fast") or 32.0,
                "beta_slow": get("rope.scaling.yarn_beta_slow") or 1.0,
                **({"mscale": sharper * 10, "mscale_all_dim": sharper * 10} if sharper else {}),
            }
    return {
        "rope_scaling": scaling,
        "original_max_position_embeddings": original or values.get("max_position_embeddings"),
        "partial_rotary_factor": turned / head_dim,
    }


def fit_llama3(factors: list[float], theta: float, dim: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Llama 3's settings from the divisors of frequencies it leads to, which is all that a file holds.

    Between the borders 1 / divisor is linear in the frequency, and the line gives the borders; only their ratio to the
    context counts, so the lower one is 1. If that does not give the divisors back, they stay as they are (longrope).
    """
    divisors = torch.tensor(factors, dtype=torch.float64)
    factor = round(float(divisors.max()), 4)
    plain = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    between = (divisors > 1 + 1e-6) & (divisors < factor * (1 - 1e-6))
    if factor > 1 and between.any():
        blend = (1 / divisors[between] - 1 / factor) / (1 - 1 / factor)
        x = plain[between]
        if len(x) > 1:
            slope = float((blend[-1] - blend[0]) / (x[-1] - x[0]))
            high = 1 + float(1 / (slope * x[0] - blend[0]))
        else:  # the published models' upper border
            high = 4.0
            slope = float((blend[0] + 1 / (high - 1)) / x[0])
        rope = RopeConfig(
            theta=theta,
            kind="llama3",
            factor=factor,
            low_factor=1.0,
            high_factor=round(high, 3),
            original_positions=max(1, round(slope * (high - 1) * 2 * math.pi)),
        )
        again = plain / frequencies(rope, dim, 1, 1)[0].double()
        if torch.allclose(again, divisors, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": rope.factor,
                "low_freq_factor": rope.low_factor,
                "high_freq_factor": rope.high_factor,
                "original_max_position_embeddings": rope.original_positions,
            }
    same = list(map(shortest, factors))
    context = values.get("max_position_embeddings", 2048)
    return {
        "rope_type": "longrope",
        "long_factor": same,
        "short_factor": same,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }


def _special(layout: Layout, get: Callable[[str], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What single families name in their own way."""
    heads, hidden = values["num_attention_heads"], values["hidden_size"]
    head_dim = values.get("head_dim") or hidden // heads
    family = layout.families[0]
    if family == "mpt":
        attention = {"alibi_bias_max": get("attention.max_alibi_bias"), "clip_qkv": get("attention.clamp_kqv")}
        ratio = values["intermediate_size"] // hidden
        return {"attn_config": attention, "expansion_ratio": ratio, "no_bias": True}
    if family == "falcon":
        two = layout.how.first_norm == "attn_norm_2"
        newer = two or 1 < values["num_kv_heads"] < heads
        count = (2 if two else 1) if newer else None
        return {"new_decoder_architecture": newer, "num_ln_in_parallel_attn": count, "alibi": False}
    if family == "exaone4":
        # llama.cpp knows the model with windows by its number of layers.
        windowed = values["num_hidden_layers"] == 64
        return {"sliding_window": values.get("sliding_window", 4096) if windowed else None}
    if family == "granite":
        return {"logits_scaling": values.get("logit_scale", 1.0), "attention_multiplier": get("attention.scale") or 0}
    if family in ("gemma2", "gemma3"):
        # llama.cpp knows the largest model of each by its number of layers, and scales as that one does.
        largest = values["num_hidden_layers"] == {"gemma2": 46, "gemma3": 62}[family]
        return {"query_pre_attn_scalar": hidden // heads if largest else head_dim}
    if family.startswith("deepseek"):
        turned = get("rope.dimension_count")
        return {
            "head_dim": None,
            "qk_rope_head_dim": turned,
            "qk_nope_head_dim": get("attention.key_length_mla") - turned,
            "partial_rotary_factor": 1,
            "norm_topk_prob": bool(get("expert_weights_norm")),
        }
    return {}
