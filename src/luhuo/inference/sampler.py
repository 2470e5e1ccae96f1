"""Choosing tokens from logits: each row of (batch, vocab) has its own settings and its own chance.

A row uses one uniform number a token, turned into a token by the inverse of its cumulative distribution. What other
rows do has no influence, so a seeded request gives the same tokens in any batch.

Order, as in `transformers`: logit bias, repetition penalty, presence and frequency penalty, forbidden tokens (bad
words, ends before `min_tokens`), the output format's mask, temperature, top-n-sigma, top-k, top-p, min-p, typical.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling

HEADS = (64, 1024)
"""Best logits of a row that top-k and top-p look at first: finding them costs a fraction of sorting the vocabulary."""
BRANCHES = 16
"""Of the tree by which a number is turned into a token."""
WORD = 2**64 - 1


def next_tokens(requests: Sequence[Request], logits: Tensor, end_tokens: Set[int] = frozenset()) -> list[int]:
    """The next token of each request from its row of `logits` (batch, vocab).

    Log-probabilities are stored with the requests that asked for them. The caller hands every token to
    `Request.push`, which brings penalties and constraint up to date.
    """
    settings = [r.sampling for r in requests]
    scores = edited(requests, logits, end_tokens)
    chosen = choose(scores, settings, [r.uniform() for r in requests])
    if any(r.reports for r in requests):
        raw = all(s.logprobs_mode == "raw" for s in settings)
        _report(requests, (logits.float() if raw else _mixed(logits, scores, settings)).log_softmax(-1), chosen)
    return chosen.tolist()


def edited(requests: Sequence[Request], logits: Tensor, end_tokens: Set[int] = frozenset()) -> Tensor:
    """Logits (batch, vocab) after bias, penalties, forbidden tokens and constraints; the same tensor if none applies.

    A row's logits depend on its own request only.
    """
    if any(r.sampling.edits for r in requests):
        logits = logits.float().clone()
        _add_bias(requests, logits)
        _penalise(requests, logits)
        _forbid(requests, logits, end_tokens)
    rows = [i for i, request in enumerate(requests) if request.constraint is not None]
    if rows:
        allowed = torch.stack([_allowed(requests[i], logits.shape[-1], end_tokens) for i in rows]).to(logits.device)
        place = torch.tensor(rows, device=logits.device)
        kept = logits[place].float().masked_fill(~allowed, -torch.inf)
        # An answer that the format ends before `min_tokens` ends: the format is the stronger promise.
        stuck = kept.amax(-1, keepdim=True) == -torch.inf
        kept = torch.where(stuck & allowed, 0.0, kept)
        logits = logits.float().index_copy(0, place, kept)
    return logits


def choose(logits: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> Tensor:
    """Next tokens (batch,) int64 from logits (batch, vocab) and one number in [0, 1) a row (greedy rows ignore it)."""
    rows = [i for i, s in enumerate(settings) if not s.greedy]
    if len(rows) == len(settings):
        return inverse_cdf(probabilities(logits, settings), uniforms)
    best = _best(logits)
    if rows:
        chances = probabilities(logits[rows], [settings[i] for i in rows])
        best[rows] = inverse_cdf(chances, [uniforms[i] for i in rows])
    return best


def _best(logits: Tensor) -> Tensor:
    """The place of each row's largest logit, of several the first. NumPy takes a twentieth of PyTorch's time."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(logits.numpy().argmax(-1))
    return logits.argmax(-1)


def probabilities(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """The distribution (batch, vocab) in fp32 after temperature and the cuts; no row may be greedy."""
    return warped(logits, settings).softmax(-1)


def warped(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Logits (batch, vocab) in fp32 after temperature and the cuts: minus infinity for what is cut off.

    Top-n-sigma: Tang et al. 2024; top-p: nucleus sampling (Holtzman et al. 2020); min-p: Nguyen et al. 2024;
    typical: Meister et al. 2023.
    """
    logits = logits.float() / _column(logits, [1.0 if s.greedy else s.temperature for s in settings])
    if any(s.top_n_sigma for s in settings):
        logits = _near_best(logits, settings)
    if any(s.top_k or s.top_p < 1 for s in settings):
        logits = _keep_best(logits, settings)
    if any(s.min_p for s in settings):
        floor = logits.amax(-1, keepdim=True) + _column(logits, [s.min_p for s in settings]).log()
        logits = logits.masked_fill(logits < floor, -torch.inf)
    if any(s.typical_p < 1 for s in settings):
        logits = _keep_typical(logits, settings)
    return logits


def inverse_cdf(chances: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Tokens (batch,) of the distributions `chances` (batch, vocab) for one number in [0, 1) a row.

    Tokens are the leaves of a tree whose nodes have `BRANCHES` branches; from the root on a branch is chosen by the
    running sum of its sisters' chances, with the number at the root and with numbers hashed from it further down.
    One running sum over the vocabulary is slow, and worse: in its tail tokens are as narrow as the last digits of
    fp32, so that what else is in the batch would change the token in one place of a thousand. Here some sixty borders
    are looked at, not tens of thousands.
    """
    sums = [_in_branches(chances)]
    while sums[-1].shape[1] > 1:
        sums.append(_in_branches(sums[-1].sum(-1)))
    numbers = torch.tensor([_numbers(u, len(sums)) for u in uniforms], dtype=torch.float64, device=chances.device)
    place = torch.zeros(len(chances), 1, dtype=torch.long, device=chances.device)
    for level, nodes in enumerate(reversed(sums)):  # (batch, nodes, branches)
        inside = nodes.gather(1, place[..., None].expand(-1, -1, BRANCHES))[:, 0].double().cumsum(-1)
        place = place * BRANCHES + _first_above(inside, numbers[:, level, None] * inside[:, -1:])
    return place.squeeze(-1)


def _in_branches(chances: Tensor) -> Tensor:
    """(batch, n) as (batch, nodes, branches), filled up with zeros."""
    missing = -chances.shape[-1] % BRANCHES
    return (F.pad(chances, (0, missing)) if missing else chances).reshape(len(chances), -1, BRANCHES)


def _numbers(uniform: float, count: int) -> list[float]:
    """`count` numbers in [0, 1): this one, and as many as it takes made of it (Steele et al. 2014: SplitMix64)."""
    seed, found = int(uniform * 2**53), [uniform]
    for step in range(1, count):
        bits = (seed + step * 0x9E3779B97F4A7C15) & WORD
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & WORD
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & WORD
        found.append(((bits ^ bits >> 31) >> 11) / 2**53)
    return found


def _first_above(sums: Tensor, points: Tensor) -> Tensor:
    """Where running sums (batch, n) first exceed points (batch, 1); where they last grow if rounding says nowhere."""
    last = torch.searchsorted(sums, sums[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(sums, points, right=True), last)


def _add_bias(requests: Sequence[Request], logits: Tensor) -> None:
    for row, request in enumerate(requests):
        bias = request.sampling.logit_bias
        if bias:
            ids = torch.tensor(list(bias), device=logits.device)
            logits[row, ids] += torch.tensor(list(bias.values()), device=logits.device)


def _penalise(requests: Sequence[Request], logits: Tensor) -> None:
    """The three penalties in place, on the tokens that each request has seen: work does not grow with the vocabulary.

    Repetition (Keskar et al. 2019) looks at prompt and answer, as `transformers` does; presence and frequency look
    at the answer, as OpenAI's API does.
    """
    found = [(row, r.history, r.sampling) for row, r in enumerate(requests) if r.history is not None]
    if not found:
        return
    sizes = [len(history.ids) for _, history, _ in found]
    rows = np.repeat([row for row, _, _ in found], sizes)
    parameters = [(s.repetition_penalty, s.frequency_penalty, s.presence_penalty) for _, _, s in found]
    spread = np.repeat(np.array(parameters, dtype=np.float32), sizes, axis=0)
    device = logits.device
    place = (
        torch.from_numpy(rows).to(device),
        torch.from_numpy(np.concatenate([h.ids for _, h, _ in found])).to(device),
    )
    counts = torch.from_numpy(np.concatenate([h.counts for _, h, _ in found])).to(device)
    repetition, frequency, presence = torch.from_numpy(spread).to(device).unbind(-1)
    values = logits[place]
    values = torch.where(values > 0, values / repetition, values * repetition)
    logits[place] = values - counts * frequency - (counts > 0) * presence


def _forbid(requests: Sequence[Request], logits: Tensor, end_tokens: Set[int]) -> None:
    for row, request in enumerate(requests):
        banned = request.banned(end_tokens)
        if banned:
            logits[row, torch.tensor(sorted(banned), device=logits.device)] = -torch.inf


def _allowed(request: Request, vocab: int, end_tokens: Set[int]) -> Tensor:
    """What the request's constraint allows (vocab,); where the answer may end, every token that ends it does."""
    assert request.constraint is not None
    return request.constraint.allowed(vocab, end_tokens | request.ends | request.stop_ids)


def _near_best(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Minus infinity for what is further below the best than so many standard deviations of the finite logits."""
    finite = logits.isfinite()
    count = finite.sum(-1, keepdim=True)
    plain = logits.masked_fill(~finite, 0)
    mean = plain.sum(-1, keepdim=True) / count
    spread = ((plain - mean).masked_fill(~finite, 0).square().sum(-1, keepdim=True) / count).sqrt()
    width = _column(logits, [s.top_n_sigma or torch.inf for s in settings])
    floor = logits.amax(-1, keepdim=True) - torch.where(width.isinf(), torch.inf, width * spread)
    return logits.masked_fill(logits < floor, -torch.inf)


def _keep_best(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Minus infinity for everything outside top-k and top-p. Of equal logits the smaller id counts as better.

    A row looks at as many of its best values as it takes to decide; only flat ones are sorted as a whole.
    """
    cut = [i for i, s in enumerate(settings) if s.top_k or s.top_p < 1]
    some = logits[cut]
    kept = torch.empty_like(some, dtype=torch.bool)
    vocab = logits.shape[-1]
    open_rows = list(range(len(cut)))
    for width in [*(w for w in HEADS if w < vocab), vocab]:
        part = some[open_rows]
        kept[open_rows], decided = _cut(part, part.topk(width).values, [settings[cut[i]] for i in open_rows])
        open_rows = [row for row, done in zip(open_rows, decided.tolist(), strict=True) if not done]
        if not open_rows:
            break
    return logits.index_copy(0, torch.tensor(cut, device=logits.device), some.masked_fill(~kept, -torch.inf))


def _cut(logits: Tensor, ordered: Tensor, settings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
    """What top-k and top-p keep (batch, vocab), given the best values in order (batch, width), and whether these
    were enough to tell (batch,)."""
    vocab, width = logits.shape[-1], ordered.shape[-1]
    most = _column(logits, [min(s.top_k or vocab, vocab) for s in settings], torch.long)
    mass = _column(logits, [s.top_p if s.top_p < 1 else 2.0 for s in settings])
    cut = ordered.masked_fill(torch.arange(width, device=logits.device) >= most, -torch.inf)
    total = torch.where(most < vocab, cut.logsumexp(-1, keepdim=True), logits.logsumexp(-1, keepdim=True))
    before = (cut - total).exp().cumsum(-1).roll(1, -1)
    before[:, 0] = 0  # the best token always stays
    count = torch.minimum((before < mass).sum(-1, keepdim=True), most)
    whole = (most <= width) | ((most == vocab) & (count < width)) | (width == vocab)
    last = ordered.gather(-1, count.clamp(max=width) - 1)
    above, equal = logits > last, logits == last
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True))), whole[:, 0]


def _keep_typical(logits: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Minus infinity outside the typical set: tokens by distance of their surprise from the entropy, up to a mass."""
    scores = logits.log_softmax(-1)
    chances = scores.exp()
    entropy = -(chances * scores).nansum(-1, keepdim=True)
    distance = (-scores - entropy).abs()
    order = distance.sort(dim=-1, stable=True).indices
    before = chances.gather(-1, order).cumsum(-1).roll(1, -1)
    before[:, 0] = 0
    drop = before >= _column(logits, [s.typical_p if s.typical_p < 1 else 2.0 for s in settings])
    return logits.masked_fill(torch.empty_like(drop).scatter_(-1, order, drop), -torch.inf)


def _mixed(logits: Tensor, scores: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """Logits whose softmax is to be reported: the model's, or those that were sampled from."""
    processed = torch.tensor([s.logprobs_mode == "processed" for s in settings], device=logits.device)[:, None]
    return torch.where(processed, warped(scores, settings), logits.float())


def _report(requests: Sequence[Request], scores: Tensor, chosen: Tensor) -> None:
    """Store log-probabilities (from `scores`, (batch, vocab)) of the chosen and the best tokens."""
    taken = scores.gather(-1, chosen[:, None])[:, 0].tolist()
    count = min(max((r.sampling.logprobs or 0) for r in requests), scores.shape[-1])
    best = scores.topk(count) if count else None
    ids, values = (best.indices.tolist(), best.values.tolist()) if best else ([], [])
    for row, request in enumerate(requests):
        if not request.reports:
            continue
        request.logprobs.append(taken[row])
        wanted = request.sampling.logprobs
        if wanted is not None:
            pairs = zip(ids[row][:wanted], values[row][:wanted], strict=True) if best else ()
            request.top_logprobs.append(dict(pairs))


def _column(like: Tensor, values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=like.device)[:, None]
