"""Which tokens of a vocabulary start a text, end it, end a turn of a chat, and fill a batch up.

Published models name them in several files, and not all of them: what is missing is told from the template and from
the names that are in use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

from luhuo.tokenizer.chat import END_OF_TEXT, PAD, TURN_END

TURN_ENDS = (
    TURN_END,
    "<|eot_id|>",
    "<|eot|>",
    "<end_of_turn>",
    "<turn|>",
    "<|return|>",
    "<|end|>",
    "<|endofturn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_role|>",
)
"""How published chat models end a turn."""

TEXT_ENDS = (END_OF_TEXT, "<|end_of_text|>", "<eos>", "</s>", "<EOS_TOKEN>", "<|eos|>", "[EOS]")
"""How documents end where `eos_token` names the end of a turn, or nothing."""

PADS = (PAD, "<pad>", "[PAD]", "<PAD>", "<|finetune_right_pad_id|>", "<|▁pad▁|>", "<｜▁pad▁｜>", "<|padding|>")

FREE = re.compile(r"reserved|unused|<\|extra_\d|<\|dummy|SPECIAL_\d|placeholder", re.IGNORECASE)
"""Special tokens that no text and no template uses."""


USUAL = {
    "bos_token": ("<|begin_of_text|>", "<s>", "<bos>", "[BOS]"),
    "eos_token": ("<|end_of_text|>", "</s>", "<eos>", "[EOS]", END_OF_TEXT),
    "unk_token": ("<unk>", "[UNK]"),
    "pad_token": ("<pad>", "[PAD]"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}
"""What special tokens are called in directories that come without `tokenizer_config.json`."""


@dataclass(frozen=True)
class Roles:
    """Ids by role, None where the vocabulary has none. `turn_ends` is empty or starts with the one to train on."""

    bos: int | None
    text_end: int | None
    turn_ends: tuple[int, ...]
    pad: int | None
    unk: int | None


def named_by_habit(core: tokenizers.Tokenizer) -> dict[str, str]:
    """Role -> token for the special tokens that bear a usual name: a default for what the settings leave out."""
    special = {token.content for token in core.get_added_tokens_decoder().values() if token.special}
    found = {role: next((n for n in names if n in special), None) for role, names in USUAL.items()}
    return {role: name for role, name in found.items() if name is not None}


def find(
    token_id: Callable[[str], int | None],
    special: Mapping[int, str],
    config: Mapping[str, Any],
    template: str | None,
    stop_ids: Sequence[int],
) -> Roles:
    """The roles. `special` are the special tokens by id, `stop_ids` those of `generation_config.json`."""

    def named(role: str) -> int | None:
        value = config.get(role)
        text = value.get("content") if isinstance(value, Mapping) else value
        return token_id(text) if isinstance(text, str) and text else None

    def first(texts: Sequence[str]) -> int | None:
        return next((number for text in texts if (number := token_id(text)) is not None), None)

    eos = named("eos_token")
    known_ends = {number for text in TURN_ENDS if (number := token_id(text)) is not None}
    text_end = eos if eos is not None and eos not in known_ends else first(TEXT_ENDS)
    if text_end is None:
        text_end = next((i for i in (eos, named("sep_token"), first(["[SEP]"])) if i is not None), None)
    turn_ends = _turn_ends(token_id, template, eos, stop_ids)
    if not turn_ends and text_end is not None:
        turn_ends = (text_end,)
    unk = named("unk_token")
    stops = {*turn_ends, text_end, eos, *stop_ids}
    free = [i for i, text in sorted(special.items()) if FREE.search(text)]
    bos = named("bos_token")
    unwritten = [i for i, text in sorted(special.items()) if not (template and text in template) and i != bos]
    candidates = [named("pad_token"), *map(token_id, PADS), *free, unk, *unwritten, bos, *sorted(special)]
    pad = next((i for i in candidates if i is not None and i not in stops), None)
    if pad is None:  # a vocabulary with nothing to spare
        pad = named("pad_token") if named("pad_token") is not None else text_end
    return Roles(bos, text_end, turn_ends, pad, unk)


def _turn_ends(
    token_id: Callable[[str], int | None], template: str | None, eos: int | None, stop_ids: Sequence[int]
) -> tuple[int, ...]:
    """First what the template itself writes, then what `generation_config.json` stops at, then `eos_token`."""
    known = [(text, number) for text in TURN_ENDS if (number := token_id(text)) is not None]
    if template is None:
        written = [number for _, number in known]
    else:
        written = [number for text, number in known if text in template]
    if template is None and written:
        written = written[:1]
    after = [*stop_ids] if written or eos is None else [eos, *stop_ids]
    tail = [] if eos is None else [eos]
    return tuple(dict.fromkeys([*written, *after, *tail]))
