"""The loss of supervised fine-tuning: next-token prediction, with a weight for each target and noise on what is read.

NEFTune (Jain et al. 2023, algorithm 1): in training, uniform noise from ±α/√(L·d) is added to the embeddings of a
conversation of L tokens and width d. It comes from a seed of the row, so that neither micro-batches nor processes nor
an interruption change it; evaluation sees none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from luhuo.align.log_probs import selected_log_probs
from luhuo.model.decoder import Decoder
from luhuo.train.objective import Batch, CausalLM


class SupervisedLM(CausalLM):
    """Next-token prediction on batches that may have `weights` like `ids` (what a target counts) and, for NEFTune,
    `noise` (batch,): a seed for each row."""

    def __init__(self, neftune: float = 0.0) -> None:
        self.neftune = neftune

    def row_weights(self, batch: Batch) -> Tensor:
        """Sum of the weights of each row's targets: (batch,)."""
        if "weights" not in batch:
            return super().row_weights(batch)
        return (batch["weights"][:, 1:] * self.targets(batch)).sum(1)

    def likelihood(self, model: Decoder, hidden: Tensor, batch: Batch) -> Tensor:
        """Weighted sum of the negative log-likelihood (nats) of the targets."""
        if "weights" not in batch:
            return super().likelihood(model, hidden, batch)
        valid = self.targets(batch)
        values, _ = selected_log_probs(model, hidden[valid], batch["ids"][:, 1:][valid])
        return -(values * batch["weights"][:, 1:][valid]).sum()

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses; in training mode with noise on the embeddings."""
        if not (self.neftune and model.training):
            return super().loss(model, batch)
        width = model.config.embedding_size or model.config.hidden_size
        with added(model, embedding_noise(batch, self.neftune, width)):
            return super().loss(model, batch)


def embedding_noise(batch: Batch, alpha: float, width: int) -> Tensor:
    """Noise (batch, length, width) fp32 for ids[:, :-1], of the size that each token's own segment asks for."""
    segments = batch["segments"][:, :-1]
    rows = [
        torch.rand(segments.shape[1], width, generator=torch.Generator().manual_seed(int(seed)))
        for seed in batch["noise"].tolist()
    ]
    uniform = torch.stack(rows).to(segments.device) * 2 - 1
    lengths = torch.zeros(segments.shape[0], int(segments.max()) + 1, device=segments.device)
    lengths.scatter_add_(1, segments.long(), torch.ones_like(segments, dtype=lengths.dtype))
    size = alpha / (lengths.gather(1, segments.long()) * width).sqrt()
    return uniform * (size * (segments != 0))[..., None]


@contextmanager
def added(model: Decoder, noise: Tensor) -> Iterator[None]:
    """Within this context the model reads its embeddings with `noise` (batch, length, width) added.

    Only what is looked up for all of the batch's places gets it; multi-token prediction looks single places up again.
    """
    plain = model.embedded

    def embedded(ids: Tensor) -> Tensor:
        found = plain(ids)
        return found + noise.to(found.dtype) if ids.shape == noise.shape[:2] else found

    model.embedded = embedded  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.embedded
