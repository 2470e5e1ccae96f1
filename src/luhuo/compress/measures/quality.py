"""How far a compressed model is from its original on held-out text.

The original reads the passages once, in fp32; its last states and output matrix are kept, so that its whole
distribution over the vocabulary is at hand while a compressed model reads the same passages, and two models are never
in memory at once. Of each token: the loss of both, KL(original ‖ compressed), and whether both hold the same token to
be the most probable one. Perplexity alone hides changes that go both ways (Dutta et al. 2024, "Accuracy is not all
you need"), the other two do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from luhuo.compress.measures.intervals import rate, units_of
from luhuo.compress.measures.passages import Passage
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer

BATCH_TOKENS = 4096
HEAD_ELEMENTS = 1 << 24
"""Most logits held at once."""
TAIL = 0.99
"""The share of tokens whose divergence is below the figure for the tail."""


@dataclass(frozen=True)
class Original:
    """What the original says of the passages."""

    passages: list[Passage]
    rows: list[list[int]]
    """Ids of each passage, with what stands in front of it."""
    given: int
    """How many ids stand in front of each."""
    nats: list[Tensor]
    """-log p of each token of each passage, fp64."""
    states: list[Tensor]
    """(tokens, width) fp32: the states from which each token is predicted."""
    head: Decoder
    """The original without its blocks."""


def read_original(model: Decoder, passages: Sequence[Passage]) -> Original:
    """Let the original read; it loses its blocks, since only its output matrix is wanted afterwards."""
    rows, given = _rows(tokenizer_of(model), [passage.text for passage in passages])
    nats: list[Tensor] = [torch.empty(0)] * len(rows)
    states: list[Tensor] = [torch.empty(0)] * len(rows)
    with torch.inference_mode():
        for numbers, found in _read(model, rows, given, tr("the original reads", "原模型阅读")):
            for number, state in zip(numbers, found, strict=True):
                targets = torch.tensor(rows[number][given:])
                parts = [
                    _nats(model.head(state[at]).float().log_softmax(-1), targets[at])
                    for at in _chunks(len(state), model)
                ]
                nats[number], states[number] = torch.cat(parts), state.float().cpu()
    model.blocks = nn.ModuleList()
    return Original(list(passages), rows, given, nats, states, model)


@dataclass(frozen=True)
class Quality:
    """Per passage: sums over its tokens. `divergence` and `agreed` are None where the tokens are not the same."""

    nats: np.ndarray
    """(passages,) -log p of the whole passage."""
    divergence: np.ndarray | None
    """(passages,) sum of KL(original ‖ compressed) over its tokens, in nats."""
    agreed: np.ndarray | None
    """(passages,) tokens at which both have the same most probable one."""
    divergences: list[np.ndarray]
    """Of each passage KL token by token."""


def compare(model: Decoder, original: Original) -> Quality:
    """Let a compressed model read what the original has read.

    With another tokenizer (a trimmed vocabulary) only the losses of whole passages can be compared.
    """
    rows, given = _rows(tokenizer_of(model), [passage.text for passage in original.passages])
    same = rows == original.rows and model.config.vocab_size == original.head.config.vocab_size
    nats, divergences = np.zeros(len(rows)), [np.zeros(0)] * len(rows)
    agreed = np.zeros(len(rows))
    with torch.inference_mode():
        for numbers, found in _read(model, rows, given, tr("held-out text", "留出文本")):
            for number, state in zip(numbers, found, strict=True):
                targets, kl = torch.tensor(rows[number][given:]), list[Tensor]()
                for at in _chunks(len(state), model):
                    q = model.head(state[at]).float().log_softmax(-1).cpu()
                    nats[number] += float(_nats(q, targets[at]).sum())
                    if same:
                        p = original.head.head(original.states[number][at].to(original.head.device))
                        p = p.float().log_softmax(-1).cpu()
                        kl.append((p.exp() * (p - q)).sum(-1).double().clamp_min(0))
                        agreed[number] += int((p.argmax(-1) == q.argmax(-1)).sum())
                if kl:
                    divergences[number] = torch.cat(kl).numpy()
    if not same:
        return Quality(nats, None, None, [])
    return Quality(nats, np.array([float(d.sum()) for d in divergences]), agreed, divergences)


def figures(quality: Quality, original: Original, seed: int = 0) -> dict[str, Any]:
    """Figures over all passages and by language, with 95% intervals; None where a model gives no number at all.

    {"all": …, "languages": {lang: …}, "drawn": what the bootstrap draws} of {"tokens", "bytes", "documents",
    "perplexity", "original_perplexity", "loss", "kl", "kl_tail", "agreement"}; perplexities are per token of the
    original's tokenizer, `loss` is the relative change of perplexity.
    """
    langs = np.array([passage.lang for passage in original.passages])
    drawn = {lang: units_of([p.document for p in original.passages if p.lang == lang])[0] for lang in set(langs)}
    return {
        "all": _figures(quality, original, np.ones(len(langs), dtype=bool), seed),
        "languages": {str(lang): _figures(quality, original, langs == lang, seed) for lang in sorted(set(langs))},
        "drawn": "documents" if set(drawn.values()) == {"documents"} else "passages",
    }


def _figures(quality: Quality, original: Original, chosen: np.ndarray, seed: int) -> dict[str, Any]:
    places = np.flatnonzero(chosen)
    tokens = np.array([len(original.nats[i]) for i in places], dtype=np.float64)
    units = units_of([original.passages[i].document for i in places])[1]
    before = np.array([float(original.nats[i].sum()) for i in places])
    found: dict[str, Any] = {
        "tokens": int(tokens.sum()),
        "bytes": sum(len(original.passages[i].text.encode("utf-8", "surrogatepass")) for i in places),
        "documents": len({original.passages[i].document for i in places}),
        "original_perplexity": _exp(float(before.sum() / tokens.sum())),
        "perplexity": _exp(float(quality.nats[places].sum() / tokens.sum())),
        "loss": None,
        "kl": None,
        "kl_tail": None,
        "agreement": None,
    }
    if not np.isfinite(quality.nats[places]).all():
        return found
    change = rate(quality.nats[places] - before, tokens, units, seed)
    ends = [end for end in (_exp(change.mean), _exp(change.low), _exp(change.high)) if end is not None]
    if len(ends) == 3:
        found["loss"] = {name: end - 1 for name, end in zip(("mean", "low", "high"), ends, strict=True)}
    if quality.divergence is None or quality.agreed is None or not np.isfinite(quality.divergence[places]).all():
        return found
    found["kl"] = _named(rate(quality.divergence[places], tokens, units, seed))
    found["agreement"] = _named(rate(quality.agreed[places], tokens, units, seed))
    found["kl_tail"] = float(np.quantile(np.concatenate([quality.divergences[i] for i in places]), TAIL))
    return found


def _named(estimate: Any) -> dict[str, float]:
    return {name: value for name, value in asdict(estimate).items() if name != "n"}


def _exp(value: float) -> float | None:
    return math.exp(value) if value < 700 else None


def tokenizer_of(model: Decoder) -> Tokenizer:
    """The model's tokenizer. Raises `LuhuoError` if it has none."""
    if model.tokenizer is None:
        raise LuhuoError(
            tr("A model is measured on text, and needs a tokenizer.", "模型要在文本上测量，需要分词器。"),
            expected="tokenizer.json",
        )
    return model.tokenizer


def _rows(tokenizer: Tokenizer, texts: list[str]) -> tuple[list[list[int]], int]:
    before = tokenizer.encode_prompt("")
    return [[*before, *ids] for ids in tokenizer.encode_batch(texts)], len(before)


def _read(model: Decoder, rows: list[list[int]], given: int, title: str) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Batches of similar length: numbers of rows, and the states (tokens, width) before each token of theirs.

    A row longer than the context (another tokenizer may need more tokens for a passage) is read in windows that do
    not overlap.
    """
    context = model.config.max_positions
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    total = sum(len(row) - given for row in rows)
    with Progress(title, total, tr("tokens", "词元")) as progress:
        for numbers in _batches(order, rows):
            longest = max(len(rows[i]) for i in numbers)
            ids = torch.zeros(len(numbers), longest - 1, dtype=torch.long)
            for place, number in enumerate(numbers):
                ids[place, : len(rows[number]) - 1] = torch.tensor(rows[number][:-1])
            ids = ids.to(model.device)
            parts = [model.hidden(part) for part in ids.split(context, 1)]
            states = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            yield numbers, [states[place, given - 1 : len(rows[i]) - 1] for place, i in enumerate(numbers)]
            progress.advance(sum(len(rows[i]) - given for i in numbers))


def _batches(order: list[int], rows: list[list[int]]) -> Iterator[list[int]]:
    batch: list[int] = []
    for number in order:
        if batch and (len(batch) + 1) * len(rows[number]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _chunks(count: int, model: Decoder) -> list[slice]:
    step = max(1, HEAD_ELEMENTS // model.config.vocab_size)
    return [slice(start, start + step) for start in range(0, count, step)]


def _nats(log_probs: Tensor, targets: Tensor) -> Tensor:
    return -log_probs.cpu().gather(-1, targets[:, None])[:, 0].double()
