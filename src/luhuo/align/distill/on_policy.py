"""What a teacher says about a student's own answers: their scores, and what each of their tokens was worth.

With p the teacher and q the student, of an answer y_1 … y_T the log-ratio r_t = log p(y_t) - log q(y_t) is an estimate
of minus the reverse KL divergence at t. MiniLLM (Gu et al. 2024, equations 2 to 5) minimises the divergence of whole
answers: the token at t is responsible for its own r_t, which is known exactly from all of both distributions (the
divergence at t, in the objective), and for everything behind it, of which the sample tells

    R_t = 1 / (T - t) · Σ_{u > t} r_u,      0 for the last token

a mean and not a sum, since long answers would else earn nothing but punishment (section 2.2, "length normalisation").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luhuo.align.advantages import to_go
from luhuo.align.distill.teacher import Teacher
from luhuo.align.kl_estimators import FARTHEST
from luhuo.align.log_probs import by_rows, token_log_probs
from luhuo.align.rollout import Sample
from luhuo.align.rollout_loader import Judge, Judgement
from luhuo.align.rollout_rows import Judged, Scored, lay_out
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch, CausalLM


class TeacherScores:
    """A judge: the mean log-ratio of teacher to student of an answer's tokens, 0 for a student that is its teacher.

    What the teacher said of each token is kept until the round is valued, so that it reads an answer once.
    `rules` score too, and are told; they count for nothing.
    """

    def __init__(self, teacher: Teacher, pad_id: int, temperature: float, rules: Judge | None = None) -> None:
        self.teacher, self.pad_id, self.temperature, self.rules = teacher, pad_id, temperature, rules
        self._kept: dict[bytes, np.ndarray] = {}

    def __call__(self, samples: Sequence[Sample]) -> Judgement:
        """Scores, and the rules' parts."""
        self._kept = {}
        scores = []
        for sample, said in zip(samples, self._read(samples), strict=True):
            self._kept[_key(sample.ids)] = said
            sampled, mask = np.array(sample.log_probs[1:]), np.array(sample.mask[1:], bool)
            ratios = (said - sampled)[mask].clip(-FARTHEST, FARTHEST)
            scores.append(float(ratios.mean()) if len(ratios) else 0.0)
        parts = dict(self.rules(samples).parts) if self.rules is not None and samples else {}
        return Judgement(scores, parts)

    def of(self, batch: Batch) -> Tensor:
        """The teacher's log-probabilities (rows, length) of ids[:, 1:] of the answers that were judged last."""
        ids, segments = batch["ids"].cpu().numpy(), batch["segments"].cpu().numpy()
        found = np.zeros((len(ids), ids.shape[1] - 1), np.float32)
        for row, numbers in enumerate(segments):
            for number in range(1, int(numbers.max()) + 1):
                places = np.flatnonzero(numbers == number)
                found[row, places[1:] - 1] = self._kept[_key(ids[row, places])]
        return torch.from_numpy(found).to(batch["ids"].device)

    @torch.no_grad()
    def _read(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Log-probabilities (tokens - 1,) of each sample, 0 where it was given."""
        model = self.teacher.model
        assert isinstance(model, Decoder)
        found: list[np.ndarray] = [np.empty(0)] * len(samples)
        order = sorted(range(len(samples)), key=lambda i: -len(samples[i].ids))
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            batch, known, _ = lay_out([[Scored(samples[i], 0.0, i) for i in some]], self.pad_id, model.device)
            given = {name: batch[name] for name in ("ids", "segments", "mask")}
            parts = [
                token_log_probs(model, part, temperature=self.temperature) for part in by_rows(given, model.device)
            ]
            said, segments = torch.cat(parts).cpu().numpy(), batch["segments"].cpu().numpy()
            for row, numbers in enumerate(known.groups.tolist()):
                for place, number in enumerate(numbers):
                    if number >= 0:
                        places = np.flatnonzero(segments[row] == place + 1)
                        found[number] = said[row, places[1:] - 1]
        return found


class FutureRatios:
    """The `Valuation` of MiniLLM: `advantages` R_t and `old_log_probs`, both (rows, length)."""

    def __init__(self, model: Decoder, scores: TeacherScores) -> None:
        self.model, self.scores = model, scores

    @torch.no_grad()
    def __call__(self, batch: Batch, judged: Judged) -> tuple[Batch, dict[str, float]]:
        """The batch with what `MiniLLM` reads."""
        valid, segments = CausalLM.targets(batch), batch["segments"][:, 1:]
        given = {name: batch[name] for name in ("ids", "segments", "mask")}
        parts = by_rows(given, batch["ids"].device)
        old = torch.cat([token_log_probs(self.model, part, temperature=self.scores.temperature) for part in parts])
        ratios = torch.where(valid, (self.scores.of(batch) - old).clamp(-FARTHEST, FARTHEST), 0.0)
        behind = to_go(ratios, segments) - ratios
        count = to_go(valid.float(), segments) - valid.float()
        advantages = torch.where(valid & (count > 0.5), behind / count.clamp(min=1), 0.0)
        return batch | {"advantages": advantages, "old_log_probs": old}, {}

    def state(self) -> dict[str, Any]:
        """Nothing is kept from round to round."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is taken back."""


class AsSampled:
    """The `Valuation` of GKD: the teacher is asked in the objective, about all tokens there are."""

    def __call__(self, batch: Batch, judged: Judged) -> tuple[Batch, dict[str, float]]:
        """What the objective reads of the batch."""
        return {name: batch[name] for name in ("ids", "segments", "mask")}, {}

    def state(self) -> dict[str, Any]:
        """Nothing is kept from round to round."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is taken back."""


def _key(ids: Sequence[int] | np.ndarray) -> bytes:
    """What an answer is found by: its tokens."""
    return np.asarray(ids, np.int64).tobytes()
