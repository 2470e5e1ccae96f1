"""What the families with a mixture of experts share: tables of keys, and the tensors of routers and experts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.families.common import BLOCK_NORMS, Values, attention_links, mlp_links, read_keys
from luhuo.model.families.links import Link, same, stacked

EXPERT_KEYS = {
    "num_experts": "experts",
    "num_experts_per_tok": "active",
    "moe_intermediate_size": "intermediate_size",
    "norm_topk_prob": "normalise",
    "router_aux_loss_coef": "balance",
}
"""Published key to our field, as Qwen names them."""

Links = Callable[[ModelConfig, str, str], Iterable[Link]]
"""Links of a part: (config, our prefix, published prefix)."""


def read_experts(values: Values, keys: Mapping[str, str] = EXPERT_KEYS, **fields: Any) -> MoEConfig:
    """The experts of a config; `fields` are those that no key says."""
    return MoEConfig.parse({**fields, **read_keys(values, keys)}, where="moe")


def write_experts(config: ModelConfig, keys: Mapping[str, str] = EXPERT_KEYS) -> dict[str, Any]:
    """The published keys of the experts."""
    return {theirs: getattr(moe_of(config), ours) for theirs, ours in keys.items()}


def moe_of(config: ModelConfig) -> MoEConfig:
    """The experts of a model that has them."""
    assert config.moe is not None, f"{config.family} without experts"
    return config.moe


def sparse_links(
    config: ModelConfig,
    experts: Links,
    *,
    feed: str = "mlp.",
    attention: Links = attention_links,
    norms: Mapping[str, str] = BLOCK_NORMS,
) -> Iterator[Link]:
    """The tensors of a Llama-like decoder in which some layers have experts, published under the name `feed`."""
    yield same("embedding", "model.embed_tokens.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        yield from block_links(config, ours, theirs, attention, norms)
        sparse = config.sparse(layer)
        yield from (experts if sparse else mlp_links)(config, ours + "mlp.", theirs + (feed if sparse else "mlp."))
    for kind in ["weight", "bias"] if config.norm_bias else ["weight"]:
        yield same(f"norm.{kind}", f"model.norm.{kind}")
    if not config.tie_embeddings:
        yield same("unembedding.weight", "lm_head.weight")
    if config.head_bias:
        yield same("head_bias", "lm_head.bias")


def block_links(
    config: ModelConfig, ours: str, theirs: str, attention: Links, norms: Mapping[str, str] = BLOCK_NORMS
) -> Iterator[Link]:
    """Norms and attention of one block."""
    for kind in ["weight", "bias"] if config.norm_bias else ["weight"]:
        yield from (same(f"{ours}{norm}.{kind}", f"{theirs}{name}.{kind}") for norm, name in norms.items())
    yield from attention(config, ours + "attention.", theirs + "self_attn.")


def expert_links(
    config: ModelConfig,
    ours: str,
    theirs: str,
    *,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    router: str = "gate",
    correction: str = "gate.e_score_correction_bias",
    shared: str = "shared_experts.",
) -> Iterator[Link]:
    """Router, experts (a tensor for each projection of each expert) and the shared expert of one layer."""
    moe = moe_of(config)
    yield same(ours + "router.weight", f"{theirs}{router}.weight")
    if moe.correction:
        yield same(ours + "router.correction", theirs + correction)
    gate, up, down = names
    each = [f"{theirs}experts.{expert}." for expert in range(moe.experts)]
    inner = moe.intermediate_size
    yield stacked(ours + "experts.gate_up", [(f"{e}{gate}.weight", f"{e}{up}.weight") for e in each], (inner, inner))
    yield stacked(ours + "experts.down", [(f"{e}{down}.weight",) for e in each], (config.hidden_size,))
    if moe.shared_size:
        yield from mlp_links(config, ours + "shared.", theirs + shared, moe.shared_size)


def mtp_links(config: ModelConfig, experts: Links, attention: Links) -> Iterator[Link]:
    """Blocks of multi-token prediction, published as further layers behind the last."""
    for depth in range(config.mtp_layers):
        ours, theirs = f"mtp.{depth}.", f"model.layers.{config.layers + depth}."
        names = {"embedding_norm": "enorm", "hidden_norm": "hnorm", "merge": "eh_proj", "norm": "shared_head.norm"}
        yield from (same(f"{ours}{own}.weight", f"{theirs}{name}.weight") for own, name in names.items())
        yield from block_links(config, ours + "block.", theirs, attention)
        feed = experts if config.sparse(config.layers - 1) else mlp_links
        yield from feed(config, ours + "block.mlp.", theirs + "mlp.")
