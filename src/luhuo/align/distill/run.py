"""What the runs of `distill` and `pretrain-distill` learn: the data of fine-tuning or pretraining, and a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from luhuo.align.distill.config import LessonConfig
from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.encoder_objective import EncoderDistillation
from luhuo.align.distill.loss import TOLD
from luhuo.align.distill.matching import BRIDGE, AttentionMatch, StateMatch
from luhuo.align.distill.objective import Distillation
from luhuo.align.distill.stored import StoredLoader, open_stored
from luhuo.align.distill.teacher import Teacher, open_teacher, same_tokens
from luhuo.align.sft import Prepared
from luhuo.align.sft_run import Course, fine_tune
from luhuo.align.stages import note_sources
from luhuo.align.supervised import SupervisedLM
from luhuo.core.artifact import Workspace
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.train.objective import Objective

if TYPE_CHECKING:
    from luhuo.align.distill.pretraining_stage import PretrainDistillStage
    from luhuo.align.distill.stages import DistillStage

RESULTS = ("loss", *TOLD, "states", "attention", "tokens_per_s")


def distill(stage: DistillStage, out: Workspace, device: torch.device) -> None:
    """Train the student, resuming from the last checkpoint if there is one, and write the result into `out.path`."""
    plan = _with_teacher if stage.stored is None else _with_stored
    fine_tune(stage, out, device, lambda files: note_sources(files, out), lambda model, data: plan(stage, model, data))


def _with_teacher(stage: DistillStage, student: Decoder, prepared: Prepared) -> Course:
    assert stage.teacher is not None
    teacher = open_teacher(stage.teacher, dtype=stage.teacher_dtype, device=str(student.device))
    same_tokens(teacher.model.tokenizer, student.tokenizer, stage.teacher)
    divergence = Divergence(stage.divergence, stage.beta, stage.distill_temperature)
    plain = Distillation(divergence, stage.share, teacher)
    states, attention = _matches(stage, student, teacher, causal=True)
    objective = Distillation(
        divergence, stage.share, teacher, states=states, attention=attention, neftune=stage.neftune
    )
    return Course(objective, plain, finish=without_bridge, title="distill", told=RESULTS)


def pretraining_objective(stage: PretrainDistillStage, student: Decoder | Encoder) -> Objective:
    """What a student is trained by on plain text. Raises `LuhuoError` for a teacher of another kind."""
    assert stage.teacher is not None
    kind = Encoder if isinstance(student, Encoder) else Decoder
    teacher = open_teacher(stage.teacher, dtype=stage.teacher_dtype, device=str(student.device), kind=kind)
    same_tokens(teacher.model.tokenizer, student.tokenizer, stage.teacher)
    divergence = Divergence(stage.divergence, stage.beta, stage.distill_temperature)
    states, attention = _matches(stage, student, teacher, causal=kind is Decoder)
    make = EncoderDistillation if kind is Encoder else Distillation
    return make(divergence, stage.share, teacher, states=states, attention=attention)


def _matches(
    stage: LessonConfig, student: Decoder | Encoder, teacher: Teacher, *, causal: bool
) -> tuple[StateMatch | None, AttentionMatch | None]:
    """What is compared inside of both models."""
    states = (
        None if stage.states is None else StateMatch(stage.states, student, teacher.model, getattr(stage, "seed", 0))
    )
    attention = stage.attention
    return states, None if attention is None else AttentionMatch(attention, student, teacher.model, causal=causal)


def _with_stored(stage: DistillStage, student: Decoder, prepared: Prepared) -> Course:
    assert stage.stored is not None
    stored = open_stored(stage.stored, student.tokenizer)
    stored.check(prepared.store)
    divergence = Divergence(stage.divergence, stage.beta, stored.temperature)
    objective = Distillation(divergence, stage.share, vocabulary=stored.vocabulary, neftune=stage.neftune)
    loader = StoredLoader.of(stored)
    return Course(objective, SupervisedLM(), loader=loader, title="distill", told=RESULTS)


def without_bridge(model: nn.Module) -> None:
    """The images of states were there for training alone."""
    if hasattr(model, BRIDGE):
        delattr(model, BRIDGE)
