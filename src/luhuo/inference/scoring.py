"""Log-likelihood of continuations: what multiple-choice evaluation and language-model scoring ask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference.runner import Writer
from luhuo.model.decoder import Decoder

BATCH_TOKENS = 8192
"""Tokens, padding included, of one forward pass (one pair may be longer)."""

Text = str | Sequence[int]


def loglikelihood(model: Decoder, pairs: Sequence[tuple[Text, Text]]) -> list[tuple[float, bool]]:
    """(sum of natural log-probabilities, whether each token is the most probable one) for each (prompt, continuation).

    Texts are joined before they are encoded, and blanks at the end of the prompt belong to the continuation, so that
    tokens are those the model would have seen. Raises `LuhuoError` for an empty continuation or too long a pair.
    """
    encoded = [_encode(model, prompt, continuation) for prompt, continuation in pairs]
    results: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: -len(encoded[i][0]))
    at = 0
    while at < len(order):
        width = len(encoded[order[at]][0])
        group = order[at : at + max(1, BATCH_TOKENS // width)]
        for i, result in zip(group, _score(model, [encoded[i] for i in group]), strict=True):
            results[i] = result
        at += len(group)
    return results


@torch.inference_mode()
def _score(model: Decoder, group: list[tuple[list[int], int]]) -> list[tuple[float, bool]]:
    """`group`: (ids, number of continuation tokens). Padding is on the right, where a causal model cannot see it."""
    width = max(len(ids) for ids, _ in group)
    rows = torch.zeros(len(group), width, dtype=torch.long)
    for i, (ids, _) in enumerate(group):
        rows[i, : len(ids)] = torch.tensor(ids)
    hidden = model.hidden(rows[:, :-1].to(model.device))
    results = []
    for i, (ids, count) in enumerate(group):
        logits: Tensor = model.head(hidden[i, len(ids) - 1 - count : len(ids) - 1]).float()
        wanted = rows[i, len(ids) - count : len(ids)].to(logits.device)
        scores = logits.log_softmax(-1).gather(-1, wanted[:, None]).double().sum()
        results.append((scores.item(), bool((logits.argmax(-1) == wanted).all())))
    return results


@torch.inference_mode()
def mean_states(model: Writer, prompts: Sequence[Sequence[int]], context: int) -> Tensor:
    """The means of the last states of each prompt (of an encoder-decoder, its encoder's), of length one, fp32."""
    rows = [torch.empty(0, model.head_weight.shape[1])]
    for prompt in prompts:
        if len(prompt) > context:
            raise LuhuoError(
                tr("The text is longer than the model's context.", "文本超出模型上下文。"),
                expected=f"≤ {context}",
                found=len(prompt),
            )
        ids = torch.tensor([list(prompt)], device=model.device)
        states = model.hidden(ids) if isinstance(model, Decoder) else model.encode(ids)
        rows.append(F.normalize(states[0].float().mean(0, keepdim=True)).cpu())
    return torch.cat(rows)


def _encode(model: Decoder, prompt: Text, continuation: Text) -> tuple[list[int], int]:
    """Ids of prompt and continuation together, and how many of them are the continuation's."""
    if isinstance(prompt, str) and isinstance(continuation, str):
        tokenizer = model.tokenizer
        if tokenizer is None:
            raise LuhuoError(
                tr("This model has no tokenizer: give it token ids.", "该模型没有分词器：请直接提供词元编号。")
            )
        stripped = prompt.rstrip()
        before, whole = tokenizer.encode_prompt(stripped), tokenizer.encode_prompt(prompt + continuation)
        if not stripped:  # then `before` is what stands in front of a text, also of this one
            whole = [*before, *tokenizer.encode(prompt + continuation)]
        count = len(whole) - len(before)
    else:
        parts = [
            model.tokenizer.encode(t) if isinstance(t, str) and model.tokenizer else list(t)
            for t in (prompt, continuation)
        ]
        whole, count = [int(i) for i in (*parts[0], *parts[1])], len(parts[1])
    if not 0 < count < len(whole) or len(whole) > model.config.max_positions:
        raise LuhuoError(
            tr("This pair cannot be scored.", "无法为这一对文本打分。"),
            expected=tr(
                f"a prompt and a continuation, at most {model.config.max_positions} tokens together",
                f"提示与续文，合计不超过 {model.config.max_positions} 个词元",
            ),
            found=tr(
                f"{len(whole)} tokens, {count} of them the continuation", f"{len(whole)} 个词元，其中续文 {count} 个"
            ),
        )
    model.check_ids(max(whole))
    return whole, count
