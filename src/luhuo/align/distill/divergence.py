"""How far a student's distribution is from its teacher's, and which way the student's logits have to move.

With p the teacher's and q the student's distribution, both of logits divided by a temperature T:

    forward  KL(p‖q) = Σ p·(log p - log q)                        slope by the student's logits  (q - p) / T
    reverse  KL(q‖p) = Σ q·(log q - log p)                        q·(log q/p - KL(q‖p)) / T
    jsd      β·KL(p‖m) + (1 - β)·KL(q‖m), m = β·p + (1 - β)·q     (1 - β)·q·(log q/m - KL(q‖m)) / T

Forward KL wants the student to cover all that the teacher holds possible, reverse KL to say nothing that the teacher
would not; the generalised Jensen-Shannon divergence lies between (Agarwal et al. 2024, "On-policy distillation of
language models", equation 1). All are multiplied by T², so that their gradient keeps its size (Hinton et al. 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["forward", "reverse", "jsd"]

LEAST = -100.0
"""No token is less likely than e^LEAST: a teacher that excludes a token (logit -∞) must not make a loss infinite."""


@dataclass(frozen=True)
class Divergence:
    """Which divergence, at which temperature; `beta` is that of jsd, between 0 and 1."""

    kind: Kind = "forward"
    beta: float = 0.5
    temperature: float = 1.0

    def log_softmax(self, logits: Tensor) -> Tensor:
        """Log-probabilities (n, V) fp32 of logits (n, V) at the temperature."""
        return (logits.float() / self.temperature).log_softmax(-1)

    def compare(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """(values (n,), slopes (n, V)) of log-probabilities (n, V) fp32, T² and all; the slopes are by the student's
        undivided logits."""
        student, teacher = student.clamp(min=LEAST), teacher.clamp(min=LEAST)
        q, square = student.exp(), self.temperature**2
        if self.kind == "forward":
            p = teacher.exp()
            values = (p * (teacher - student)).sum(-1)
            return square * values, self.temperature * (q - p)
        if self.kind == "reverse":
            ratio = student - teacher
            values = (q * ratio).sum(-1)
            return square * values, self.temperature * q * (ratio - values[:, None])
        middle = torch.logaddexp(teacher + math.log(self.beta), student + math.log1p(-self.beta))
        ratio = student - middle
        of_student = (q * ratio).sum(-1)
        of_teacher = (teacher.exp() * (teacher - middle)).sum(-1)
        values = self.beta * of_teacher + (1 - self.beta) * of_student
        return square * values, self.temperature * (1 - self.beta) * q * (ratio - of_student[:, None])
