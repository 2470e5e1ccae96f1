"""What a student learns from a teacher's distributions: equal to the plain computation, however it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from luhuo.adapter.attach import attach
from luhuo.adapter.config import AdapterConfig
from luhuo.align.distill.config import AttentionConfig, StatesConfig
from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.matching import AttentionMatch, StateMatch
from luhuo.align.distill.objective import Distillation
from luhuo.align.distill.storing import top
from luhuo.align.distill.teacher import Teacher
from luhuo.align.preference.reference import weights_digest
from luhuo.dialogue.packing import ConversationLoader, TokenStore
from luhuo.model.decoder import Decoder
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.ranks import Ranks
from tests.distill_cases import student_model, teacher_model
from tests.parallel_cases import together
from tests.preference_cases import same_step, sequences
from tests.small_chat import small_tokenizer

KINDS = [Divergence("forward"), Divergence("forward", temperature=2.0), Divergence("reverse", temperature=0.5)]
KINDS += [Divergence("jsd", 0.1), Divergence("jsd", 0.7, 3.0)]


def batch_of(count: int = 8, length: int = 64, rank: int = 0, world: int = 1) -> Batch:
    store = TokenStore(sequences(count))
    options: dict[str, Any] = {"length": length, "seed": 0, "pad_id": small_tokenizer().pad_id}
    rows = len(ConversationLoader(store, batch=1, **options).rows(0))
    loader = ConversationLoader(store, batch=rows, **options)
    arrays = next(iter(loader))
    return {name: torch.from_numpy(array)[rank::world] for name, array in arrays.items()}


def step(objective: Distillation, batch: Batch, rows: int = 0, student: Decoder | None = None) -> Any:
    """Gradients by name, and mean loss and metrics, of one step."""
    model = (student or student_model()).train()
    with torch.no_grad():
        batch = objective.prepare(model, batch)
    ranks = Ranks()
    work = Gradients(model, objective, ranks, rows)
    weight, total = work.compute(batch, 1)
    work.reduce(0)
    means = {name: (ranks.sum(value) / weight).item() for name, value in total.items()}
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, means


def logits_of(model: Decoder, batch: Batch) -> Tensor:
    valid = CausalLM.targets(batch)
    return model(batch["ids"][:, :-1], segments=batch["segments"][:, :-1])[valid]


def plain(divergence: Divergence, share: float, batch: Batch, student: Decoder, teacher: Decoder) -> Tensor:
    """The loss written out with all logits and torch's own functions."""
    t, beta = divergence.temperature, divergence.beta
    logits = logits_of(student, batch)
    with torch.no_grad():
        p = (logits_of(teacher, batch) / t).log_softmax(-1)
    q = (logits / t).log_softmax(-1)

    def kl(one: Tensor, other: Tensor) -> Tensor:
        return F.kl_div(other, one, reduction="sum", log_target=True)

    if divergence.kind == "jsd":
        m = (beta * p.exp() + (1 - beta) * q.exp()).log()
        soft = beta * kl(p, m) + (1 - beta) * kl(q, m)
    else:
        soft = kl(p, q) if divergence.kind == "forward" else kl(q, p)
    targets = batch["ids"][:, 1:][CausalLM.targets(batch)]
    hard = F.cross_entropy(logits, targets, reduction="sum")
    return (share * t**2 * soft + (1 - share) * hard) / len(targets)


@pytest.mark.parametrize("divergence", KINDS, ids=str)
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_loss_and_gradient_are_those_of_the_plain_computation(divergence: Divergence, share: float) -> None:
    batch, student, teacher = batch_of(), student_model().train(), teacher_model()
    wanted = plain(divergence, share, batch, student, teacher)
    wanted.backward()
    gradients, means = step(Distillation(divergence, share, Teacher(teacher)), batch)
    assert means["loss"] == pytest.approx(wanted.item(), rel=1e-5, abs=3e-6)
    for name, p in student.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-5 * float(p.grad.abs().max()) + 1e-9)


def test_heads_that_do_more_than_multiply_and_heads_with_adapters_learn_the_same() -> None:
    divergence, batch = Divergence("jsd", 0.4, 1.5), batch_of()
    capped = student_model()
    capped.config = capped.config.model_copy(update={"logit_softcap": 5.0, "logit_scale": 0.7})
    wanted = plain(divergence, 0.6, batch, capped.train(), teacher_model())
    wanted.backward()
    slopes = {name: p.grad.clone() for name, p in capped.named_parameters() if p.grad is not None}
    capped.zero_grad(set_to_none=True)
    gradients, means = step(Distillation(divergence, 0.6, Teacher(teacher_model())), batch, student=capped)
    assert means["loss"] == pytest.approx(wanted.item(), rel=1e-5, abs=3e-6)
    assert all(torch.allclose(gradients[n], g, rtol=1e-3, atol=1e-5 * float(g.abs().max())) for n, g in slopes.items())

    student = student_model()
    attach(student, AdapterConfig(method="lora", rank=4), 0)
    with torch.no_grad():
        for name, p in student.named_parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))))
    wanted = plain(divergence, 0.6, batch, student.train(), teacher_model())
    wanted.backward()
    slopes = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad(set_to_none=True)
    gradients, _ = step(Distillation(divergence, 0.6, Teacher(teacher_model())), batch, student=student)
    assert gradients.keys() == slopes.keys() and any(g.any() for g in slopes.values())
    assert all(torch.allclose(gradients[n], g, rtol=1e-3, atol=1e-5 * float(g.abs().max())) for n, g in slopes.items())


@pytest.mark.parametrize(("kind", "beta"), [("forward", 0.0), ("reverse", 1.0), ("jsd", 0.1), ("jsd", 0.5)])
def test_divergences_are_trls(kind: Any, beta: float) -> None:
    gkd = pytest.importorskip("trl.experimental.gkd.gkd_trainer", reason="trl moves its experiments about")
    batch, student, teacher = batch_of(), student_model(), teacher_model()
    temperature = 0.9
    ours, theirs = (logits_of(model, batch)[None].requires_grad_() for model in (student, teacher))
    valid = torch.zeros(ours.shape[:2], dtype=torch.long)
    wanted = gkd.GKDTrainer.generalized_jsd_loss(
        ours, theirs.detach(), labels=valid, beta=beta, temperature=temperature
    )
    means = step(Distillation(Divergence(kind, beta or 0.5, temperature), 1.0, Teacher(teacher)), batch)[1]
    assert means["loss"] / temperature**2 == pytest.approx(wanted.item(), rel=1e-5, abs=3e-6)


def test_a_token_that_the_teacher_excludes_leaves_the_loss_finite() -> None:
    student = torch.randn(3, 7).log_softmax(-1)
    teacher = torch.randn(3, 7).masked_fill(torch.arange(7) == 2, -torch.inf).log_softmax(-1)
    for divergence in KINDS:
        values, slopes = divergence.compare(student, teacher)
        assert values.isfinite().all() and slopes.isfinite().all() and (values > 0).all()


def stored_batch(batch: Batch, teacher: Teacher, k: int, divergence: Divergence) -> Batch:
    """The batch with what would have been kept of the teacher."""
    valid = CausalLM.targets(batch)
    ids, values, rest = top(teacher, teacher.states(batch)[valid], k, divergence)
    rows = {"soft_ids": ids, "soft_values": values, "soft_rest": rest}
    return batch | {
        name: torch.zeros(*valid.shape, *found.shape[1:], dtype=found.dtype).index_put((valid,), found)
        for name, found in rows.items()
    }


@pytest.mark.parametrize("divergence", KINDS, ids=str)
def test_all_tokens_stored_are_the_teacher_itself(divergence: Divergence) -> None:
    batch, teacher = batch_of(), Teacher(teacher_model())
    kept = stored_batch(batch, teacher, teacher.vocabulary, divergence)
    live = step(Distillation(divergence, 0.7, teacher), batch)
    stored = step(Distillation(divergence, 0.7, vocabulary=teacher.vocabulary), kept)
    assert same_step(stored, live)


def test_a_few_stored_tokens_are_compared_with_the_others_taken_together() -> None:
    divergence, batch, teacher, k = Divergence("reverse", temperature=1.3), batch_of(), Teacher(teacher_model()), 5
    kept = stored_batch(batch, teacher, k, divergence)
    student = student_model().train()
    valid = CausalLM.targets(batch)
    q = (logits_of(student, batch) / 1.3).softmax(-1)
    p = (logits_of(teacher.model, batch) / 1.3).softmax(-1).detach()  # type: ignore[arg-type]
    ids = kept["soft_ids"][valid]

    def outcomes(shares: Tensor) -> Tensor:
        some = shares.gather(1, ids)
        return torch.cat([some, (1 - some.sum(-1, keepdim=True)).clamp(min=1e-12)], -1)

    wanted = 1.3**2 * (outcomes(q) * (outcomes(q) / outcomes(p)).log()).sum(-1).mean()
    wanted.backward()
    gradients, means = step(Distillation(divergence, 1.0, vocabulary=teacher.vocabulary), kept)
    assert means["loss"] == pytest.approx(wanted.item(), rel=1e-4)
    for name, p in student.named_parameters():
        assert p.grad is not None
        assert torch.allclose(gradients[name], p.grad, rtol=1e-2, atol=1e-4 * float(p.grad.abs().max())), name
    live = step(Distillation(divergence, 1.0, teacher), batch)[1]
    assert means["loss"] < live["loss"]


def full(seed: int = 0) -> tuple[Distillation, Decoder]:
    """Everything at once: logits, states of other widths, relations; and the student that is to learn it."""
    student, teacher = student_model(), Teacher(teacher_model())
    states = StateMatch(StatesConfig(weight=0.3), student, teacher.model, seed)
    attention = AttentionMatch(AttentionConfig(weight=0.2, relation_heads=2), student, teacher.model, causal=True)
    return Distillation(Divergence("jsd"), 0.5, teacher, states=states, attention=attention), student


def test_loss_gradient_and_metrics_are_equal_for_any_micro_batch_split() -> None:
    batch = batch_of(length=24)
    assert len(batch["ids"]) >= 4
    objective, student = full()
    whole = step(objective, batch, student=student)
    assert {"divergence", "next_token", "agreement", "states", "attention"} <= whole[1].keys()
    assert any(name.startswith("bridge") and gradient.any() for name, gradient in whole[0].items())
    for parts in (2, 4):
        objective, student = full()
        assert same_step(step(objective, batch, -(-len(batch["ids"]) // parts), student), whole)


def test_packed_or_padded_is_the_same() -> None:
    found = []
    for length in (24, 250):
        objective, student = full()
        found.append(step(objective, batch_of(length=length), student=student))
    assert same_step(*found)


def write_step(rank: int, folder: Path) -> None:
    """The step of one of two processes, written by the first."""
    objective, student = full()
    gradients, means = step(objective, batch_of(length=24, rank=rank, world=2), student=student)
    if rank == 0:
        numbers = {f"mean {name}": torch.tensor(value) for name, value in means.items()}
        save_file({name: value.contiguous() for name, value in (gradients | numbers).items()}, folder / "step")


def test_two_processes_are_one(tmp_path: Path) -> None:
    batch = batch_of(length=24)
    assert len(batch["ids"]) % 2 == 0
    together(2, write_step, tmp_path)
    found = load_file(tmp_path / "step")
    means = {name.removeprefix("mean "): found.pop(name).item() for name in list(found) if name.startswith("mean ")}
    objective, student = full()
    assert same_step((found, means), step(objective, batch, student=student))


def test_the_teacher_is_not_trained() -> None:
    objective, student = full()
    assert objective.teacher is not None
    before = weights_digest(objective.teacher.model)
    step(objective, batch_of(), student=student)
    assert weights_digest(objective.teacher.model) == before
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.model.parameters())
    assert not objective.teacher.model.training


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    teacher = Teacher(student_model())
    gradients, means = step(Distillation(Divergence("jsd", temperature=2.0), 1.0, teacher), batch_of())
    assert means["divergence"] == pytest.approx(0, abs=1e-5) and means["agreement"] == 1
    assert all(gradient.abs().max() < 1e-5 for gradient in gradients.values())


def test_messages_count_by_their_weights_for_the_teacher_too() -> None:
    batch = batch_of()
    doubled = batch | {"weights": 2.0 * batch["mask"].float()}
    objective = Distillation(Divergence(), 0.5, Teacher(teacher_model()))
    assert same_step(step(objective, doubled), step(objective, batch))
