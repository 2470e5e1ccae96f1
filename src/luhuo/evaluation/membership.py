"""Was a text seen in training: loss, loss by zlib, Min-K% and Min-K%++, and how well they tell members from twins.

A score of a text alone says nothing: easy texts have a low loss too. So there is a verdict for two sets only, texts
that may have been seen and held-out twins from the same source, and it is how far the scores part them. Twins of
another date or style would measure that instead (Duan et al. 2024, arXiv:2402.07841).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder

METHODS = ("loss", "zlib", "min_k", "min_k_plus")
HEAD_ELEMENTS = 1 << 24
"""Most logits held at once."""


@dataclass(frozen=True)
class Separation:
    """How a method parts members from twins: the area under the ROC curve with its 95% interval (0.5: not at all),
    the share of members found while 1% of twins are, and a p-value for "not at all"."""

    auc: float
    low: float
    high: float
    tpr_at_1: float
    p_value: float
    members: int
    twins: int


@torch.inference_mode()
def score(model: Decoder, text: str, share: float = 0.2) -> dict[str, float]:
    """Scores of a text, each higher the likelier it was seen: mean log-probability (`loss`: its negative), that by
    zlib's bytes (Carlini et al. 2021), the mean of the lowest `share` of the tokens (Shi et al. 2024), and that of
    the tokens standardised by their distributions (Zhang et al. 2024). Raises `LuhuoError` for an empty text."""
    found, standard = token_scores(model, text)
    lowest = max(1, int(len(found) * share))
    mean = float(found.mean())
    return {
        "loss": mean,
        "zlib": float(found.sum()) / len(zlib.compress(text.encode())),
        "min_k": float(found.sort().values[:lowest].mean()),
        "min_k_plus": float(standard.sort().values[:lowest].mean()),
    }


@torch.inference_mode()
def token_scores(model: Decoder, text: str) -> tuple[Tensor, Tensor]:
    """(log-probability, (log-probability - mean) / sd over the vocabulary) of each token given those before it,
    double; a text longer than the context is cut. Raises `LuhuoError` for a text without tokens."""
    if model.tokenizer is None:
        raise LuhuoError(tr("This needs a tokenizer.", "此处需要分词器。"), expected="tokenizer.json")
    before = model.tokenizer.encode_prompt("")
    ids = [*before, *model.tokenizer.encode(text)][: model.config.max_positions]
    if len(ids) <= len(before):
        raise LuhuoError(tr("The text is empty.", "文本为空。"), expected=tr("at least one token", "至少一个词元"))
    rows = torch.tensor([ids], device=model.device)
    hidden = model.hidden(rows[:, :-1])[0, len(before) - 1 :]
    targets, chunk = rows[0, len(before) :], max(1, HEAD_ELEMENTS // model.config.vocab_size)
    scores, standard = [], []
    for start in range(0, len(targets), chunk):
        logs = model.head(hidden[start : start + chunk]).double().log_softmax(-1)
        found = logs.gather(-1, targets[start : start + chunk, None])[:, 0]
        weights = logs.exp()
        mean = (weights * logs).sum(-1)
        spread = ((weights * logs.square()).sum(-1) - mean.square()).clamp_min(1e-12).sqrt()
        scores.append(found.cpu())
        standard.append(((found - mean) / spread).cpu())
    return torch.cat(scores), torch.cat(standard)


def separate(members: Sequence[float], twins: Sequence[float], seed: int, resamples: int = 1000) -> Separation:
    """How far scores of members stand above those of twins. Raises ValueError where one of the sets is empty."""
    if not len(members) or not len(twins):
        raise ValueError("both sets need scores")
    a, b = np.asarray(members, dtype=np.float64), np.asarray(twins, dtype=np.float64)
    random = np.random.default_rng(seed)
    draws = [auc(random.choice(a, len(a)), random.choice(b, len(b))) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    both, observed = np.concatenate([a, b]), auc(a, b)
    shuffled = 0
    for _ in range(resamples):
        mixed = random.permutation(both)
        shuffled += abs(auc(mixed[: len(a)], mixed[len(a) :]) - 0.5) >= abs(observed - 0.5) - 1e-12
    bound = np.quantile(b, 0.99, method="higher")
    return Separation(
        observed, float(low), float(high), float((a > bound).mean()), (1 + shuffled) / (1 + resamples), len(a), len(b)
    )


def auc(members: np.ndarray, twins: np.ndarray) -> float:
    """The chance that a member scores above a twin, ties counting half (Mann & Whitney 1947)."""
    ordered = np.sort(twins)
    below, upto = np.searchsorted(ordered, members, "left"), np.searchsorted(ordered, members, "right")
    return float((below + upto).sum() / (2 * len(members) * len(twins)))


def compare(
    model: Decoder, members: Sequence[str], twins: Sequence[str], share: float = 0.2, seed: int = 0
) -> dict[str, Separation]:
    """{method of `METHODS`: how it parts the two sets}."""
    if not members or not twins:
        raise LuhuoError(
            tr("Both sets of texts are needed.", "两组文本都需要。"), found=f"{len(members)} / {len(twins)}"
        )
    seen = [score(model, text, share) for text in members]
    unseen = [score(model, text, share) for text in twins]
    return {m: separate([one[m] for one in seen], [one[m] for one in unseen], seed) for m in METHODS}
