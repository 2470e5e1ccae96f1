"""Mixture of experts: routing, the experts' products and their gradients, and the two ways to an even load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.model import moe
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.count import active_parameters, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.moe import MoE, balance_loss, choose
from luhuo.model.save import save
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser
from luhuo.train.optimisers.groups import sort_parameters

EXPERTS = MoEConfig(experts=8, active=3, intermediate_size=12)
CONFIG = ModelConfig(
    vocab_size=61, hidden_size=16, layers=2, heads=2, kv_heads=1, head_dim=8, intermediate_size=24, moe=EXPERTS
)
EVERYTHING = {
    "shared_size": 10,
    "shared_gate": True,
    "score": "sigmoid",
    "scale": 1.7,
    "correction": True,
    "groups": 4,
    "active_groups": 2,
    "group_score": "top2",
    "router_bias": True,
    "router_softcap": 3.0,
    "expert_bias": True,
    "limit": 0.8,
}


def with_experts(**changes: object) -> ModelConfig:
    return ModelConfig.parse({**CONFIG.model_dump(), "moe": {**EXPERTS.model_dump(), **changes}})


def random_layer(config: ModelConfig) -> MoE:
    torch.manual_seed(0)
    layer = MoE(config)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5)
    return layer


def random_states(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def plain(layer: MoE, x: Tensor) -> Tensor:
    """The definition, one token and one expert at a time."""
    experts, rows = layer.experts, []
    weights, chosen, _ = layer.router(x.flatten(0, 1))
    for token, share, picked in zip(x.flatten(0, 1), weights, chosen, strict=True):
        total = torch.zeros_like(token)
        for weight, index in zip(share, picked.tolist(), strict=True):
            both = experts.gate_up[index] @ token
            if experts.gate_up_bias is not None:
                both = both + experts.gate_up_bias[index]
            gate, up = both.chunk(2)
            if experts.limit:
                gate, up = gate.clamp(max=experts.limit), up.clamp(-experts.limit, experts.limit) + 1
            answer = experts.down[index] @ (F.silu(gate) * up)
            total = total + weight * (answer if experts.down_bias is None else answer + experts.down_bias[index])
        rows.append(total)
    mixed = torch.stack(rows).view_as(x)
    if layer.shared is None:
        return mixed
    common = layer.shared(x)
    return mixed + (common if layer.shared_gate is None else torch.sigmoid(layer.shared_gate(x)) * common)


@pytest.mark.parametrize("changes", [{}, EVERYTHING, {"experts": 40, "active": 1}], ids=["plain", "all", "unused"])
def test_sorted_products_equal_the_definition_with_their_gradients(changes: dict[str, object]) -> None:
    layer = random_layer(with_experts(**changes))
    leaves = [random_states(2, 9, 16).requires_grad_(), *(p for p in layer.parameters() if p.requires_grad)]
    found, expected = layer(leaves[0]), plain(layer, leaves[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    slope = random_states(*expected.shape)
    mine, theirs = (torch.autograd.grad(value, leaves, slope, materialize_grads=True) for value in (found, expected))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_grouped_kernel_is_called_as_the_loop_over_experts_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 16, generator=generator).bfloat16().requires_grad_()
    weight = torch.randn(4, 24, 16, generator=generator).bfloat16().requires_grad_()
    counts, slope = torch.tensor([5, 0, 9, 6]), torch.randn(20, 24, generator=generator).bfloat16()
    found = []
    for kernel in (False, True):
        monkeypatch.setattr(moe, "_has_grouped_product", lambda *_, kernel=kernel: kernel)
        result = moe.grouped_linear(x, weight, counts)
        found.append([result, *torch.autograd.grad(result, [x, weight], slope)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_no_token_is_dropped_when_all_want_the_same_experts() -> None:
    layer = random_layer(with_experts(router_bias=True))
    with torch.no_grad():
        layer.router.bias[:3] += 1000  # type: ignore[index]
    x = random_states(1, 50, 16)
    _, chosen, _ = layer.router(x[0])
    assert set(chosen.flatten().tolist()) == {0, 1, 2}
    torch.testing.assert_close(layer(x), plain(layer, x), rtol=1e-4, atol=1e-5)


def test_softmax_weights_are_those_of_the_chosen_experts_normalised_or_not() -> None:
    logits = random_states(5, 8)
    shares = logits.softmax(-1)
    weights, chosen, _ = choose(logits, EXPERTS.model_copy(update={"normalise": False}))
    torch.testing.assert_close(weights, shares.gather(1, chosen))
    assert torch.equal(chosen, shares.topk(3).indices)
    normalised, _, _ = choose(logits, EXPERTS)
    torch.testing.assert_close(normalised, logits.gather(1, chosen).softmax(-1))
    scaled, _, _ = choose(logits, EXPERTS.model_copy(update={"scale": 2.5}))
    torch.testing.assert_close(scaled, 2.5 * normalised)


def test_a_correction_changes_the_choice_and_never_the_weights() -> None:
    settings = EXPERTS.model_copy(update={"score": "sigmoid", "correction": True, "normalise": False})
    logits, correction = random_states(5, 8), torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 9])
    weights, chosen, _ = choose(logits, settings, correction)
    assert (chosen == 7).any(1).all()
    torch.testing.assert_close(weights, logits.sigmoid().gather(1, chosen))


@pytest.mark.parametrize("group_score", ["max", "top2"])
def test_experts_are_chosen_within_the_best_groups(group_score: str) -> None:
    settings = MoEConfig.parse(
        {
            "experts": 12,
            "active": 4,
            "intermediate_size": 4,
            "groups": 4,
            "active_groups": 2,
            "group_score": group_score,
        }
    )
    logits = random_states(30, 12)
    _, chosen, scores = choose(logits, settings)
    for row, picked in zip(scores, chosen, strict=True):
        groups = row.view(4, 3)
        values = groups.max(1).values if group_score == "max" else groups.sort(1).values[:, 1:].sum(1)
        best = set(values.topk(2).indices.tolist())
        allowed = [value.item() if index // 3 in best else -1 for index, value in enumerate(row)]
        assert set(picked.tolist()) == set(torch.tensor(allowed).topk(4).indices.tolist())


def test_the_two_group_scores_can_choose_differently() -> None:
    logits = torch.tensor([[3.0, -9, -9, 2, 1.9, -9]])
    base = {"experts": 6, "active": 1, "intermediate_size": 4, "groups": 2, "score": "sigmoid"}
    picks = [choose(logits, MoEConfig.parse({**base, "group_score": kind}))[1].item() for kind in ("max", "top2")]
    assert picks == [0, 3]


def test_experts_must_fit_their_groups() -> None:
    with pytest.raises(LuhuoError, match="groups"):
        MoEConfig.parse({"experts": 8, "active": 2, "intermediate_size": 4, "groups": 3})


def test_parameters_and_active_parameters_are_those_counted() -> None:
    config = with_experts(**EVERYTHING, dense_layers=(0,))
    model = Decoder(config)
    assert sum(parameters(config).values()) == sum(p.numel() for p in model.parameters())
    experts = model.expert_layers()[0].experts
    one = sum(p[0].numel() for p in experts.parameters())
    assert active_parameters(config) == sum(parameters(config).values()) - 5 * one


def test_the_auxiliary_loss_is_that_of_mixtral() -> None:
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    logits = random_states(40, 8)
    _, chosen, scores = choose(logits, EXPERTS)
    picked = torch.zeros_like(scores).scatter_(1, chosen, 1.0)
    mask = torch.ones(4, 10)
    mask[0, 4:], mask[3, 1:] = 0, 0
    expected = mixtral.load_balancing_loss_func((logits,), 8, 3)
    torch.testing.assert_close(balance_loss(picked, scores, None, 1)[0], expected)
    present = mask.view(-1, 1)
    expected = mixtral.load_balancing_loss_func((logits,), 8, 3, mask)
    torch.testing.assert_close(balance_loss(picked * present, scores, present, 1)[0], expected)


def test_the_sequence_wise_loss_is_deepseek_s_formula() -> None:
    config = with_experts(score="sigmoid", balance=1.0, balance_over="sequence")
    layer, x = random_layer(config).train(), random_states(3, 11, 16)
    layer(x)
    total = 0.0
    for row in x:
        _, chosen, scores = layer.router(row)
        shares = scores / scores.sum(1, keepdim=True)
        for expert in range(8):
            frequency = 8 / (3 * 11) * (chosen == expert).sum()
            total += (frequency * shares[:, expert].mean()).item() / 3
    assert layer.auxiliary is not None
    assert layer.auxiliary.mean().item() == pytest.approx(total, rel=1e-5)


def test_padding_counts_in_no_statistic() -> None:
    model = initialise(Decoder(with_experts(balance=0.5)), 0).train()
    ids = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(0))
    segments = torch.ones(2, 12, dtype=torch.int)
    segments[:, 8:] = 0
    model(ids, segments=segments)
    padded, load = model.auxiliary_loss(), model.expert_load()
    model.update_balance(0.0)
    model(ids[:, :8])
    assert padded is not None and load is not None
    torch.testing.assert_close(padded, model.auxiliary_loss())
    torch.testing.assert_close(load, model.expert_load())


def test_the_objective_adds_the_balancing_loss_in_training_only() -> None:
    torch.manual_seed(0)
    model = initialise(Decoder(with_experts(balance=0.5)), 0)
    batch = {"ids": torch.randint(0, 61, (2, 13))}
    alone, weight, none = CausalLM().loss(model.eval(), batch)
    both, _, metrics = CausalLM().loss(model.train(), batch)
    auxiliary = model.auxiliary_loss()
    assert auxiliary is not None and not none
    torch.testing.assert_close(both, alone + auxiliary * weight)
    torch.testing.assert_close(metrics["balance"], auxiliary * weight)
    both.backward()
    assert model.expert_layers()[0].router.weight.grad.any()  # type: ignore[union-attr]


def _unevenness_after(steps: int, *, speed: float = 0.0, balance: float = 0.0) -> float:
    """Largest share of any expert over its fair one in the last ten steps of training on text of few tokens."""
    model = initialise(Decoder(with_experts(score="sigmoid", correction=True, balance=balance)), 0).train()
    with torch.no_grad():
        for layer in model.expert_layers():
            layer.router.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    optimiser = Optimiser(model, TrainerConfig(steps=steps, learning_rate=2e-3))
    generator = torch.Generator().manual_seed(0)
    loads = []
    for _ in range(steps):
        ids = (61 * torch.rand(8, 33, generator=generator) ** 3).long()
        loss, weight, _ = CausalLM().loss(model, {"ids": ids})
        (loss / weight).backward()
        optimiser.step(1.0)
        model.zero_grad()
        loads.append(model.expert_load())
        model.update_balance(speed)
    return 8 * torch.stack(loads[-10:]).mean(0).max().item()  # type: ignore[arg-type]


def test_the_correction_evens_out_the_load_and_without_it_it_stays_uneven() -> None:
    control, corrected = _unevenness_after(60), _unevenness_after(60, speed=0.02)
    assert control > 2
    assert corrected < 1.4


def test_the_auxiliary_loss_evens_out_the_load_too() -> None:
    assert _unevenness_after(60, balance=0.1) < 1.4


def test_the_correction_moves_by_the_sign_of_the_load_s_error_and_forgets_it() -> None:
    layer = random_layer(with_experts(correction=True)).train()
    layer(random_states(2, 20, 16))
    correction = layer.router.correction
    assert layer.load is not None and correction is not None
    load, before = layer.load.clone(), correction.detach().clone()
    assert load.sum() == 2 * 20 * 3
    layer.update_balance(0.25)
    moved = correction - before
    torch.testing.assert_close(moved, 0.25 * torch.sign(load.float().mean() - load))
    assert layer.load is None


def test_gradients_leave_the_correction_alone() -> None:
    model = initialise(Decoder(with_experts(correction=True)), 0)
    names = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert names == {"blocks.0.mlp.router.correction", "blocks.1.mlp.router.correction"}
    assert not any(names & members.keys() for members in sort_parameters(model).values())


def test_a_correction_stays_in_fp32_where_all_else_is_bf16(tmp_path: Path) -> None:
    config = with_experts(
        score="sigmoid", correction=True, group_score="top2", shared_size=12, balance_over="sequence"
    )
    glm = {"family": "glm4_moe", "qk_norm": "none", "tie_embeddings": False}
    model = initialise(Decoder(config.model_copy(update=glm)), 0)
    exact = 1 + torch.arange(8) / 1000
    with torch.no_grad():
        model.expert_layers()[0].router.correction.copy_(exact)  # type: ignore[union-attr]
    model.to(torch.bfloat16)
    assert model.embedding.dtype == torch.bfloat16
    save(model, tmp_path / "model")
    again = load(tmp_path / "model", dtype="bf16")
    assert isinstance(again, Decoder)
    correction = again.expert_layers()[0].router.correction
    assert again.embedding.dtype == torch.bfloat16
    assert correction is not None
    assert torch.equal(correction, exact)


def test_every_kind_of_parameter_of_a_mixture_is_initialised() -> None:
    model = initialise(Decoder(with_experts(**EVERYTHING)), 0)
    layer = model.expert_layers()[0]
    assert layer.router.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert layer.experts.gate_up.std().item() == pytest.approx(16**-0.5, rel=0.1)
    assert not layer.experts.down.any()
    assert not any(p.any() for name, p in layer.named_parameters() if name.endswith(("bias", "correction")))


def test_muon_treats_every_expert_as_matrices_of_its_own() -> None:
    model = initialise(Decoder(with_experts(**EVERYTHING)), 0)
    groups = sort_parameters(model)
    assert {"blocks.0.mlp.experts.gate_up", "blocks.0.mlp.experts.down"} <= groups["matrices"].keys()
    assert set(groups["routers"]) == {
        f"blocks.{layer}.mlp.{kind}.weight" for layer in (0, 1) for kind in ("router", "shared_gate")
    }
    assert all(name in groups["vectors"] for name, _ in model.named_parameters() if name.endswith("_bias"))
    experts = model.expert_layers()[1].experts
    before = {name: p.detach().clone() for name, p in experts.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    Optimiser(model, TrainerConfig(steps=1, learning_rate=0.1, weight_decay=0.0)).step(1.0)
    pieces = [*(before["gate_up"] - experts.gate_up).flatten(0, 1).split(12), *(before["down"] - experts.down)]
    assert len(pieces) == 3 * 8
    for piece in pieces:
        values = torch.linalg.svdvals(piece.detach() / (0.1 * 0.2 * max(piece.shape) ** 0.5))
        assert values.min() > 0.4
        assert values.max() < 1.35
