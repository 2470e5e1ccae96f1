"""Log-probabilities of tokens and of sequences: what every method of this room is made of.

Only targets go through the output layer, in chunks, so that neither all logits nor their softmax are ever held. The
softmax is taken in fp32. Unlike a loss, whose gradient is known up to one number while it is computed
(`train.cross_entropy`), what flows back here differs from token to token and is known only later: the backward pass
makes the logits of a chunk a second time. Where the output matrix is frozen (adapters), the gradient of a state is a
known vector times that number, so it is made in the forward pass and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from luhuo.kernels import fused
from luhuo.model.decoder import Decoder
from luhuo.model.layers import Linear
from luhuo.train.cross_entropy import BLOCK, WeightGradient, chunk_rows, filled
from luhuo.train.objective import Batch, CausalLM

PASS_TOKENS = {"cpu": 8192, "cuda": 65_536}
"""Tokens of one forward pass without gradient, by device (`by_rows`)."""


@overload
def token_log_probs(
    model: Decoder, batch: Batch, *, temperature: float = 1.0, with_entropy: Literal[False] = False
) -> Tensor: ...


@overload
def token_log_probs(
    model: Decoder, batch: Batch, *, temperature: float = 1.0, with_entropy: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def token_log_probs(
    model: Decoder, batch: Batch, *, temperature: float = 1.0, with_entropy: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Natural log-probability of each token of ids[:, 1:] that is a target, 0 elsewhere: (rows, length) fp32.

    Logits are divided by `temperature`, which must be the one that was sampled with. Differentiable once. With
    `with_entropy` also the entropy (nats) of the distribution each target was drawn from, without gradient.
    Batches are those of `CausalLM`, with the `trunks` of `rollout_rows.lay_out` if there are any.
    """
    ids, valid = batch["ids"], CausalLM.targets(batch)
    segments, trunks = (batch[name][:, :-1] if name in batch else None for name in ("segments", "trunks"))
    hidden = model.hidden(ids[:, :-1], segments=segments, trunks=trunks)
    found = selected_log_probs(model, hidden[valid], ids[:, 1:][valid], temperature, with_entropy=with_entropy)
    spread = [torch.zeros(valid.shape, device=ids.device).masked_scatter(valid, values) for values in found]
    return (spread[0], spread[1]) if with_entropy else spread[0]


def selected_log_probs(
    model: Decoder, hidden: Tensor, targets: Tensor, temperature: float = 1.0, *, with_entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """(log-probabilities, entropies) of `targets` (n,) by the model's head on `hidden` (n, C), both (n,) fp32.

    The entropies have no gradient, and are 0 unless they are asked for.
    """
    if takes_matrix(model):
        weight = model.head_weight
        kept = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
        return _Selected.apply(hidden, weight, targets, temperature, with_entropy, kept)  # type: ignore[return-value]
    size = chunk_rows(model.config.vocab_size, hidden.device.type)
    chunks = zip(hidden.split(size), targets.split(size), strict=True)
    found = [
        checkpoint(_by_head, model, states, wanted, temperature, with_entropy, use_reentrant=False)
        for states, wanted in chunks
    ]
    if not found:
        return hidden.sum(-1).float(), hidden.new_zeros(0, dtype=torch.float32)
    return torch.cat([one[0] for one in found]), torch.cat([one[1] for one in found])


def sequence_sums(values: Tensor, batch: Batch) -> Tensor:
    """Per-token `values` (rows, length), one for each of ids[:, 1:], summed by segment: (rows, sequences).

    Column k is segment k + 1; there are as many columns as the largest segment of the batch. Without `segments` a row
    is one sequence.
    """
    return _by_segment(values.float(), batch)


def sequence_counts(batch: Batch) -> Tensor:
    """Targets of each sequence: (rows, sequences) fp32, in the columns of `sequence_sums`."""
    return _by_segment(CausalLM.targets(batch).float(), batch)


def by_rows(batch: Batch, device: torch.device) -> Iterator[Batch]:
    """The batch in parts of whole rows, each small enough for a forward pass without gradient."""
    rows, width = batch["ids"].shape
    size = max(1, PASS_TOKENS.get(device.type, PASS_TOKENS["cpu"]) // width)
    pieces = {name: tensor.split(size) for name, tensor in batch.items()}
    for part in range(-(-rows // size)):
        yield {name: pieces[name][part] for name in batch}


def _by_segment(values: Tensor, batch: Batch) -> Tensor:
    segments = batch.get("segments")
    if segments is None:
        return values.sum(1, keepdim=True)
    segments = segments[:, 1:]
    numbers = range(1, max(1, int(segments.max())) + 1)
    # Not index_add, whose order of addition on a GPU is another one each time.
    return torch.stack([values.masked_fill(segments != number, 0).sum(1) for number in numbers], 1)


def takes_matrix(model: Decoder) -> bool:
    """Whether logits are hidden states times one matrix, and nothing is attached to it."""
    plain = type(model.unembedding) is Linear if model.unembedding is not None else True
    return model.plain_head and plain and isinstance(model.head_weight, nn.Parameter)


def _by_head(
    model: Decoder, hidden: Tensor, targets: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    logits = model.head(hidden).float() / temperature
    shares = logits.log_softmax(-1)
    entropies = torch.special.entr(shares.detach().exp()).sum(-1) if with_entropy else shares.new_zeros(len(shares))
    return shares.gather(1, targets[:, None])[:, 0], entropies


class _Selected(torch.autograd.Function):
    """log softmax(hidden · weightᵀ / temperature)[target] row by row, for `selected_log_probs`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, with_entropy: bool, kept: bool
    ) -> tuple[Tensor, Tensor]:
        for_hidden, for_weight = ctx.needs_input_grad[:2]
        early = kept and for_hidden and not for_weight
        ctx.temperature, ctx.early = temperature, early
        matrix = weight.to(hidden.dtype)
        found = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        entropies = torch.zeros_like(found)
        of_hidden = torch.empty_like(hidden) if early else None
        for place, _, logits in _chunks(hidden, matrix):
            count = place.stop - place.start
            if with_entropy:
                entropies[place] = _entropies(logits[:count], temperature)
            found[place] = _log_probs(logits[:count], targets[place], temperature, slopes=early)
            if of_hidden is not None:
                of_hidden[place] = torch.mm(logits, matrix)[:count]
        ctx.mark_non_differentiable(entropies)
        if kept:
            ctx.save_for_backward(*((of_hidden,) if early else (hidden, weight, targets)))
        return found, entropies

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the wrapper makes `ctx` positional
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        upstream = gradients[0] / -ctx.temperature  # the slopes are those of the negative logarithm, by logits / T
        if ctx.early:
            (of_hidden,) = ctx.saved_tensors
            return (of_hidden * upstream[:, None]).to(of_hidden.dtype), None, None, None, None, None
        hidden, weight, targets = ctx.saved_tensors
        for_hidden, for_weight = ctx.needs_input_grad[:2]
        matrix = weight.to(hidden.dtype)
        of_hidden = torch.empty_like(hidden) if for_hidden else None
        of_weight = WeightGradient(weight, hidden) if for_weight else None
        for place, states, logits in _chunks(hidden, matrix):
            count = place.stop - place.start
            _log_probs(logits[:count], targets[place], ctx.temperature, slopes=True)
            logits[:count].mul_(upstream[place, None])
            if of_hidden is not None:
                of_hidden[place] = torch.mm(logits, matrix)[:count]
            if of_weight is not None:
                of_weight.add_product(logits, states)
        return of_hidden, None if of_weight is None else of_weight.total.to(weight.dtype), None, None, None, None


def _chunks(hidden: Tensor, matrix: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(place, states, logits) chunk by chunk, in memory that is used again; both are filled up with rows of zeros."""
    size = min(filled(len(hidden)), chunk_rows(matrix.shape[0], hidden.device.type))
    scores = torch.empty(size, matrix.shape[0], dtype=hidden.dtype, device=hidden.device)
    for start in range(0, len(hidden), max(1, size)):
        states = hidden[start : start + size]
        count = len(states)
        if filled(count) > count:
            states = torch.cat([states, states.new_zeros(filled(count) - count, states.shape[1])])
        logits = torch.mm(states, matrix.t(), out=scores[: len(states)])
        logits[count:] = 0
        yield slice(start, start + count), states, logits


def _log_probs(logits: Tensor, targets: Tensor, temperature: float, *, slopes: bool) -> Tensor:
    """Log-probabilities (n,) of logits (n, V); with `slopes` the logits become softmax minus one at the target.

    The same computation with and without slopes: what is scored again with equal weights is equal to the last bit.
    """
    if temperature == 1 and fused.usable(logits) and len(logits):
        if int(targets.min()) < 0 or int(targets.max()) >= logits.shape[1]:
            raise IndexError(f"a target lies outside the vocabulary of {logits.shape[1]}")
        return -fused.cross_entropy(logits, targets, slopes=slopes)
    found = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for rows, wanted, place in _blocks(logits, targets):
        shares = (rows.float() / temperature).log_softmax(-1)
        found[place] = shares.gather(1, wanted[:, None])[:, 0]
        if slopes:
            rows.copy_(shares.exp_().scatter_add_(1, wanted[:, None], shares.new_full((len(rows), 1), -1.0)))
    return found


def _entropies(logits: Tensor, temperature: float) -> Tensor:
    found = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for rows, _, place in _blocks(logits, logits[:, 0]):
        found[place] = torch.special.entr((rows.float() / temperature).softmax(-1)).sum(-1)
    return found


def _blocks(logits: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """A few rows at a time, so that little is held in fp32."""
    size = BLOCK if logits.device.type == "cpu" else max(1, len(logits))
    for start in range(0, len(logits), size):
        place = slice(start, start + size)
        yield logits[place], targets[place], place
