"""What an encoder or encoder-decoder has to show against the reference implementation, on tiny random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.model.cross_cache import CrossCache
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.load import load
from luhuo.model.save import save
from tests.family_checks import Case, Result, difference, publish, random_ids, reference, rewrite, tensors

Outputs = dict[str, Tensor]
"""By kind: "tokens" (batch, time, numbers), "text" (batch, numbers)."""


def encoder_outputs(found: Any, time: int) -> Outputs:
    """What a class of transformers gives, whatever it calls it."""
    outputs: Outputs = {}
    if "start_logits" in found:
        return {"tokens": torch.stack([found.start_logits, found.end_logits], -1)}
    for name in ("logits", "prediction_logits", "last_hidden_state"):
        if name in found:
            value = found[name]
            if value.shape[1:] == (time,):
                value = value[..., None]
            outputs["tokens" if value.dim() == 3 else "text"] = value
    for name in ("seq_relationship_logits", "sop_logits", "pooler_output"):
        if name in found:
            outputs["text"] = found[name]
    return outputs


def our_outputs(model: Encoder, hidden: Tensor, segments: Tensor | None = None) -> Outputs:
    """The same of ours, for states."""
    outputs: Outputs = {}
    if model.masked_tokens is not None or model.token_labels is not None:
        outputs["tokens"] = model.head(hidden)
    elif model.config.head == "none":
        outputs["tokens"] = hidden
    if model.text_labels is not None:
        outputs["text"] = model.text(hidden, segments)
    return outputs


def gap(ours: Outputs, theirs: Outputs) -> float:
    """The largest difference; infinite where one side has what the other has not."""
    if ours.keys() != theirs.keys():
        return float("inf")
    return max(difference(ours[kind], theirs[kind]) for kind in ours)


@torch.no_grad()
def run_encoder(case: Case) -> Result:
    """Compare one encoder with its reference; `cached` means nothing here."""
    theirs = reference(case)
    with tempfile.TemporaryDirectory() as folder:
        ours, again, same = _round_trip(theirs, case, Path(folder))
    ids = random_ids(2, 40)
    types = _types(ours, ids)
    named = {} if types is None else {"token_type_ids": types}
    expected = encoder_outputs(theirs(ids, **named), 40)
    found = our_outputs(ours, ours.hidden(ids, types=types))
    forward = ours(ids, types=types)
    assert torch.equal(forward, found.get("tokens", found.get("text", forward)))
    return Result(
        full=gap(found, expected),
        padded=max(_padded(ours, theirs, left=True), _padded(ours, theirs, left=False)),
        packed=_packed(ours, theirs),
        cached=0.0,
        reopened=gap(encoder_outputs(again(ids, **named), 40), expected),
        round_trip=same,
    )


def _types(ours: Encoder, ids: Tensor) -> Tensor | None:
    if ours.types is None or len(ours.types) < 2:
        return None
    return (torch.arange(ids.shape[1]) > ids.shape[1] // 3).long().expand_as(ids).contiguous()


def _round_trip(theirs: Any, case: Case, folder: Path) -> tuple[Any, Any, bool]:
    """Ours read from their files, theirs read from ours, and whether all tensors are the same."""
    source, target = folder / "theirs", folder / "ours"
    publish(case, theirs, source)
    ours = load(source, dtype="fp32", device="cpu")
    assert ours.config.family == case.family, f"read by {ours.config.family}"
    save(ours, target)
    before, after = tensors(source), tensors(target)
    if case.layout is not None:
        rewrite(target, case.layout.restore)
    again = type(theirs).from_pretrained(target, dtype=torch.float32).eval()
    same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    return ours, again, same


def _padded(ours: Encoder, theirs: Any, *, left: bool) -> float:
    """A batch of 30 and 17 tokens; the padding's outputs mean nothing."""
    ids = random_ids(2, 30)
    mask = torch.ones_like(ids)
    empty = slice(0, 13) if left else slice(17, 30)
    mask[1, empty] = 0
    ids[1, empty] = 0
    found = our_outputs(ours, ours.hidden(ids, segments=mask), mask)
    gaps = []
    for row in (0, 1):
        real = mask[row] > 0
        expected = encoder_outputs(theirs(ids[row, real][None]), int(real.sum()))
        mine = {kind: value[row, real][None] if kind == "tokens" else value[row : row + 1]
                for kind, value in found.items()}  # fmt: skip
        gaps.append(gap(mine, expected))
    return max(gaps)


def _packed(ours: Encoder, theirs: Any) -> float:
    """Documents of 14, 20 and 6 tokens in one row; heads for whole texts read each document's states."""
    lengths = [14, 20, 6]
    ids = random_ids(1, sum(lengths))
    segments = torch.repeat_interleave(torch.arange(1, 4), torch.tensor(lengths))[None]
    hidden = ours.hidden(ids, segments=segments).split(lengths, 1)
    pairs = zip(hidden, ids.split(lengths, 1), strict=True)
    return max(gap(our_outputs(ours, part), encoder_outputs(theirs(text), text.shape[1])) for part, text in pairs)


@torch.no_grad()
def run_encoder_decoder(case: Case) -> Result:
    """Compare one encoder-decoder with its reference."""
    theirs = reference(case)
    if case.settings.get("tie_word_embeddings") is False:  # published with an output embedding of its own
        theirs.lm_head.weight = nn.Parameter(0.3 * torch.randn_like(theirs.lm_head.weight))
    if hasattr(theirs, "final_logits_bias"):
        theirs.final_logits_bias += torch.randn_like(theirs.final_logits_bias)
    with tempfile.TemporaryDirectory() as folder:
        ours, again, same = _round_trip(theirs, case, Path(folder))
    ids, written = random_ids(2, 24), random_ids(2, 40)[:, 24:]
    expected = theirs(input_ids=ids, decoder_input_ids=written).logits
    return Result(
        full=difference(ours(ids, written), expected),
        padded=max(_padded_pair(ours, theirs, left=True), _padded_pair(ours, theirs, left=False)),
        packed=_packed_pairs(ours, theirs),
        cached=_cached_pair(ours, theirs),
        reopened=difference(again(input_ids=ids, decoder_input_ids=written).logits, expected),
        round_trip=same,
    )


def _padded_pair(ours: EncoderDecoder, theirs: Any, *, left: bool) -> float:
    """Texts of 24 and 15 tokens, answers of 12 and 7, both sides padded on the same side."""
    read, written = random_ids(2, 24), random_ids(2, 36)[:, 24:]
    masks = torch.ones_like(read), torch.ones_like(written)
    for ids, mask, length in ((read, masks[0], 15), (written, masks[1], 7)):
        empty = slice(0, ids.shape[1] - length) if left else slice(length, None)
        mask[1, empty] = 0
        ids[1, empty] = 0
    found = ours(read, written, segments=masks[0], decoder_segments=masks[1])
    gaps = []
    for row in (0, 1):
        text, answer = read[row, masks[0][row] > 0][None], written[row, masks[1][row] > 0][None]
        expected = theirs(input_ids=text, decoder_input_ids=answer).logits[0]
        gaps.append(difference(found[row, masks[1][row] > 0], expected))
    return max(gaps)


def _packed_pairs(ours: EncoderDecoder, theirs: Any) -> float:
    """Three pairs in one row: each answer looks at its own text."""
    lengths, answers = [14, 20, 6], [5, 3, 9]
    read, written = random_ids(1, 40), random_ids(1, 57)[:, 40:]
    numbers = torch.arange(1, 4)
    found = ours(
        read,
        written,
        segments=torch.repeat_interleave(numbers, torch.tensor(lengths))[None],
        decoder_segments=torch.repeat_interleave(numbers, torch.tensor(answers))[None],
    )
    pairs = zip(read.split(lengths, 1), written.split(answers, 1), strict=True)
    expected = [theirs(input_ids=text, decoder_input_ids=answer).logits for text, answer in pairs]
    return difference(found, torch.cat(expected, 1))


def _cached_pair(ours: EncoderDecoder, theirs: Any) -> float:
    """Padded texts; answers of 5 and 3 tokens (ragged), then six single tokens and a chunk of four."""
    read, written, starts = random_ids(2, 24), random_ids(2, 24), [5, 3]
    mask = torch.ones_like(read)
    mask[1, 15:] = 0
    cache = CrossCache(ours.config, 2, 4)
    real = torch.arange(5)[None] < torch.tensor(starts)[:, None]
    first = ours(read, written[:, :5].where(real, 0), segments=mask, decoder_segments=real.int(), cache=cache)
    found = [[first[row, : starts[row]]] for row in (0, 1)]
    for step in [1] * 6 + [4]:
        part = torch.stack([written[row, cache.lengths[row] : cache.lengths[row] + step] for row in (0, 1)])
        logits = ours(None, part, cache=cache)
        for row in (0, 1):
            found[row].append(logits[row])
    gaps = []
    for row in (0, 1):
        text, answer = read[row, mask[row] > 0][None], written[row : row + 1, : cache.lengths[row]]
        expected = theirs(input_ids=text, decoder_input_ids=answer).logits[0]
        gaps.append(difference(torch.cat(found[row]), expected))
    return max(gaps)
