"""Pretraining with a teacher: encoders and decoders, on shards of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from luhuo.align.distill.config import AttentionConfig, StatesConfig
from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.encoder_objective import EncoderDistillation
from luhuo.align.distill.matching import AttentionMatch, StateMatch
from luhuo.align.distill.recording import recording
from luhuo.align.distill.teacher import Teacher
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.stages import configured
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch
from luhuo.train.ranks import Ranks
from tests.objective_runs import SMALL, material
from tests.preference_cases import same_step

WORDS, ROWS, TIME = 61, 4, 20


def encoder(seed: int, **changes: Any) -> Encoder:
    shape: dict[str, Any] = {"hidden_size": 24, "layers": 2, "heads": 4, "head_dim": 6, "intermediate_size": 40}
    model = Encoder(EncoderConfig(vocab_size=WORDS, **{"head": "masked_lm"} | shape | changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((1.0 if name.endswith("norm.weight") else 0.0) + 0.3 * torch.randn(p.shape, generator=generator))
    return model.train()


def teacher() -> Teacher:
    return Teacher(encoder(7, hidden_size=36, layers=4, heads=6))


def batch_of() -> Batch:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, WORDS, (ROWS, TIME), generator=generator)
    segments = (torch.rand(ids.shape, generator=generator) < 0.15).cumsum(1).int() + 1
    segments[1:, -3:] = 0
    mask = (torch.rand(ids.shape, generator=generator) < 0.3) & (segments != 0)
    return {"ids": ids, "targets": ids.flip(0), "segments": segments, "mask": mask.char()}


def step(objective: EncoderDistillation, student: Encoder, rows: int = 0) -> Any:
    batch = objective.prepare(student, batch_of())
    work = Gradients(student, objective, Ranks(), rows)  # type: ignore[arg-type]
    weight, total = work.compute(batch, 1)
    gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    return gradients, {name: (value / weight).item() for name, value in total.items()}


def full() -> tuple[EncoderDistillation, Encoder]:
    student, taught = encoder(1), teacher()
    states = StateMatch(StatesConfig(weight=0.5, layers={0: 0, 1: 2, 2: 4}), student, taught.model)
    attention = AttentionMatch(AttentionConfig(weight=0.7, relation_heads=3), student, taught.model, causal=False)
    return EncoderDistillation(Divergence("jsd"), 0.4, taught, states=states, attention=attention), student


def test_masked_tokens_are_learned_as_the_plain_computation_says() -> None:
    student, taught, batch = encoder(1), teacher(), batch_of()
    mask, read = batch["mask"] != 0, {"segments": batch["segments"]}
    q = (student(batch["ids"], **read)[mask] / 2).log_softmax(-1)
    p = (taught.model(batch["ids"], **read)[mask] / 2).log_softmax(-1).detach()
    hard = F.cross_entropy(student(batch["ids"], **read)[mask], batch["targets"][mask])
    wanted = 0.6 * 4 * F.kl_div(q, p, reduction="sum", log_target=True) / len(p) + 0.4 * hard
    wanted.backward()
    slopes = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad(set_to_none=True)
    gradients, means = step(EncoderDistillation(Divergence(temperature=2.0), 0.6, taught), student)
    assert means["loss"] == pytest.approx(wanted.item(), rel=1e-5)
    for name, slope in slopes.items():
        assert torch.allclose(gradients[name], slope, rtol=1e-3, atol=1e-5 * float(slope.abs().max())), name


def relation(part: Tensor, heads: int) -> Tensor:
    """One text's relations (heads, T, T) of its queries, keys or values (H, T, D)."""
    laid = part.transpose(0, 1).flatten(1).unflatten(1, (heads, -1)).transpose(0, 1)
    return (laid @ laid.mT / laid.shape[-1] ** 0.5).softmax(-1)


def test_relations_and_states_are_those_of_the_papers() -> None:
    objective, student = full()
    assert objective.states is not None and objective.attention is not None
    one = {"ids": torch.arange(1, 12)[None], "segments": torch.ones(1, 11, dtype=torch.int32)}
    with recording(student, [1], [2]) as mine:
        student.hidden(**one)  # type: ignore[arg-type]
    with recording(objective.teacher.model, [2], [4]) as theirs:
        objective.teacher.model.hidden(**one)  # type: ignore[arg-type]
    wanted = torch.tensor(0.0)
    for ours, other in zip(mine.queries_keys_values(2), theirs.queries_keys_values(4), strict=True):
        p, q = relation(other[0], 3), relation(ours[0], 3)
        wanted = wanted + (p * (p / q).log()).sum(-1).mean(0).sum() / 3
    assert objective.attention.loss(mine, theirs, one["segments"]).item() == pytest.approx(wanted.item(), rel=1e-4)
    objective.states.layers = {1: 2}
    image = mine.states[1] @ student.bridge["1"].weight.T  # type: ignore[index,operator,union-attr]
    difference = (image - theirs.states[2]).square().mean(-1).sum()
    real = one["segments"] != 0
    assert objective.states.loss(student, mine, theirs, real).item() == pytest.approx(difference.item(), rel=1e-4)


def test_attention_scores_are_compared_where_heads_are_equally_many() -> None:
    student, taught = encoder(1), Teacher(encoder(7, hidden_size=36))
    match = AttentionMatch(AttentionConfig(kind="scores", layers={1: 2}), student, taught.model, causal=False)
    segments = torch.tensor([[1, 1, 1, 2, 2, 0]])
    ids = torch.arange(1, 7)[None]
    with recording(student, [], [1]) as mine, recording(taught.model, [], [2]) as theirs:
        student.hidden(ids, segments=segments)
        taught.model.hidden(ids, segments=segments)
    scores = [
        (query @ key.mT / query.shape[-1] ** 0.5)[0]
        for query, key, _ in (mine.queries_keys_values(1), theirs.queries_keys_values(2))
    ]
    difference = (scores[0] - scores[1]).square().mean(0)
    wanted = difference[:3, :3].mean(-1).sum() + difference[3:5, 3:5].mean(-1).sum()
    assert match.loss(mine, theirs, segments).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_step_is_the_same_for_any_micro_batch_split() -> None:
    whole = step(*full())
    assert {"divergence", "next_token", "agreement", "states", "attention"} <= whole[1].keys()
    for parts in (2, 4):
        assert same_step(step(*full(), ROWS // parts), whole)


def test_a_teacher_without_a_head_teaches_states_alone() -> None:
    taught = Teacher(encoder(7, head="none"))
    with pytest.raises(LuhuoError, match="no head"):
        EncoderDistillation(Divergence(), 0.5, taught)
    student = encoder(1)
    states = StateMatch(StatesConfig(), student, taught.model)
    means = step(EncoderDistillation(Divergence(), 0.0, taught, states=states), student)[1]
    assert means["loss"] == pytest.approx(means["next_token"] + means["states"], rel=1e-5)


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_the_stage_pretrains_with_a_teacher(objective: str, tmp_path: Path) -> None:
    given: dict[str, Any] = material(tmp_path)
    own = SMALL | given | {"objective": objective}
    produce("pretrain", configured("pretrain", own | {"size": "80k", "seed": 1}), tmp_path / "teacher")
    more = {"teacher": str(tmp_path / "teacher"), "teacher_dtype": "fp32", "share": 0.9, "states": {"weight": 0.1}}
    done = produce("pretrain-distill", configured("pretrain-distill", own | more), tmp_path / "student")
    told = [row for row in MetricsLog(done.path / "metrics.jsonl").read() if "divergence" in row]
    assert len(told) == SMALL["steps"] and told[-1]["states"] < told[0]["states"]
    assert not [name for name in load_file(done.path / "model.safetensors") if "bridge" in name]
    with pytest.raises(LuhuoError, match="stored logits are of conversations"):
        configured("pretrain-distill", {**own, "stored": "x"})
