"""Hunyuan: dense (0.5B to 7B), with experts (A13B), and Large (A52B), where pairs of layers share keys and values.

Keys and queries are normalised after the rotation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.families.common import (
    Values,
    activation,
    activation_name,
    attention_links,
    check,
    llama_fields,
    llama_values,
)
from luhuo.model.families.experts import expert_links, read_experts, sparse_links
from luhuo.model.families.links import Link, same

DENSE, EXPERTS, LARGE = "HunYuanDenseV1ForCausalLM", "HunYuanMoEV1ForCausalLM", "HunYuanForCausalLM"
ARCHITECTURES = (DENSE, EXPERTS, LARGE)
DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "rms_norm_eps": 1e-05}
ONLY = {"mlp_bias": False, "use_qk_norm": True, "norm_topk_prob": True}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "Hunyuan")
    bias = bool(values.get("attention_bias"))
    large = LARGE in values["architectures"]
    sparse = EXPERTS in values["architectures"] or (large and (values.get("num_experts") or 1) != 1)
    return {
        **llama_fields(_stretched(values)),
        "qk_norm": "head",
        "qk_norm_after_rope": True,
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": activation(values.get("hidden_act", "silu")),
        "kv_share": values.get("cla_share_factor", 2) if values.get("use_cla") else 1,
        "moe": _read_experts(values, large) if sparse else None,
    }


def _stretched(values: Values) -> Values:
    """Settings in which a fixed `alpha` of “dynamic” scaling is taken into the base: its frequencies never change."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    alpha = rope.get("alpha")
    if not alpha:
        return values
    dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    theta = rope.get("rope_theta") or values.get("rope_theta") or 10_000.0
    return {**values, "rope_parameters": {"rope_theta": theta * alpha ** (dim / (dim - 2))}}


def _read_experts(values: Values, large: bool) -> MoEConfig:
    """The experts; Large weighs the single expert of a token by its probability, which is not made one."""
    inner = _same_everywhere(values, "moe_intermediate_size", values["intermediate_size"])
    shared = _same_everywhere(values, "num_shared_expert", 1) if values.get("use_mixed_mlp_moe", True) else 0
    active = _same_everywhere(values, "moe_topk", 1)
    return read_experts(
        values,
        {"router_aux_loss_coef": "balance"},
        normalise=active > 1 or not large,
        experts=_same_everywhere(values, "num_experts", 1),
        active=active,
        intermediate_size=inner,
        shared_size=shared * values["intermediate_size"],
    )


def _same_everywhere(values: Values, key: str, default: int) -> int:
    """A number that may be given for each layer, but has to be the same in all."""
    found = values.get(key)
    if found is None:
        return default
    numbers = set(found[: values["num_hidden_layers"]]) if isinstance(found, list) else {found}
    if len(numbers) != 1:
        raise LuhuoError(
            tr(f"{key} differs between layers, which is not supported.", f"不支持各层不同的 {key}。"), found=found
        )
    return numbers.pop()


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    values = {
        "model_type": "hunyuan_v1_dense",
        **llama_values(config),
        "hidden_act": activation_name(config.activation),
        "attention_bias": config.qkv_bias,
        "use_qk_norm": True,
    }
    moe = config.moe
    large = config.kv_share > 1 or (moe is not None and not moe.normalise)
    if large:
        shared = {"use_cla": config.kv_share > 1, "cla_share_factor": config.kv_share}
        values |= {"architectures": [LARGE], "model_type": "hunyuan", **shared}
    elif moe is not None:
        values |= {"architectures": [EXPERTS], "model_type": "hunyuan_v1_moe"}
    if moe is None:
        return values
    return {
        **values,
        "num_experts": moe.experts,
        "moe_topk": moe.active,
        "moe_intermediate_size": moe.intermediate_size,
        "use_mixed_mlp_moe": moe.shared_size > 0,
        "num_shared_expert": moe.shared_size // config.intermediate_size,
        "norm_topk_prob": True,
        "router_aux_loss_coef": moe.balance,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return sparse_links(config, _experts, attention=_attention)


def _attention(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    layer = int(ours.split(".")[1])
    if config.kv_source(layer) == layer:
        yield from attention_links(config, ours, theirs)
    else:
        for name, published, biased in (("query", "q_proj", config.qkv_bias), ("out", "o_proj", config.out_bias)):
            for kind in ["weight", "bias"] if biased else ["weight"]:
                yield same(f"{ours}{name}.{kind}", f"{theirs}{published}.{kind}")
    yield same(ours + "q_norm.weight", theirs + "query_layernorm.weight")
    yield same(ours + "k_norm.weight", theirs + "key_layernorm.weight")


def _experts(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    return expert_links(config, ours, theirs, router="gate.wg", shared="shared_mlp.")
