"""Preference data for reward models: rows to token ids, packed so that what is compared stands in one row.

`dialogue.preferences` reads the rows; what they say is learned so:

| row        | learned as             |
| ---------- | ---------------------- |
| Preference | one comparison         |
| Ranking    | all pairs that differ  |
| Unpaired   | good or not            |
| Scored     | a score                |
| Stepwise   | each step right or not |

A text ends with the token that ends the assistant's turn, as what a policy writes does.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.judged import Judged, Preference, Ranking, Scored, Stepwise, Unpaired, joined
from luhuo.dialogue.packing import ConversationLoader
from luhuo.dialogue.preferences import read_judged
from luhuo.dialogue.render import render
from luhuo.dialogue.rows import Found
from luhuo.files.records import Broken, broken
from luhuo.tokenizer.tokenizer import Tokenizer

Kind = Literal["pairwise", "binary", "regression", "process"]

LEARNED_AS: dict[type[Judged], Kind] = {
    Preference: "pairwise",
    Ranking: "pairwise",
    Unpaired: "binary",
    Scored: "regression",
    Stepwise: "process",
}
STEP_END = "\n"
"""What stands behind each step but the last."""


@dataclass(frozen=True)
class Comparison:
    """What is judged together: texts of one prompt, and what is said about them."""

    ids: tuple[array[int], ...]
    """Token ids of each text, prompt and answer."""
    answers: tuple[int, ...]
    """Tokens of each text that are its answer."""
    pairs: tuple[tuple[int, int, float], ...] = ()
    """(better, worse, margin): numbers of texts, from 0."""
    labels: tuple[float, ...] = ()
    """One for each text (binary, score) or for each step."""
    steps: tuple[int, ...] = ()
    """Where the steps of the one text end: places in `ids[0]`."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What else the row says: `defect`, `family`, `lang`, …"""

    def __len__(self) -> int:
        return sum(map(len, self.ids))


@dataclass
class RewardData:
    """Comparisons of one kind, and what happened to every row that was read."""

    kind: Kind = "pairwise"
    items: list[Comparison] = field(default_factory=list)
    layouts: dict[str, str] = field(default_factory=dict)
    """Layout by file."""
    counts: Counter[str] = field(default_factory=Counter)
    """read, used, broken, too_long, all_tied."""

    def __len__(self) -> int:
        return len(self.items)

    def lengths(self) -> np.ndarray:
        """Tokens of each comparison, all its texts together."""
        return np.array([len(item) for item in self.items], dtype=np.int64)

    @property
    def tokens(self) -> int:
        """All tokens."""
        return int(self.lengths().sum())


def read_reward_data(
    files: Sequence[Path], tokenizer: Tokenizer, length: int, quarantine: Callable[[Broken], None]
) -> RewardData:
    """Read, check and tokenise all rows; those that cannot be used go to `quarantine`.

    A comparison of more than `length` + 1 tokens, all its texts together, is left out: cut, its texts would differ in
    what was judged. Raises `LuhuoError` for an unknown layout, files of different kinds, or when nothing is left.
    """
    data, kinds = RewardData(), set[Kind]()

    def reject(row: Broken) -> None:
        data.counts.update(("read", "broken"))
        quarantine(row)

    for file in files:
        data.layouts[str(file)], rows = read_judged(file, reject)
        for row in track(rows, tr("rendering", "渲染"), unit=tr("rows", "行")):
            kinds.add(LEARNED_AS[type(row.value)])
            found = _comparison(row, tokenizer, file)
            if isinstance(found, Broken):
                reject(found)
                continue
            fits = (
                "all_tied" if not (found.pairs or found.labels) else "too_long" if len(found) > length + 1 else "used"
            )
            data.counts.update(("read", fits))
            if fits == "used":
                data.items.append(found)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(data.counts.items()))
    layouts = ", ".join(f"{Path(name).name}: {layout}" for name, layout in data.layouts.items())
    if len(kinds) > 1:
        raise LuhuoError(
            tr("The files are of different kinds.", "各文件的数据类型不同。"),
            expected=tr("one kind of judgement", "同一种判断"),
            found=layouts,
        )
    if not data.items:
        raise LuhuoError(
            tr("There is nothing to learn from.", "没有可学习的内容。"),
            found=counts,
            where=layouts,
            fix=tr("Look at quarantine.jsonl, and at `length`.", "请检查 quarantine.jsonl 与 length。"),
        )
    data.kind = kinds.pop()
    return data


def _comparison(row: Found[Judged], tokenizer: Tokenizer, file: Path) -> Comparison | Broken:
    try:
        return _learned(row.value, tokenizer)
    except (LuhuoError, ValueError) as error:
        return broken(file.as_posix(), row.line, "bad_row", error)


def _learned(row: Judged, tokenizer: Tokenizer) -> Comparison:
    """What is learned of a row. Raises `ValueError` where its texts, as tokens, leave nothing to tell apart."""
    match row:
        case Preference():
            return _pair(row, tokenizer)
        case Ranking():
            return _ranking(row, tokenizer)
        case Unpaired():
            return _single(row, float(row.label), tokenizer)
        case Scored():
            return _single(row, row.score, tokenizer)
        case Stepwise():
            return _steps(row, tokenizer)
        case _:
            assert_never(row)


def _pair(row: Preference, tokenizer: Tokenizer) -> Comparison:
    texts = [conversation_text(one, tokenizer) for one in row.conversations()]
    if texts[0][0] == texts[1][0]:
        raise ValueError("chosen and rejected are the same text")
    # The lead a row asks for; the difference of two scores has a scale of its own and is none.
    margin = row.margin if row.margin is not None and "margin" in row.meta else 0.0
    return Comparison(*_columns(texts), pairs=((0, 1, margin),), meta=_meta(row))


def _ranking(row: Ranking, tokenizer: Tokenizer) -> Comparison:
    ranks = row.ranks
    texts = [conversation_text(joined(row.prompt, answer), tokenizer) for answer in row.answers]
    pairs = tuple(
        (a, b, 0.0) if ranks[a] < ranks[b] else (b, a, 0.0)
        for a, b in combinations(range(len(ranks)), 2)
        if ranks[a] != ranks[b] and texts[a][0] != texts[b][0]
    )
    return Comparison(*_columns(texts), pairs=pairs, meta=_meta(row))


def _single(row: Unpaired | Scored, label: float, tokenizer: Tokenizer) -> Comparison:
    text = conversation_text(joined(row.prompt, row.completion), tokenizer)
    return Comparison(*_columns([text]), labels=(label,), meta=_meta(row))


def _steps(row: Stepwise, tokenizer: Tokenizer) -> Comparison:
    """The steps stand on lines of one answer. A step ends where the text up to its end, tokenised, does."""
    steps = list(row.steps)
    said = joined(row.prompt, (Message("assistant", STEP_END.join(steps)),))
    whole, answer = conversation_text(said, tokenizer)
    start, pieces = len(whole) - answer, [tokenizer.encode(step + STEP_END) for step in steps[:-1]]
    places, at = list[int](), start
    for piece in pieces:
        at += len(piece)
        places.append(at - 1)
    shown = [token for piece in pieces for token in piece] + tokenizer.encode(steps[-1])
    if list(whole[start : start + len(shown)]) != shown:  # a tokenizer that joins lines: count in the text
        places = _ends_in(list(whole[start:]), steps, tokenizer, start)
    labels = tuple(float(label) for label in row.labels)
    return Comparison((whole,), (answer,), labels=labels, steps=(*places, len(whole) - 1), meta=_meta(row))


def _ends_in(ids: list[int], steps: list[str], tokenizer: Tokenizer, start: int) -> list[int]:
    """Places of the tokens in which the steps but the last end, by the text the tokens stand for."""
    borders, at = list[int](), 0
    for step in steps[:-1]:
        at += len(step + STEP_END)
        borders.append(at)
    decoder, told, places = tokenizer.decoder(), 0, list[int]()
    for place, token in enumerate(ids):
        told += len(decoder.push(token))
        while len(places) < len(borders) and told >= borders[len(places)]:
            places.append(start + place)
    if len(set(places)) != len(borders):
        raise ValueError("two steps end in one token")
    return places


def _columns(texts: Sequence[tuple[array[int], int]]) -> tuple[tuple[array[int], ...], tuple[int, ...]]:
    return tuple(ids for ids, _ in texts), tuple(answer for _, answer in texts)


def conversation_text(conversation: Conversation, tokenizer: Tokenizer) -> tuple[array[int], int]:
    """Token ids of a conversation up to the end of its last turn, and how many are of that turn."""
    *before, last = conversation.messages
    if last.role != "assistant":
        raise ValueError("the answer does not end with an assistant's turn")
    turns = (*(replace(message, train=False) for message in before), replace(last, train=True))
    rendered = render(replace(conversation, messages=turns), tokenizer)
    end = 1 + max(place for place, target in enumerate(rendered.mask) if target)
    return array("I", rendered.ids[:end]), rendered.targets


def _meta(row: Judged) -> dict[str, Any]:
    return {name: value for name, value in row.meta.items() if name in META and isinstance(value, str | int | float)}


META = ("id", "defect", "family", "lang", "source")
"""Fields of a row by which scores are told apart."""


class RewardLoader(ConversationLoader):
    """Endless batches for the objectives of `reward_objective.py`; the texts of a comparison stand in one row."""

    def __init__(
        self, data: RewardData, *, batch: int, length: int, seed: int, pad_id: int, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(data, batch=batch, length=length, seed=seed, pad_id=pad_id, rank=rank, world=world)  # type: ignore[arg-type]
        self._data: list[Comparison] = data.items
        self._kind: Kind = data.kind

    def _assemble(self, rows: list[list[int]]) -> dict[str, np.ndarray]:
        return assemble([[self._data[i] for i in row] for row in rows], self._kind, self._width, self._pad_id)


def assemble(rows: Sequence[Sequence[Comparison]], kind: Kind, width: int, pad_id: int) -> dict[str, np.ndarray]:
    """A batch of rows `width` tokens long, each with the texts of its comparisons as segments 1, 2, …"""
    texts = max(sum(len(item.ids) for item in row) for row in rows)
    pairs = max(sum(len(item.pairs) for item in row) for row in rows)
    count = len(rows)
    batch = {
        "ids": np.full((count, width), pad_id, dtype=np.int64),
        "segments": np.zeros((count, width), dtype=np.int32),
    }
    if kind == "pairwise":
        batch |= {name: np.zeros((count, pairs), dtype=np.int64) for name in ("better", "worse")}
        batch |= {name: np.zeros((count, pairs), dtype=np.float32) for name in ("margin", "share")}
    else:
        shape = (count, width if kind == "process" else texts)
        batch |= {name: np.zeros(shape, dtype=np.float32) for name in ("labels", "known")}
    for i, row in enumerate(rows):
        _fill({name: array[i] for name, array in batch.items()}, row, kind)
    return batch


def _fill(row: dict[str, np.ndarray], items: Sequence[Comparison], kind: Kind) -> None:
    at, segment, pair = 0, 0, 0
    for item in items:
        for better, worse, margin in item.pairs:
            row["better"][pair], row["worse"][pair] = segment + better + 1, segment + worse + 1
            row["margin"][pair], row["share"][pair] = margin, 1 / len(item.pairs)
            pair += 1
        if kind == "process":
            places = at + np.array(item.steps)
            row["labels"][places], row["known"][places] = item.labels, 1
        elif item.labels:
            row["labels"][segment], row["known"][segment] = item.labels[0], 1
        for ids in item.ids:
            segment += 1
            row["ids"][at : at + len(ids)], row["segments"][at : at + len(ids)] = ids, segment
            at += len(ids)


def by_length(items: Sequence[Comparison], tokens: int) -> Iterator[list[int]]:
    """Numbers of items in groups of similar length, each group at most about `tokens` with its padding."""
    order = sorted(range(len(items)), key=lambda i: max(map(len, items[i].ids)))
    group, texts = list[int](), 0
    for number in order:
        longest = max(map(len, items[number].ids))
        if group and (texts + len(items[number].ids)) * longest > tokens:
            yield group
            group, texts = [], 0
        group.append(number)
        texts += len(items[number].ids)
    if group:
        yield group
