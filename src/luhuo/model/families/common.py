"""What the families' files share: tables of keys, checks, stop tokens, activations and rotary settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import Activation, ModelConfig, RopeConfig
from luhuo.model.families.links import Link, rows, same

Values = Mapping[str, Any]
"""A parsed `config.json`."""

LLAMA_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
"""Published key to our field, as most families since Llama name them."""

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}
"""Published name of an activation to ours."""


BLOCK_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
"""Our norms of a block to the published ones, as Llama names them."""
SANDWICH_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_output_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}
"""The four norms of a block, as Gemma 2 names them."""


def read_keys(values: Values, keys: Mapping[str, str]) -> dict[str, Any]:
    """Our fields for the published keys that are there and not null."""
    return {ours: values[theirs] for theirs, ours in keys.items() if values.get(theirs) is not None}


def write_keys(config: ModelConfig, keys: Mapping[str, str]) -> dict[str, Any]:
    """The published keys of our fields."""
    return {theirs: getattr(config, ours) for theirs, ours in keys.items()}


def llama_fields(
    values: Values, *, theta: float = 10_000.0, interleaved: bool = False, keys: Mapping[str, str] = LLAMA_KEYS
) -> dict[str, Any]:
    """Fields of our config for keys named like Llama's; heads fill the width and keys are as many, if not said."""
    head_dim = values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"]
    return {
        "kv_heads": values["num_attention_heads"],
        "tie_embeddings": False,
        **read_keys(values, keys),
        "head_dim": head_dim,
        "rope": read_rope(values, head_dim, theta=theta, interleaved=interleaved),
        "qk_norm": "none",
    }


def llama_values(config: ModelConfig, keys: Mapping[str, str] = LLAMA_KEYS) -> dict[str, Any]:
    """The keys of `config.json` that `llama_fields` reads."""
    return {**write_keys(config, keys), **write_rope(config)}


def read_windows(values: Values, period: int) -> tuple[int, ...]:
    """The window of each layer from `layer_types`, or by default all but every `period`-th (0: none is whole)."""
    layers, window = values["num_hidden_layers"], values.get("sliding_window") or 0
    types = values.get("layer_types")
    if types is not None:
        strange = sorted(set(types) - {"sliding_attention", "full_attention"})
        if strange or len(types) < layers:
            raise LuhuoError(
                tr("layer_types is not supported.", "不支持的 layer_types。"),
                expected=tr(f"{layers} layers, sliding_attention or full_attention", f"{layers} 层，滑动或完整注意力"),
                found=", ".join(strange) or len(types),
            )
        windows = tuple(window if kind == "sliding_attention" else 0 for kind in types[:layers])
    else:
        windows = tuple(window if not period or (layer + 1) % period else 0 for layer in range(layers))
    return windows if any(windows) else ()


def write_windows(config: ModelConfig) -> dict[str, Any]:
    """`sliding_window` and `layer_types`; a model whose layers see everything has no window."""
    kinds = {True: "sliding_attention", False: "full_attention"}
    return {
        "sliding_window": max(config.windows, default=0) or None,
        "layer_types": [kinds[config.window(layer) > 0] for layer in range(config.layers)],
    }


def check(values: Values, only: Mapping[str, Any], family: str) -> None:
    """Raise `LuhuoError` where a key that is present has another value than the only one that is supported."""
    wrong = {key: values[key] for key, value in only.items() if values.get(key, value) not in (value, None)}
    if wrong:
        raise LuhuoError(
            tr(f"This variant of {family} is not supported.", f"不支持这种 {family} 变体。"),
            expected={key: only[key] for key in wrong},
            found=wrong,
        )


def activation(name: str) -> Activation:
    """Our name of a published activation. Raises `LuhuoError` for one that is unknown."""
    if name not in ACTIVATIONS:
        raise LuhuoError(
            tr("Unknown activation function.", "未知的激活函数。"), expected=", ".join(ACTIVATIONS), found=name
        )
    return ACTIVATIONS[name]


def activation_name(ours: Activation) -> str:
    """A published name of one of our activations."""
    return {"gelu_tanh": "gelu_pytorch_tanh"}.get(ours, ours)


def stop_ids(values: Values) -> tuple[int, ...]:
    """The end tokens of a config, which may be absent, one, or a list."""
    stop = values.get("eos_token_id")
    return () if stop is None else tuple(stop) if isinstance(stop, list) else (stop,)


def stop_value(config: ModelConfig) -> int | list[int] | None:
    """The end tokens as a config keeps them."""
    return config.stop_ids[0] if len(config.stop_ids) == 1 else list(config.stop_ids) or None


ROPE_KEYS = {
    "factor": "factor",
    "original_max_position_embeddings": "original_positions",
    "low_freq_factor": "low_factor",
    "high_freq_factor": "high_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "truncate": "truncate",
    "attention_factor": "attention_factor",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "short_factor": "short_factors",
    "long_factor": "long_factors",
}
ROPE_KINDS = {"default": "plain", "mrope": "plain", "su": "longrope"}


def read_rope(values: Values, head_dim: int, *, theta: float = 10_000.0, interleaved: bool = False) -> RopeConfig:
    """Rotary settings of a config, in the style of transformers 4 (`rope_theta`, `rope_scaling`) or 5."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return read_rope_parameters(found, values, head_dim, theta=theta, interleaved=interleaved)


def read_rope_parameters(
    found: Values, values: Values, head_dim: int, *, theta: float = 10_000.0, interleaved: bool = False
) -> RopeConfig:
    """Like `read_rope`, of one given `rope_parameters`; `values` stands in for what it does not say."""
    kind = found.get("rope_type") or found.get("type") or "default"
    kind = ROPE_KINDS.get(kind, kind)
    share = found.get("partial_rotary_factor") or values.get("partial_rotary_factor") or values.get("rotary_pct") or 1
    fields = read_keys(found, ROPE_KEYS) if kind != "plain" else {}
    if values.get("original_max_position_embeddings") and kind == "longrope":
        fields.setdefault("original_positions", values["original_max_position_embeddings"])
    dim = int(head_dim * share)
    return RopeConfig.parse(
        {
            **fields,
            "theta": found.get("rope_theta") or values.get("rope_theta") or values.get("rotary_emb_base") or theta,
            "dim": None if dim == head_dim else dim,
            "interleaved": interleaved,
            "kind": kind,
        },
        where="rope",
    )


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """Rotary settings in both styles, so that transformers 4.57 and 5 read them."""
    rope = config.rope
    found = write_rope_parameters(rope, config.head_dim)
    beside = {"rope_theta", "partial_rotary_factor"}
    values = {
        "rope_theta": rope.theta,
        "rope_scaling": None,
        "rope_parameters": found,
        "partial_rotary_factor": (rope.dim or config.head_dim) / config.head_dim,
    }
    if rope.kind == "longrope":  # Phi-3 of version 4 takes three keys here and no other
        beside |= {"rope_type", "original_max_position_embeddings"}
        values["original_max_position_embeddings"] = rope.original_positions or config.max_positions
    if rope.kind != "plain":
        scaling = {key: value for key, value in found.items() if key not in beside}
        values["rope_scaling"] = {**scaling, "type": found["rope_type"]}
    return values


def write_rope_parameters(rope: RopeConfig, head_dim: int) -> dict[str, Any]:
    """The `rope_parameters` of transformers 5 for one set of rotary settings."""
    found: dict[str, Any] = {"rope_type": "default" if rope.kind == "plain" else rope.kind, "rope_theta": rope.theta}
    if rope.dim is not None:
        found["partial_rotary_factor"] = rope.dim / head_dim
    if rope.kind == "plain":
        return found
    defaults = RopeConfig()
    for theirs, ours in ROPE_KEYS.items():
        value = getattr(rope, ours)
        if value != getattr(defaults, ours) or (theirs == "factor" and rope.kind != "longrope"):
            found[theirs] = list(value) if isinstance(value, tuple) else value
    if rope.kind == "llama3":
        found |= {"low_freq_factor": rope.low_factor, "high_freq_factor": rope.high_factor}
    return found


def read_layer_ropes(values: Values, head_dim: int, *, theta: float, local_theta: float) -> dict[str, RopeConfig]:
    """Rotary settings of whole and of windowed layers; the scaling of the first never holds for the second."""
    nested = values.get("rope_parameters") or {}
    whole = nested.get("full_attention") or values.get("rope_scaling") or {}
    local = nested.get("sliding_attention") or {"rope_theta": values.get("rope_local_base_freq", local_theta)}
    return {
        "rope": read_rope_parameters(whole, values, head_dim, theta=theta),
        "local_rope": read_rope_parameters(local, {}, head_dim, theta=local_theta),
    }


def write_layer_ropes(config: ModelConfig) -> dict[str, Any]:
    """The keys that `read_layer_ropes` reads, in both styles."""
    local = config.local_rope or config.rope
    whole = write_rope_parameters(config.rope, config.head_dim)
    scaling = {key: value for key, value in whole.items() if key != "rope_theta"}
    return {
        "rope_theta": config.rope.theta,
        "rope_local_base_freq": local.theta,
        "rope_scaling": None if config.rope.kind == "plain" else scaling,
        "rope_parameters": {
            "full_attention": whole,
            "sliding_attention": write_rope_parameters(local, config.head_dim),
        },
    }


def llama_links(
    config: ModelConfig,
    *,
    prefix: str = "model.",
    qk_norm: bool = False,
    norms: Mapping[str, str] = BLOCK_NORMS,
    mlp: Callable[[ModelConfig, str, str], Iterable[Link]] | None = None,
) -> Iterator[Link]:
    """The tensors of a Llama-like decoder with separate projections; biases where the config has them.

    `norms` names the norms of a block; `mlp(config, ours, theirs)` gives the links of an MLP with other tensors.
    """
    yield same("embedding", prefix + "embed_tokens.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"{prefix}layers.{layer}."
        yield from (same(f"{ours}{norm}.weight", f"{theirs}{name}.weight") for norm, name in norms.items())
        yield from attention_links(config, ours + "attention.", theirs + "self_attn.", qk_norm=qk_norm)
        yield from (mlp or mlp_links)(config, ours + "mlp.", theirs + "mlp.")
    yield same("norm.weight", prefix + "norm.weight")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")


def attention_links(config: ModelConfig, ours: str, theirs: str, *, qk_norm: bool = False) -> Iterator[Link]:
    """q_proj, k_proj, v_proj and o_proj of one layer."""
    for kind in ["weight", "bias"] if config.qkv_bias else ["weight"]:
        names = [f"{theirs}{name}_proj.{kind}" for name in "qkv"]
        yield rows(f"{ours}qkv.{kind}", zip(names, config.qkv_rows, strict=True))
    yield same(ours + "out.weight", theirs + "o_proj.weight")
    if config.out_bias:
        yield same(ours + "out.bias", theirs + "o_proj.bias")
    if qk_norm:
        yield same(ours + "q_norm.weight", theirs + "q_norm.weight")
        yield same(ours + "k_norm.weight", theirs + "k_norm.weight")


def mlp_links(config: ModelConfig, ours: str, theirs: str, inner: int | None = None) -> Iterator[Link]:
    """gate_proj, up_proj and down_proj of a gated MLP of width `inner`."""
    inner = config.intermediate_size if inner is None else inner
    for kind in ["weight", "bias"] if config.mlp_bias else ["weight"]:
        names = [(f"{theirs}gate_proj.{kind}", inner), (f"{theirs}up_proj.{kind}", inner)]
        yield rows(f"{ours}gate_up.{kind}", names)
        yield same(f"{ours}down.{kind}", f"{theirs}down_proj.{kind}")


def fused_mlp_links(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    """gate_up_proj, which is ours already, and down_proj."""
    for kind in ["weight", "bias"] if config.mlp_bias else ["weight"]:
        yield same(f"{ours}gate_up.{kind}", f"{theirs}gate_up_proj.{kind}")
        yield same(f"{ours}down.{kind}", f"{theirs}down_proj.{kind}")


def plain_mlp_links(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    """up_proj and down_proj of an MLP without gate."""
    for kind in ["weight", "bias"] if config.mlp_bias else ["weight"]:
        yield same(f"{ours}up.{kind}", f"{theirs}up_proj.{kind}")
        yield same(f"{ours}down.{kind}", f"{theirs}down_proj.{kind}")
