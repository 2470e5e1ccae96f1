"""Preference data rendered through the one template, checked, shortened and counted.

An answer is encoded behind its prompt as one text, cut where generation would begin (`dialogue.render`): so the
prompt's tokens are those that the model sees when it answers, in all answers to it. That is checked for every unit.
Beginnings of text and ends of turns come from the template alone, so none is written twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from luhuo.align.preference.units import Units
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.render import HistoryRewritten, Rendered, fit, render
from luhuo.files.records import Broken
from luhuo.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")
Answer = tuple[Message, ...]
Read = Callable[[Path, Callable[[Broken], None]], tuple[str, Iterable[T]]]
"""A reader of `dialogue.preferences`."""

PROMPT = 2
"""In a mask: a token of the prompt that the SFT term counts, and the log-probability of the answer does not."""


class Unfit(Exception):
    """A unit that cannot be trained on; the message is the reason in one word."""


@dataclass
class Prepared:
    """Units ready to be packed, and what happened to every row that was read."""

    units: Units = field(default_factory=Units)
    layouts: dict[str, str] = field(default_factory=dict)
    """Layout by file."""
    counts: Counter[str] = field(default_factory=Counter)
    """read, used, broken, truncated, and by reason what could not be used."""
    first: list[Rendered] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """All tokens."""
        return int(self.units.store.lengths().sum()) if len(self.units) else 0


def read(
    files: Sequence[Path], reader: Read[T], prepared: Prepared, quarantine: Callable[[Broken], None]
) -> Iterator[T]:
    """The rows of all files; what cannot be read goes to `quarantine` and is counted."""

    def reject(row: Broken) -> None:
        prepared.counts["broken"] += 1
        quarantine(row)

    for file in files:
        prepared.layouts[str(file)], rows = reader(file, reject)
        yield from track(rows, tr("rendering", "渲染"), unit=tr("rows", "行"))


def render_answers(
    prompt: Conversation, answers: Sequence[Answer], tokenizer: Tokenizer, limit: int, *, overlong: str
) -> tuple[list[Rendered], bool]:
    """Each answer behind the prompt, at most `limit` tokens long, and whether the prompt had to be shortened for it.

    Raises `Unfit`. An answer is never cut, since it would then be learned without its end: with `overlong` "truncate"
    whole turns are taken from the front of the prompt, with "drop" the unit is not used.
    """
    found = [_rendered(prompt, answer, tokenizer) for answer in answers]
    longest = max(len(one) for one in found)
    shortened = longest > limit
    if shortened:
        before = len(_opening(prompt, tokenizer))
        room = limit - (longest - before)
        shorter = fit(prompt, tokenizer, room, generation_prompt=True)[0] if overlong == "truncate" else None
        if shorter is None:
            raise Unfit("too_long")
        prompt = shorter
        found = [_rendered(prompt, answer, tokenizer) for answer in answers]
        if max(len(one) for one in found) > limit:
            raise Unfit("too_long")
    opening = _opening(prompt, tokenizer)
    if any(one.ids[: len(opening)] != opening or any(one.mask[: len(opening)]) for one in found):
        raise Unfit("prompt_differs")
    if any(one.ids == other.ids for i, one in enumerate(found) for other in found[:i]):
        raise Unfit("equal_answers")
    return found, shortened


def with_prompt(rendered: Rendered) -> Rendered:
    """The same, its prompt marked as `PROMPT`."""
    start = rendered.mask.index(1)
    return Rendered(rendered.ids, [PROMPT] * start + list(rendered.mask[start:]))


def check(prepared: Prepared) -> None:
    """Raise `LuhuoError` if nothing is left to learn from."""
    if len(prepared.units):
        return
    layouts = ", ".join(f"{Path(name).name}: {layout}" for name, layout in prepared.layouts.items())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(prepared.counts.items()))
    raise LuhuoError(
        tr("No row can be used: there is nothing to learn.", "没有可用的数据行：无可学习。"),
        where=tr(f"layout {layouts}; rows: {counts}", f"格式 {layouts}；行数：{counts}"),
        fix=tr(
            "Look at quarantine.jsonl, and at `limit` if rows are too long.",
            "请查看 quarantine.jsonl；若行过长，请检查 limit。",
        ),
    )


def _opening(prompt: Conversation, tokenizer: Tokenizer) -> list[int]:
    return render(prompt, tokenizer, generation_prompt=True).ids


def _rendered(prompt: Conversation, answer: Answer, tokenizer: Tokenizer) -> Rendered:
    """Prompt and answer up to the last target: what a template writes behind it is not needed."""
    whole = Conversation((*(message.untrained() for message in prompt.messages), *answer), prompt.meta, prompt.tools)
    if not whole.has_target:
        raise Unfit("no_target")
    try:
        found = render(whole, tokenizer)
    except HistoryRewritten:
        raise Unfit("history_rewritten") from None
    mask = [int(value != 0) for value in found.mask]
    if not any(mask):
        raise Unfit("no_target")
    end = len(mask) - mask[::-1].index(1)
    return Rendered(found.ids[:end], mask[:end])
