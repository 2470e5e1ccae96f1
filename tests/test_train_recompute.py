"""Activation checkpointing: less is kept, and not a bit of any gradient changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.model.block import Block
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.initialise import initialise
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.recompute import Recompute
from luhuo.model.stack_config import StackConfig
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.trainer import Trainer
from tests.test_train_trainer import SmallLoader

PLAIN: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
}
MLA = MLAConfig(q_rank=16, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=8)
MOE = MoEConfig(
    experts=4, active=2, intermediate_size=32, shared_size=32, correction=True, score="sigmoid", balance=0.1
)
DECODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "windows, post-norm": {"block": "post", "windows": (0, 8, 8)},
    "parallel, plain feed-forward": {"block": "parallel", "gated": False, "activation": "gelu"},
    "shared keys": {"kv_share": 2, "qk_norm_after_rope": True},
    "linear attention": {"linear_layers": (0, 2), "kv_heads": 4},
    "scaled": {"root_scaled": True},
    "latent attention, experts, two tokens": {
        **{"family": "deepseek_v3", "kv_heads": 4, "head_dim": 12, "qk_norm": "none"},
        **{"mla": MLA, "moe": MOE, "mtp_layers": 1},
    },
}
MODES: tuple[Recompute, ...] = ("none", "selective", "full")


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 97, (3, 25), generator=generator)
    segments = torch.ones_like(ids)
    segments[:, 9:], segments[1, 20:] = 2, 0
    return {"ids": ids, "segments": segments}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def decoder_pass(changes: dict[str, Any], mode: Recompute, dtype: torch.dtype | None = None) -> tuple[Any, ...]:
    model = initialise(Decoder(ModelConfig(**{**PLAIN, **changes})), 0).train().compute_in(dtype)
    model.recompute = mode
    loss, weight, _ = CausalLM().loss(model, batch())
    (loss / weight).backward()
    return loss.item(), gradients(model), model.expert_load()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_every_gradient_of_a_decoder_is_the_same_bit_for_bit(name: str, dtype: torch.dtype | None) -> None:
    loss, expected, load = decoder_pass(DECODERS[name], "none", dtype)
    for mode in ("selective", "full"):
        again, found, counted = decoder_pass(DECODERS[name], mode, dtype)
        assert again == loss
        assert same(found, expected)
        assert (load is None) == (counted is None)
        assert load is None or torch.equal(load, counted)


def test_experts_count_each_token_once_however_often_it_is_routed() -> None:
    model = initialise(Decoder(ModelConfig(**{**PLAIN, "moe": MOE})), 0).train()
    model.recompute = "full"
    loss, _, _ = CausalLM().loss(model, batch())
    before = [layer.load.clone() for layer in model.expert_layers() if layer.load is not None]
    loss.backward()
    assert len(before) == 3
    for layer, load in zip(model.expert_layers(), before, strict=True):
        assert layer.load is not None and torch.equal(layer.load, load)


def encoder() -> Encoder:
    config = EncoderConfig(
        family="bert", vocab_size=97, hidden_size=32, layers=3, heads=4, head_dim=8, intermediate_size=64
    )
    return initialise_stack(Encoder(config), 0)


def encoder_decoder() -> EncoderDecoder:
    half = StackConfig(hidden_size=32, layers=2, heads=4, head_dim=8, intermediate_size=64)
    return initialise_stack(
        EncoderDecoder(EncoderDecoderConfig(family="t5", vocab_size=97, encoder=half, decoder=half)), 0
    )


@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
def test_so_it_is_for_encoders_and_encoder_decoders(kind: str) -> None:
    found = []
    ids, segments = batch()["ids"], batch()["segments"]
    for mode in MODES:
        if kind == "encoder":
            model = encoder().train()
            model.recompute = mode
            hidden = model.hidden(ids, segments=segments)
        else:
            model = encoder_decoder().train()
            model.recompute = mode
            hidden = model.hidden(ids, ids[:, :12], segments=segments, decoder_segments=segments[:, :12])
        hidden.square().sum().backward()
        found.append(gradients(model))
    assert len(found[0]) > 20
    assert same(found[0], found[1]) and same(found[0], found[2])


def kept_bytes(mode: Recompute) -> int:
    """Bytes that a forward pass keeps for its backward pass, parameters apart."""
    model = initialise(Decoder(ModelConfig(**PLAIN)), 0).train()
    model.recompute = mode
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.hidden(batch()["ids"])
    assert hidden.requires_grad
    return sum(seen.values())


def test_full_keeps_less_than_selective_and_that_less_than_none() -> None:
    none, selective, full = (kept_bytes(mode) for mode in MODES)
    assert full < 0.6 * selective
    assert selective < 0.8 * none


def test_nothing_is_computed_again_outside_training() -> None:
    model = initialise(Decoder(ModelConfig(**PLAIN)), 0).eval()
    model.recompute = "full"
    calls: list[int] = []
    for block in model.blocks:
        block.register_forward_hook(lambda *_: calls.append(1))
    model.hidden(batch()["ids"]).sum().backward()
    assert len(calls) == PLAIN["layers"]


class Noisy(nn.Module):
    """A feed-forward part with dropout."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.inner(x), 0.5, self.training)


def test_dropout_falls_on_the_same_features_again() -> None:
    found = []
    for mode in MODES:
        model = initialise(Decoder(ModelConfig(**PLAIN)), 0).train()
        for block in model.blocks:
            assert isinstance(block, Block)
            block.mlp = Noisy(block.mlp)  # type: ignore[assignment]
        model.recompute = mode
        torch.manual_seed(3)
        CausalLM().loss(model, batch())[0].backward()
        found.append((gradients(model), torch.get_rng_state()))
    assert all(same(found[0][0], grads) for grads, _ in found[1:])
    assert all(torch.equal(found[0][1], state) for _, state in found[1:])


def test_a_training_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    ends = []
    for mode in MODES:
        model = initialise(Decoder(ModelConfig(**PLAIN)), 0)
        folder = tmp_path / mode
        folder.mkdir()
        out = Workspace(folder, MetricsLog(folder / "metrics.jsonl"))
        config = TrainerConfig(steps=3, dtype="bf16", recompute=mode, micro_batch=3, checkpoint_every_s=0)
        Trainer(model, CausalLM(), SmallLoader(), config, out).run()
        ends.append(dict(model.named_parameters()))
    assert same(ends[0], ends[1]) and same(ends[0], ends[2])
