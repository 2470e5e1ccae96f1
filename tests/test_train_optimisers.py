"""Optimisers: the published rules number by number, every parameter in one group, exact resume, any way of sharing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from luhuo.core.artifact import Workspace
from luhuo.core.errors import LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.ema import Average
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser
from luhuo.train.optimisers.eight_bit import Codes, decode, encode
from luhuo.train.optimisers.groups import group, sort_parameters
from luhuo.train.optimisers.muon import orthogonalise
from luhuo.train.pieces import Cut, Split, note
from luhuo.train.trainer import Trainer
from tests.golden import EXPERTS, PLAIN, Corpus
from tests.test_model_decoder import CONFIG
from tests.test_model_encoder import SHAPES as ENCODERS
from tests.test_model_encoder import SMALL as ENCODER
from tests.test_model_encoder_decoder import SHAPES as TWO_STACKS
from tests.test_model_shared_layers import LINEAR

EXPERT_STACK = ModelConfig(
    **{**PLAIN, "layers": 1, "family": "qwen3_moe", "moe": MoEConfig(experts=4, active=2, intermediate_size=16)}
)
OPTIMISERS = ("muon", "adamw", "lion", "adafactor", "adamw8", "lion8")


def models() -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {
        "plain": Decoder(CONFIG),
        "untied": Decoder(CONFIG.model_copy(update={"tie_embeddings": False})),
        "experts, latent attention, two tokens": Decoder(ModelConfig(**EXPERTS)),
        "linear attention": Decoder(LINEAR),
    }
    found |= {f"encoder, {n}": Encoder(EncoderConfig.parse({**ENCODER, **kind})) for n, kind in ENCODERS.items()}
    return found | {n: EncoderDecoder(EncoderDecoderConfig.parse(kind)) for n, kind in TWO_STACKS.items()}


MODELS = models()


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_exactly_one_group_and_every_optimiser_takes_it(name: str) -> None:
    trained = {key: p for key, p in MODELS[name].named_parameters() if p.requires_grad}
    groups = sort_parameters(MODELS[name])
    assert sorted(key for members in groups.values() for key in members) == sorted(trained)
    assert all(p.ndim > 1 for key in ("embedding", "head", "routers", "matrices") for p in groups[key].values())
    assert not any("norm" in key or key.endswith("bias") for key in groups["matrices"])
    for optimiser in OPTIMISERS:
        for p in trained.values():
            p.data = torch.zeros_like(p)
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        Optimiser(MODELS[name], TrainerConfig(steps=1, optimiser=optimiser)).step(1.0)
        still = [key for key, p in trained.items() if not (p.isfinite().all() and (p != 0).float().mean() > 0.9)]
        assert not still, optimiser


def test_embeddings_heads_routers_norms_and_biases_do_not_decay() -> None:
    groups = {each.name: each for each in group(MODELS["untied"], TrainerConfig(steps=1))}
    assert set(groups["embedding"].parameters) == {"embedding"}
    assert set(groups["head"].parameters) == {"unembedding.weight"}
    assert {name for name, each in groups.items() if each.decay} == {"matrices"}
    assert groups["embedding"].rate == pytest.approx(3 * groups["matrices"].rate)
    experts = sort_parameters(MODELS["experts, latent attention, two tokens"])
    assert set(experts["routers"]) == {"blocks.1.mlp.router.weight", "mtp.0.block.mlp.router.weight"}
    labels = sort_parameters(MODELS["encoder, disentangled"])
    assert "text_labels.out.weight" in labels["head"] and "stack.convolution.weight" in labels["matrices"]


class Bare(nn.Module):
    """A few parameters with gradients; what is called `plain` is a matrix, `norm` a vector."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        for index, shape in enumerate(shapes):
            name = f"plain{index}" if len(shape) > 1 else f"vector{index}"
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=random)))

    def gradients(self, step: int) -> None:
        random = torch.Generator().manual_seed(100 + step)
        for p in self.parameters():
            p.grad = torch.randn(p.shape, generator=random) * 10 ** torch.randn(p.shape, generator=random)


def compared(mine: dict[str, Any], theirs: torch.optim.Optimizer, other: nn.Module, model: nn.Module) -> float:
    """The largest difference of two models after ten steps, the second one's by a published implementation."""
    optimiser = Optimiser(model, TrainerConfig(**{"steps": 10, "embedding_rate": 1.0, **mine}))
    for step in range(10):
        model.gradients(step)  # type: ignore[operator]
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert p.grad is not None
            q.grad = p.grad.clone()
        optimiser.step(1.0)
        theirs.step()
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def test_adamw_is_pytorchs_to_the_last_digits() -> None:
    model, other = Bare((8, 300), (5, 7)), Bare((8, 300), (5, 7))
    theirs = torch.optim.AdamW(other.parameters(), 0.01, (0.9, 0.95), 1e-10, 0.1, foreach=False, fused=False)
    assert compared({"optimiser": "adamw", "learning_rate": 0.01}, theirs, other, model) < 1e-6


@pytest.mark.parametrize(("scale", "published"), [("spectral", "original"), ("rms", "match_rms_adamw")])
def test_muon_is_the_published_one(scale: str, published: str) -> None:
    shapes = ((24, 40), (40, 24), (16, 16))
    model, other = Bare(*shapes), Bare(*shapes)
    theirs = torch.optim.Muon(other.parameters(), 0.01, 0.1, adjust_lr_fn=published)
    # Newton-Schulz is in bf16 on both sides, and PyTorch's momentum is 1 - 0.95 times ours.
    assert compared({"learning_rate": 0.01, "muon_scale": scale}, theirs, other, model) < 2e-3


def test_muon_takes_fused_projections_experts_and_convolutions_for_the_matrices_they_are() -> None:
    model = MODELS["experts, latent attention, two tokens"]
    config = TrainerConfig(steps=1, learning_rate=1.0, weight_decay=0.0, muon_scale="spectral")
    taken = {
        "blocks.0.attention.kv_down.weight": (8, 4),
        "blocks.0.mlp.gate_up.weight": (64, 64),
        "blocks.1.mlp.experts.gate_up": (32, 32),
    }
    for name, split in taken.items():
        p = model.get_parameter(name)
        for each in model.parameters():
            each.data = torch.zeros_like(each)
            each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(each.numel()))
        gradient = p.grad
        assert gradient is not None
        Optimiser(model, config).step(1.0)
        for matrices, moved in zip(gradient.split(split, -2), p.detach().split(split, -2), strict=True):
            alone = orthogonalise(matrices.reshape(-1, *matrices.shape[-2:])).float()
            alone = alone * max(1.0, matrices.shape[-2] / matrices.shape[-1]) ** 0.5
            torch.testing.assert_close(-moved.reshape(alone.shape), alone, rtol=0, atol=2e-2)
    encoder = MODELS["encoder, disentangled"]
    kernel = encoder.get_parameter("stack.convolution.weight")
    for each in encoder.parameters():
        each.data = torch.zeros_like(each)
        each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(each.numel()))
    Optimiser(encoder, config).step(1.0)
    values = torch.linalg.svdvals(kernel.detach().flatten(1))
    assert values.min() > 0.4
    assert values.max() < 1.35


def test_lion_is_the_published_one() -> None:
    model = Bare((6, 50), (30,))
    weights = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    momenta = {name: torch.zeros_like(w) for name, w in weights.items()}
    optimiser = Optimiser(
        model, TrainerConfig(steps=10, optimiser="lion", learning_rate=0.01, embedding_rate=2.0, betas=(0.95, 0.98))
    )
    for step in range(10):
        model.gradients(step)
        for name, p in model.named_parameters():
            assert p.grad is not None
            rate, decay = (0.01, 0.1) if p.ndim > 1 else (0.02, 0.0)
            direction = (0.95 * momenta[name] + 0.05 * p.grad.double()).sign()
            weights[name] = weights[name] - rate * (direction + decay * weights[name])
            momenta[name] = 0.98 * momenta[name] + 0.02 * p.grad.double()
        optimiser.step(1.0)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach().double(), weights[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("relative", "decay"), [(False, 0.1), (True, 0.0)])
def test_adafactor_is_that_of_transformers(relative: bool, decay: float) -> None:
    published = pytest.importorskip("transformers.optimization", reason="transformers is the published reference")
    shapes = ((12, 30), (40, 8), (25,))
    model, other = Bare(*shapes), Bare(*shapes)
    kinds = [
        {"params": [p for p in other.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in other.parameters() if p.ndim == 1]},
    ]
    theirs = published.Adafactor(kinds, lr=0.01, relative_step=False, scale_parameter=relative)
    mine = {"optimiser": "adafactor", "learning_rate": 0.01, "relative": relative, "weight_decay": decay}
    assert compared(mine, theirs, other, model) < 1e-5


def test_adafactor_moves_each_matrix_of_a_stack_as_if_it_were_alone() -> None:
    config = TrainerConfig(steps=5, optimiser="adafactor", learning_rate=0.01, relative=True)
    stack, alone = Bare((3, 8, 12)), Bare((8, 12))
    stack.gate_up, alone.up = stack.plain0, alone.plain0  # as experts call them
    alone.plain0.data = stack.plain0.data[1].clone()
    moving, moving_alone = Optimiser(stack, config), Optimiser(alone, config)
    for step in range(5):
        stack.gradients(step)
        assert stack.plain0.grad is not None
        alone.plain0.grad = stack.plain0.grad[1].clone()
        moving.step(1.0)
        moving_alone.step(1.0)
    torch.testing.assert_close(stack.plain0[1], alone.plain0, rtol=0, atol=1e-6)


def test_eight_bits_keep_numbers_to_a_share_of_their_size_and_never_lose_a_second_moment() -> None:
    random = torch.Generator().manual_seed(0)
    for columns in (300, 256, 40, 1):
        numbers = torch.randn(6, columns, generator=random) * 10 ** torch.randn(6, columns, generator=random)
        numbers[0] = 0
        codes = Codes(numbers, signed=True)
        encode(numbers, *codes.tensors)
        back = decode(*codes.tensors)
        width = -(-columns // codes.blocks)
        largest = codes.tensors[1].repeat_interleave(width, 1)[:, :columns]
        # The distance of neighbouring codes is 2·√(x·largest) / 127.
        assert ((back - numbers).abs() <= (numbers.abs() * largest).sqrt() / 127 + largest / 127**2).all()
        assert not back[0].any()
        positive = Codes(numbers, signed=False)
        encode(numbers.abs(), *positive.tensors)
        assert (decode(*positive.tensors)[1:] > 0).all()


def test_eight_bits_refuse_rows_that_are_cut() -> None:
    model = Bare((4, 8))
    note(model.plain0, Cut(split=Split(1, (8,), 2)))
    for optimiser in ("adamw8", "lion8"):
        with pytest.raises(LuhuoError, match="tensor parallelism"):
            Optimiser(model, TrainerConfig(steps=1, optimiser=optimiser))


@pytest.mark.parametrize(("optimiser", "whole"), [("adamw8", "adamw"), ("lion8", "lion")])
def test_the_loss_with_states_of_eight_bits_is_that_with_whole_ones(
    tmp_path: Path, optimiser: str, whole: str
) -> None:
    curves = []
    for name in (optimiser, whole):
        out = Workspace(tmp_path / name, MetricsLog(tmp_path / f"{name}.jsonl"))
        out.path.mkdir()
        rate = 0.02 if whole == "adamw" else 0.003
        config = TrainerConfig(steps=50, learning_rate=rate, dtype="fp32", checkpoint_every_s=0, optimiser=name)
        Trainer(initialise(Decoder(ModelConfig(**PLAIN)), 0), CausalLM(), Corpus(), config, out).run()
        curves.append(torch.tensor([row["loss"] for row in out.metrics.read()]))
    assert curves[1][-5:].mean() < 0.4 * curves[1][0]
    assert (curves[0] - curves[1]).abs().mean() < 0.02
    assert not torch.equal(*curves)


@pytest.mark.parametrize(
    ("optimiser", "matrices"), [("muon", 4), ("adamw", 8), ("lion", 4), ("adafactor", 0.1), ("adamw8", 2.1)]
)
def test_the_state_takes_the_bytes_that_are_told(optimiser: str, matrices: float) -> None:
    model = Bare((256, 512), (512, 256))
    found = Optimiser(model, TrainerConfig(steps=1, optimiser=optimiser))
    assert found.state_bytes() / (2 * 256 * 512) == pytest.approx(matrices, abs=0.1)
    assert f"{found.state_bytes() / (2 * 256 * 512):.1f} bytes" in found.table()


def test_the_table_has_a_line_for_every_group_with_its_rate_and_all_parameters() -> None:
    model = MODELS["experts, latent attention, two tokens"]
    table = Optimiser(model, TrainerConfig(steps=1, learning_rate=0.002)).table()
    lines = {line.split()[0]: line.split() for line in table.splitlines()[:-1]}
    assert {name: (words[2], words[4]) for name, words in lines.items()} == {
        "embedding": ("adamw", "0.006"),
        "vectors": ("adamw", "0.006"),
        "routers": ("adamw", "0.002"),
        "matrices": ("muon", "0.002"),
    }
    counted = sum(int(words[1].replace(",", "")) for words in lines.values())
    assert counted == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_parameter_without_a_gradient_stays_where_it_is() -> None:
    for optimiser in OPTIMISERS:
        model = Bare((8, 8), (4, 9), (5,))
        model.gradients(0)
        model.plain1.grad = None
        before: Tensor = model.plain1.detach().clone()
        Optimiser(model, TrainerConfig(steps=1, optimiser=optimiser)).step(1.0)
        assert torch.equal(model.plain1, before), optimiser


def test_decay_is_decoupled_from_the_gradient() -> None:
    for optimiser in OPTIMISERS:
        moved = []
        for decay in (0.0, 0.5):
            model = Bare((16, 16))
            before = model.plain0.detach().clone()
            model.gradients(0)
            config = TrainerConfig(steps=1, optimiser=optimiser, learning_rate=0.1, weight_decay=decay)
            Optimiser(model, config).step(0.5)
            moved.append(model.plain0.detach())
        torch.testing.assert_close(moved[0] - moved[1], 0.1 * 0.5 * 0.5 * before, rtol=0, atol=1e-6, msg=optimiser)


def test_averaged_weights_follow_their_formula() -> None:
    model = Bare((3, 4))
    average, expected = Average(model, 0.9), model.plain0.detach().clone()
    for step in range(1, 40):
        model.plain0.data += step
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.plain0.detach()
    torch.testing.assert_close(average.weights["plain0"], expected)
    with average.in_place(model):
        torch.testing.assert_close(model.plain0.detach(), expected)
    assert not torch.allclose(model.plain0, expected)
