"""From an objective's name and settings to what a run needs: special tokens, the fields of a new model, and rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.fragments import FragmentRows, Noise
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.rows import Rows
from luhuo.corpus.shards import open_shards
from luhuo.tokenizer.extend import extend
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.denoising.config import Objectives
from luhuo.train.denoising.fill_in_the_middle import FimFrame, FimNoise
from luhuo.train.denoising.infilling import InfillingFrame, InfillingNoise
from luhuo.train.denoising.masked_lm import MaskedFrame, MaskedNoise
from luhuo.train.denoising.prefix_lm import PrefixFrame, PrefixNoise
from luhuo.train.denoising.span_corruption import SpanFrame, SpanNoise, sentinels_needed
from luhuo.train.denoising.words import Words, sentence_ends

USUAL = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "bos_token": "<s>"}
"""What a tokenizer born here calls these roles when an objective needs them."""
SENTINEL = "<extra_id_{}>"
KINDS = {"R": "[R]", "S": "[S]", "X": "[X]"}
"""UL2's tokens for kinds of denoising."""
GAP, MASK, BEGIN = "[gMASK]", "[MASK]", "<sop>"
FIM = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
)
"""How published code models write the three marks; the first is what a tokenizer born here gets."""


@dataclass(frozen=True)
class Prepared:
    """A tokenizer with the tokens an objective needs, and the fields of a new model that follow from them."""

    tokenizer: Tokenizer
    layout: str
    """A key of `architectures.LAYOUTS`, or "decoder" for the plain one."""
    fields: dict[str, Any]


def prepare(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    """The tokenizer and model fields of `settings.objective`; a row has `length` tokens."""
    return _PREPARE[settings.objective](settings, tokenizer, length)


def source(
    settings: Objectives, prepared: Prepared, folder: Path, length: int, seed: int, *, measure: bool = False
) -> Rows:
    """The rows of one split of the shards; with `measure` of the kind that held-out scores are taken on."""
    if settings.objective == "causal":
        return PackedLoader(folder, batch=1, length=length, seed=seed)
    noise = _noise(settings, prepared.tokenizer, length, measure)
    rows = FragmentRows(folder, noise, seed=derive_seed(seed, "fragments"))
    if isinstance(noise, MaskedNoise):
        if noise.words is not None:
            noise.words.learn(tokens for tokens, _ in open_shards(folder.parent / "train", verify=False))
        noise.elsewhere = rows.elsewhere
    return rows


def _roles(tokenizer: Tokenizer, *roles: str) -> dict[str, str]:
    """What the tokenizer calls these roles, or would."""
    named = tokenizer.template_tokens
    return {role: named.get(role) or USUAL[role] for role in roles}


def _causal(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    return Prepared(tokenizer, "decoder", {})


def _masked(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    roles = _roles(tokenizer, "cls_token", "sep_token", "mask_token")
    frame = ([roles["cls_token"]], [roles["sep_token"]])
    ready = extend(tokenizer, list(roles.values()), roles=roles, framed=frame)
    fields = {
        "pad_id": ready.pad_id,
        "bos_id": ready.token_id(roles["cls_token"]),
        "stop_ids": [ready.token_id(roles["sep_token"])],
    }
    if settings.masked.relation != "none":
        fields["head"] = "pretraining"
    return Prepared(ready, settings.masked.layout, fields)


def _span(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    count = sentinels_needed(length, settings.span)
    tokens = [SENTINEL.format(i) for i in range(count)] + (list(KINDS.values()) if settings.span.mixture else [])
    end = tokenizer.token_text(tokenizer.eos_id)
    ready = extend(tokenizer, tokens, roles={"eos_token": end}, framed=([], [end]))
    return Prepared(ready, "t5", {"pad_id": ready.pad_id, "start_id": ready.pad_id, "stop_ids": [tokenizer.eos_id]})


def _infilling(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    roles = _roles(tokenizer, "bos_token", "mask_token")
    end = tokenizer.token_text(tokenizer.eos_id)
    ready = extend(
        tokenizer, list(roles.values()), roles={**roles, "eos_token": end}, framed=([roles["bos_token"]], [end])
    )
    fields = {
        "pad_id": ready.pad_id,
        "bos_id": ready.token_id(roles["bos_token"]),
        "start_id": ready.eos_id,
        "forced_first_id": ready.token_id(roles["bos_token"]),
        "forced_last_id": ready.eos_id,
        "stop_ids": [ready.eos_id],
    }
    return Prepared(ready, "bart", fields)


def _prefix(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    ready = extend(tokenizer, [GAP, MASK, BEGIN], roles={"mask_token": MASK}, framed=([], [GAP, BEGIN]))
    begin = ready.token_id(BEGIN)
    gaps = [ready.token_id(GAP), ready.token_id(MASK)]
    return Prepared(ready, "chatglm", {"prefix_end": begin, "bos_id": begin, "gap_ids": gaps})


def _fim(settings: Objectives, tokenizer: Tokenizer, length: int) -> Prepared:
    return Prepared(extend(tokenizer, _marks(tokenizer)), "decoder", {})


_PREPARE = {
    "causal": _causal,
    "masked": _masked,
    "span": _span,
    "infilling": _infilling,
    "prefix": _prefix,
    "fim": _fim,
}


def _marks(tokenizer: Tokenizer) -> tuple[str, ...]:
    known = set(tokenizer.added_tokens.values())
    return next((names for names in FIM if known.issuperset(names)), FIM[0])


def _noise(settings: Objectives, tokenizer: Tokenizer, length: int, measure: bool) -> Noise:
    pad = tokenizer.pad_id
    if settings.objective == "masked":
        first, last, mask = (
            tokenizer.token_id(t) for t in _roles(tokenizer, "cls_token", "sep_token", "mask_token").values()
        )
        ordinary = np.array(sorted(set(range(tokenizer.vocab_size)) - tokenizer.special_ids))
        words = Words(tokenizer) if settings.masked.whole_words else None
        return MaskedNoise(length, MaskedFrame(first, last, mask, pad, ordinary), settings.masked, words=words)
    if settings.objective == "span":
        count = sentinels_needed(length, settings.span)
        sentinels = np.array([tokenizer.token_id(SENTINEL.format(i)) for i in range(count)])
        kinds = {kind: tokenizer.token_id(name) for kind, name in KINDS.items()} if settings.span.mixture else {}
        return SpanNoise(length, SpanFrame(sentinels, tokenizer.eos_id, pad, pad, kinds), settings.span)
    if settings.objective == "infilling":
        first, mask = (tokenizer.token_id(t) for t in _roles(tokenizer, "bos_token", "mask_token").values())
        end = tokenizer.eos_id
        frame = InfillingFrame(first, end, mask, pad, end, sentence_ends(tokenizer))
        return InfillingNoise(length, frame, settings.infilling)
    if settings.objective == "prefix":
        gap, mask, begin = map(tokenizer.token_id, (GAP, MASK, BEGIN))
        return PrefixNoise(length, PrefixFrame(gap, mask, begin, tokenizer.eos_id, pad), settings.prefix)
    prefix, suffix, middle = map(tokenizer.token_id, _marks(tokenizer))
    frame = FimFrame(prefix, suffix, middle, tokenizer.eos_id, pad)
    return FimNoise(length, frame, settings.fim, tokenizer, only_middle=measure)


def check_fits(prepared: Prepared, vocab_size: int, where: str) -> None:
    """Raise `LuhuoError` if a model that exists has no rows for the tokens the objective needs."""
    if prepared.tokenizer.vocab_size > vocab_size:
        raise LuhuoError(
            tr(
                "This model has no place for the special tokens that the objective needs.",
                "该模型没有位置容纳此目标所需的特殊词元。",
            ),
            expected=tr(
                f"a vocabulary of {prepared.tokenizer.vocab_size}", f"词表大小 {prepared.tokenizer.vocab_size}"
            ),
            found=vocab_size,
            where=where,
            fix=tr(
                "Train a new model (leave `model` out), or give one whose tokenizer has them or reserved tokens left.",
                "训练新模型（去掉 model），或换用词表中已有这些词元、或有剩余保留词元的模型。",
            ),
        )
