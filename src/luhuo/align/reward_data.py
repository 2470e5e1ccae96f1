"""Preference data for reward models: rows to token ids, packed so that what is compared stands in one row.

Layouts, told by their keys (TRL's names; prompts and answers are texts or lists of messages):

| layout   | keys                                            | learned as             |
| -------- | ----------------------------------------------- | ---------------------- |
| pairs    | chosen, rejected; prompt, margin optional       | one comparison         |
| ranking  | prompt, answers, ranks (1 is best; ties equal)  | all pairs that differ  |
| binary   | prompt, completion, label (true or false)       | good or not            |
| score    | prompt, completion, score (a number)            | a score                |
| steps    | prompt, completions, labels (true or false)     | each step right or not |

A text ends with the token that ends the assistant's turn, as what a policy writes does.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.packing import ConversationLoader
from luhuo.dialogue.render import render
from luhuo.files.records import Broken, broken
from luhuo.files.structured import read_rows
from luhuo.tokenizer.tokenizer import Tokenizer

Layout = Literal["pairs", "ranking", "binary", "score", "steps"]
Kind = Literal["pairwise", "binary", "regression", "process"]

KEYS: dict[Layout, frozenset[str]] = {
    "ranking": frozenset({"prompt", "answers", "ranks"}),
    "steps": frozenset({"prompt", "completions", "labels"}),
    "pairs": frozenset({"chosen", "rejected"}),
    "binary": frozenset({"prompt", "completion", "label"}),
    "score": frozenset({"prompt", "completion", "score"}),
}
LEARNED_AS: dict[Layout, Kind] = {
    "pairs": "pairwise",
    "ranking": "pairwise",
    "binary": "binary",
    "score": "regression",
    "steps": "process",
}
STEP_END = "\n"
"""What stands behind each step but the last."""
MOST_ANSWERS = 16
"""Answers of one ranking: each pair of them is a comparison."""


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
    data, kinds = RewardData(), dict[str, Kind]()
    for file in files:
        layout = _detect(file)
        data.layouts[str(file)], kinds[str(file)] = layout, LEARNED_AS[layout]
        rows = track(read_rows(file), tr("rendering", "渲染"), unit=tr("rows", "行"))
        for row in rows:
            data.counts["read"] += 1
            found = row if isinstance(row, Broken) else _comparison(row.value, layout, tokenizer, file, row.line)
            if isinstance(found, Broken):
                data.counts["broken"] += 1
                quarantine(found)
            elif not (found.pairs or found.labels):
                data.counts["all_tied"] += 1
            elif len(found) > length + 1:
                data.counts["too_long"] += 1
            else:
                data.counts["used"] += 1
                data.items.append(found)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(data.counts.items()))
    layouts = ", ".join(f"{Path(name).name}: {layout}" for name, layout in data.layouts.items())
    if len(set(kinds.values())) > 1:
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
    data.kind = next(iter(kinds.values()))
    return data


def _detect(file: Path) -> Layout:
    seen = None
    for count, row in enumerate(read_rows(file)):
        value = None if isinstance(row, Broken) else row.value
        if isinstance(value, Mapping):
            for layout, keys in KEYS.items():
                if keys <= value.keys():
                    return layout
            seen = seen or sorted(map(str, value))
        if count > 100:
            break
    raise LuhuoError(
        tr("No known layout of judgements.", "未识别出评判数据的格式。"),
        expected="; ".join(f"{name}: {', '.join(sorted(keys))}" for name, keys in KEYS.items()),
        found=tr("no readable row", "没有可读的行") if seen is None else ", ".join(seen),
        where=file,
    )


def _comparison(value: Any, layout: Layout, tokenizer: Tokenizer, file: Path, line: int) -> Comparison | Broken:
    if not isinstance(value, Mapping) or not KEYS[layout] <= value.keys():
        return broken(file.as_posix(), line, "missing_field", value)
    try:
        return _READERS[layout](value, tokenizer)
    except (LuhuoError, TypeError, ValueError, KeyError) as error:
        return broken(file.as_posix(), line, "bad_row", error)


def _pair(row: Mapping[str, Any], tokenizer: Tokenizer) -> Comparison:
    prompt, sides = row.get("prompt"), [row["chosen"], row["rejected"]]
    if prompt is None:  # both sides hold the whole conversation
        prompt, sides = _shared(*sides)
    texts = [_text(prompt, side, tokenizer) for side in sides]
    if texts[0][0] == texts[1][0]:
        raise ValueError("chosen and rejected are the same text")
    margin = float(row.get("margin") or 0.0)
    return Comparison(*_columns(texts), pairs=((0, 1, margin),), meta=_meta(row))


def _ranking(row: Mapping[str, Any], tokenizer: Tokenizer) -> Comparison:
    ranks = [float(rank) for rank in row["ranks"]]
    if len(ranks) != len(row["answers"]) or not 2 <= len(ranks) <= MOST_ANSWERS:
        raise ValueError(f"{len(row['answers'])} answers, {len(ranks)} ranks; 2 to {MOST_ANSWERS} of each")
    texts = [_text(row["prompt"], answer, tokenizer) for answer in row["answers"]]
    pairs = tuple(
        (a, b, 0.0) if ranks[a] < ranks[b] else (b, a, 0.0)
        for a, b in combinations(range(len(ranks)), 2)
        if ranks[a] != ranks[b] and texts[a][0] != texts[b][0]
    )
    return Comparison(*_columns(texts), pairs=pairs, meta=_meta(row))


def _binary(row: Mapping[str, Any], tokenizer: Tokenizer) -> Comparison:
    return Comparison(*_one(row, tokenizer), labels=(_truth(row["label"]),), meta=_meta(row))


def _score(row: Mapping[str, Any], tokenizer: Tokenizer) -> Comparison:
    score = float(row["score"])
    if not np.isfinite(score):
        raise ValueError(f"score {score}")
    return Comparison(*_one(row, tokenizer), labels=(score,), meta=_meta(row))


def _steps(row: Mapping[str, Any], tokenizer: Tokenizer) -> Comparison:
    """The steps stand on lines of one answer. A step ends where the text up to its end, tokenised, does."""
    steps, labels = [str(step) for step in row["completions"]], [_truth(label) for label in row["labels"]]
    if len(steps) != len(labels) or not steps:
        raise ValueError(f"{len(steps)} steps, {len(labels)} labels")
    whole, answer = _text(row["prompt"], STEP_END.join(steps), tokenizer)
    start, pieces = len(whole) - answer, [tokenizer.encode(step + STEP_END) for step in steps[:-1]]
    places, at = list[int](), start
    for piece in pieces:
        at += len(piece)
        places.append(at - 1)
    joined = [token for piece in pieces for token in piece] + tokenizer.encode(steps[-1])
    if list(whole[start : start + len(joined)]) != joined:  # a tokenizer that joins lines: count in the text
        places = _ends_in(list(whole[start:]), steps, tokenizer, start)
    return Comparison((whole,), (answer,), labels=tuple(labels), steps=(*places, len(whole) - 1), meta=_meta(row))


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


_READERS: dict[Layout, Callable[[Mapping[str, Any], Tokenizer], Comparison]] = {
    "pairs": _pair,
    "ranking": _ranking,
    "binary": _binary,
    "score": _score,
    "steps": _steps,
}


def _one(row: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[tuple[array[int], ...], tuple[int, ...]]:
    return _columns([_text(row["prompt"], row["completion"], tokenizer)])


def _columns(texts: Sequence[tuple[array[int], int]]) -> tuple[tuple[array[int], ...], tuple[int, ...]]:
    return tuple(ids for ids, _ in texts), tuple(answer for _, answer in texts)


def _text(prompt: Any, answer: Any, tokenizer: Tokenizer) -> tuple[array[int], int]:
    """Token ids of the conversation up to the end of its last turn, and how many are of that turn."""
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    said = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
    return conversation_text(Conversation.of([*asked, *said]), tokenizer)


def conversation_text(conversation: Conversation, tokenizer: Tokenizer) -> tuple[array[int], int]:
    """Token ids of a conversation up to the end of its last turn, and how many are of that turn."""
    *before, last = conversation.messages
    if last.role != "assistant":
        raise ValueError("the answer does not end with an assistant's turn")
    turns = (*(replace(message, train=False) for message in before), replace(last, train=True))
    rendered = render(replace(conversation, messages=turns), tokenizer)
    end = 1 + max(place for place, target in enumerate(rendered.mask) if target)
    return array("I", rendered.ids[:end]), rendered.targets


def _shared(chosen: Any, rejected: Any) -> tuple[list[Any], list[Any]]:
    """What two whole conversations begin with, and how each goes on."""
    if not isinstance(chosen, list) or not isinstance(rejected, list):
        raise TypeError("without a prompt, chosen and rejected are lists of messages")
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    return chosen[:same], [chosen[same:], rejected[same:]]


def _truth(label: Any) -> float:
    known = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
    if (found := known.get(str(label).lower())) is None:  # a table of text has no booleans
        raise ValueError(f"label {label!r}: true or false")
    return found


def _meta(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in META and isinstance(value, str | int | float)}


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
