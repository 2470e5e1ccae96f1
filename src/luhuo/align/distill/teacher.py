"""The teacher: a frozen model that reads what the student reads."""

from __future__ import annotations

import torch
from torch import Tensor

from luhuo.adapter.open import open_model
from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.recording import Reader
from luhuo.align.distill.soft_targets import LiveTargets
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.objective import Batch


class Teacher:
    """A model without gradients, in evaluation mode, in a number format of its own; `vocabulary` are its tokens."""

    def __init__(self, model: Reader) -> None:
        self.model = model.requires_grad_(False).eval()
        rows = model.config.vocab_size
        self.vocabulary = rows if model.tokenizer is None else min(rows, model.tokenizer.vocab_size)

    @torch.no_grad()
    def states(self, batch: Batch) -> Tensor:
        """The last states (rows, length, width) of `ids[:, :-1]`."""
        segments = batch.get("segments")
        return self.model.hidden(batch["ids"][:, :-1], segments=None if segments is None else segments[:, :-1])

    def targets(self, states: Tensor, divergence: Divergence) -> LiveTargets:
        """What it says at places with these states (n, width)."""
        return LiveTargets(self.model, states, divergence, self.vocabulary)


def open_teacher(reference: str, *, dtype: str, device: str, kind: type = Decoder) -> Teacher:
    """A teacher by any reference of a model. Raises `LuhuoError` if it is no `kind` of model."""
    model = open_model(reference, dtype=dtype, device=device, mtp=False)
    if not isinstance(model, kind):
        raise LuhuoError(
            tr("Teacher and student are different kinds of models.", "教师与学生不是同一类模型。"),
            expected=kind.__name__,
            found=type(model).__name__,
            where=reference,
        )
    assert isinstance(model, Reader)
    return Teacher(model)


def same_tokens(teacher: Tokenizer | None, student: Tokenizer | None, where: str) -> None:
    """Raise `LuhuoError` unless the ids that both tokenizers have are the same tokens; another chat template is said.

    One may have tokens behind the other's last: a student with new tokens still has its teacher's.
    """
    if teacher is None or student is None:
        raise LuhuoError(
            tr("A model has no tokenizer.", "有模型没有分词器。"),
            expected="tokenizer.json",
            where=where if teacher is None else tr("the student", "学生模型"),
        )
    if teacher.fingerprint == student.fingerprint:
        return
    common = min(teacher.vocab_size, student.vocab_size)
    differs = next((i for i in range(common) if _token(teacher, i) != _token(student, i)), None)
    if differs is not None:
        raise LuhuoError(
            tr(
                "Teacher and student have different tokenizers: their logits are about different tokens.",
                "教师与学生的分词器不同：二者的 logits 对应不同的词元。",
            ),
            expected=tr(
                f"the student's tokenizer, {student.fingerprint[:16]}", f"学生的分词器 {student.fingerprint[:16]}"
            ),
            found=tr(
                f"{teacher.fingerprint[:16]}; token {differs} is {_token(teacher, differs)!r}, "
                f"the student's {_token(student, differs)!r}",
                f"{teacher.fingerprint[:16]}；词元 {differs} 为 {_token(teacher, differs)!r}，"
                f"学生的为 {_token(student, differs)!r}",
            ),
            where=where,
            fix=tr(
                "Go through text: let the teacher answer (luhuo teacher-answers), and train the student on it "
                "(luhuo sft).",
                "改走文本：让教师作答（luhuo teacher-answers），再以其回答训练学生（luhuo sft）。",
            ),
        )
    if teacher.chat_template != student.chat_template:
        say(
            tr(
                "Teacher and student have different chat templates: the teacher reads the student's.",
                "教师与学生的对话模板不同：教师按学生的模板阅读。",
            )
        )


def _token(tokenizer: Tokenizer, number: int) -> str | None:
    """A token's text; None for an id that no token has."""
    try:
        return tokenizer.token_text(number)
    except LuhuoError:
        return None
