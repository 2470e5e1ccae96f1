"""Supervised fine-tuning: from files of conversations to packed targets, checked before the first step."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from luhuo.align.supervised import SupervisedLM
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.layouts import LAYOUTS
from luhuo.dialogue.mixing import Share
from luhuo.dialogue.packing import ConversationLoader, TokenStore
from luhuo.dialogue.preview import preview
from luhuo.dialogue.render import Rendered, fit, render_all
from luhuo.dialogue.rows import read_layout
from luhuo.dialogue.texts import Passage, pieces, read_passages, render_passage
from luhuo.files.records import Broken, broken
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Source:
    """One data set."""

    files: Sequence[Path]
    weight: float = 1.0
    """How often its conversations are seen in an epoch."""
    limit: int = 0
    """Rows that are read, from the front; 0: all."""


@dataclass
class Prepared:
    """Conversations ready to be packed, and what happened to every row that was read."""

    store: TokenStore = field(default_factory=TokenStore)
    shares: list[Share] = field(default_factory=list)
    """How many there are of each set, and its weight."""
    layouts: dict[str, str] = field(default_factory=dict)
    """Layout by file."""
    counts: Counter[str] = field(default_factory=Counter)
    """read, used, broken, no_target, empty_answer, truncated, too_long, split, shuffled, alone."""
    supervised: int = 0
    ends: int = 0
    """Targets that end a turn."""
    first: Rendered | None = None

    @property
    def tokens(self) -> int:
        """All tokens."""
        return int(self.store.lengths().sum()) if len(self.store) else 0

    def add(self, rendered: Rendered, ends: frozenset[int]) -> None:
        """Keep one rendering and count it."""
        self.first = self.first or rendered
        self.store.add(rendered)
        self.supervised += rendered.targets
        self.ends += sum(
            1 for token, target in zip(rendered.ids, rendered.mask, strict=True) if target and token in ends
        )


@dataclass(frozen=True)
class Rules:
    """How rows become targets."""

    length: int
    overlong: str = "truncate"
    """A conversation of more than `length` + 1 tokens loses whole turns from its front ("truncate") or is left out
    ("drop", or if not even its last exchange fits)."""
    turns: str = "all"
    """"last": only the last answer of a conversation is learned."""
    plain: bool = False
    """Rows are plain text, without a chat template."""
    shuffle_seed: int | None = None
    """Permute the answers (`shuffle_answers`)."""


Watch = Callable[[Path, int, Conversation, list[Rendered]], None]
"""Is shown the file and line of a conversation, itself, and its renderings before they are shortened."""


def prepare(
    sets: Sequence[Source],
    tokenizer: Tokenizer,
    rules: Rules,
    *,
    quarantine: Callable[[Broken], None],
    watch: Watch | None = None,
) -> Prepared:
    """Read, check, render and count all conversations; rows that cannot be used go to `quarantine`."""
    prepared = Prepared()

    def reject(row: Broken) -> None:
        prepared.counts["broken"] += 1
        quarantine(row)

    ends = frozenset({tokenizer.end_of_turn_id, tokenizer.eos_id})
    for source in sets:
        before = len(prepared.store)
        if rules.plain:
            parts = _passages(source, tokenizer, rules, prepared, reject)
        else:
            rows = _rows(source, rules, prepared, reject)
            parts = _conversations(rows, tokenizer, rules, prepared.counts, quarantine, watch)
        for part in parts:
            prepared.add(part, ends)
        prepared.shares.append(Share(len(prepared.store) - before, source.weight))
    check(prepared, tokenizer)
    return prepared


Row = tuple[Path, int, Conversation]
"""(file, line, what stands there)."""


def _rows(source: Source, rules: Rules, prepared: Prepared, reject: Callable[[Broken], None]) -> Iterator[Row]:
    """The conversations of a set, as they are to be learned."""

    def read() -> Iterator[Row]:
        for file in source.files:
            prepared.layouts[str(file)], found = read_layout(file, LAYOUTS, tr("conversation", "对话"), reject)
            yield from ((file, one.line, one.value) for one in found)

    first = itertools.islice(read(), source.limit or None)
    if rules.shuffle_seed is None:
        yield from first
        return
    rows = list(first)
    shuffled = shuffle_answers([conversation for _, _, conversation in rows], rules.shuffle_seed, prepared.counts)
    yield from ((file, line, conversation) for (file, line, _), conversation in zip(rows, shuffled, strict=True))


def _conversations(
    rows: Iterator[Row],
    tokenizer: Tokenizer,
    rules: Rules,
    counts: Counter[str],
    quarantine: Callable[[Broken], None],
    watch: Watch | None,
) -> Iterator[Rendered]:
    """The renderings of conversations that can be trained on."""
    for file, line, conversation in track(rows, tr("rendering", "渲染对话"), unit=tr("conversations", "条")):
        counts["read"] += 1
        fault = _fault(conversation)
        if fault:
            counts[fault] += 1
            quarantine(broken(file.as_posix(), line, fault, conversation.messages[0].content))
            continue
        chosen = conversation.last_turn_only() if rules.turns == "last" else conversation
        whole = list(render_all(chosen, tokenizer))
        if watch is not None:
            watch(file, line, chosen, whole)
        parts = list(_fitting(chosen, whole, tokenizer, rules, counts))
        counts["used"] += bool(parts)
        yield from parts


def _passages(
    source: Source, tokenizer: Tokenizer, rules: Rules, prepared: Prepared, reject: Callable[[Broken], None]
) -> Iterator[Rendered]:
    """The renderings of a set's plain texts. A text without a prompt is cut into rows instead of being dropped."""

    def read() -> Iterator[Passage]:
        for file in source.files:
            prepared.layouts[str(file)], passages = read_passages(file, reject)
            yield from passages

    limit = rules.length + 1
    for passage in track(
        itertools.islice(read(), source.limit or None), tr("encoding", "编码文本"), unit=tr("texts", "条")
    ):
        prepared.counts["read"] += 1
        if not passage.completion.strip():
            prepared.counts["empty_answer"] += 1
            continue
        rendered = render_passage(passage, tokenizer)
        if len(rendered) > limit and (passage.prompt or rules.overlong == "drop"):
            prepared.counts["too_long"] += 1
            continue
        prepared.counts["used"] += 1
        prepared.counts["split"] += len(rendered) > limit
        yield from pieces(rendered, limit) if len(rendered) > limit else (rendered,)


def check(prepared: Prepared, tokenizer: Tokenizer) -> None:
    """Raise `LuhuoError` if training could not work: nothing to learn, or an assistant that would never stop."""
    layouts = ", ".join(f"{Path(name).name}: {layout}" for name, layout in prepared.layouts.items())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(prepared.counts.items()))
    where = tr(f"layout {layouts}; rows: {counts}", f"格式 {layouts}；行数：{counts}")
    if prepared.supervised == 0 or prepared.first is None:
        raise LuhuoError(
            tr("No token is supervised: there is nothing to learn.", "没有任何受监督的词元：无可学习。"),
            expected=tr("assistant turns with train = true", "train = true 的 assistant 轮次"),
            where=where,
            fix=tr(
                "Look at quarantine.jsonl, at the roles and `train` flags of the rows, and at `length`.",
                "请检查 quarantine.jsonl、各行的角色与 train 标志，以及 length。",
            ),
        )
    if prepared.ends == 0:
        raise LuhuoError(
            tr(
                "The token that ends a turn is never a target: the assistant would never stop talking.",
                "结束一轮的词元从未成为训练目标：助手将永远停不下来。",
            ),
            expected=tokenizer.decode([tokenizer.end_of_turn_id]),
            found=preview(prepared.first, tokenizer, colour=False)[-300:],
            where=tr(f"{where}; the first row is shown", f"{where}；所示为第一行"),
            fix=tr(
                "The chat template must close an assistant's turn with the tokenizer's end-of-turn token.",
                "对话模板必须以分词器的轮次结束词元来结束 assistant 的轮次。",
            ),
        )


def held_out(
    store: TokenStore, length: int, pad_id: int, objective: SupervisedLM | None = None
) -> Callable[[Decoder], dict[str, float]]:
    """A scorer for the trainer: mean loss (nats) of all supervised tokens of these conversations, by their weights,
    and what else the objective tells."""
    loader = ConversationLoader(store, batch=4, length=length, seed=0, pad_id=pad_id)
    objective = objective or SupervisedLM()

    def score(model: Decoder) -> dict[str, float]:
        loader.restore({"epoch": 0, "row": 0})
        sums, weight = {"loss": 0.0}, 0.0
        rows = len(loader.rows(0))
        for start, arrays in zip(range(0, rows, 4), loader, strict=False):
            batch = {name: torch.from_numpy(a[: rows - start]).to(model.device) for name, a in arrays.items()}
            part, count, told = objective.loss(model, batch)
            weight += count.item()
            for name, value in {"loss": part, **told}.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        return {f"valid.{name}": value / weight for name, value in sums.items()}

    return score


def shuffle_answers(
    conversations: list[Conversation], seed: int, counts: Counter[str] | None = None
) -> list[Conversation]:
    """The control experiment: answers change places among conversations of the same family and language.

    Formats, lengths and the distribution of answers stay, what an answer has to do with its question is lost; an
    assistant trained on this knows how to answer and not what. Every turn that is a target stays one and gets, as a
    whole, the one that comes next in a shuffled circle of all of them, so none keeps its own unless it is alone in
    its group or two have equal texts.
    """
    groups: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for i, conversation in enumerate(conversations):
        name = (str(conversation.meta.get("family")), str(conversation.meta.get("lang")))
        groups[name] += [(i, j) for j, message in enumerate(conversation.messages) if message.is_target]
    turns = [list(conversation.messages) for conversation in conversations]
    for name, places in groups.items():
        order = np.random.default_rng(derive_seed(seed, "shuffle_answers", *name)).permutation(len(places))
        for here, there in zip(order, np.roll(order, -1), strict=True):
            (i, j), (other, turn) = places[here], places[there]
            turns[i][j] = conversations[other].messages[turn]
        if counts is not None:
            counts["shuffled" if len(places) > 1 else "alone"] += len(places)
    return [Conversation(tuple(mine), c.meta) for mine, c in zip(turns, conversations, strict=True)]


def _fault(conversation: Conversation) -> str | None:
    """Why a conversation cannot be trained on, or None."""
    if not conversation.has_target:
        return "no_target"
    if any(m.is_target and not m.content.strip() and not m.tool_calls for m in conversation.messages):
        return "empty_answer"
    return None


def _fitting(
    conversation: Conversation, parts: list[Rendered], tokenizer: Tokenizer, rules: Rules, counts: Counter[str]
) -> Iterator[Rendered]:
    """The renderings of a conversation that fit into a row, shortened if need be; `parts` are those of all of it."""
    limit = rules.length + 1
    counts["split"] += len(parts) > 1
    if all(len(part) <= limit for part in parts):
        yield from parts
        return
    shorter = fit(conversation, tokenizer, limit)[0] if rules.overlong == "truncate" else None
    if shorter is None or not shorter.has_target:
        counts["too_long"] += 1
        return
    counts["truncated"] += 1
    yield from (part for part in render_all(shorter, tokenizer) if len(part) <= limit)
