"""Log-likelihoods of continuations, each token of a batch computed once.

An item is a few token sequences that begin alike: a prompt with its choices. What they share is computed once, and the
choices stand behind it in one pass. Items that begin alike too (few-shot examples) share that as well. Logits are
computed only where a token is scored, and once for choices that are told apart by their first token. Batches hold
items of similar length, as many as fit into the memory that is free; where that was too much, the batch is halved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from luhuo.evaluation.shared_prefix import SharedPrefixCache
from luhuo.inference.budget import free_bytes
from luhuo.inference.runner import cached_config
from luhuo.model.cache import KVCache, bytes_per_token
from luhuo.model.decoder import Decoder

LEAST_SHARED = 48
"""Tokens that items begin with alike before they are kept for all of them: a pass of its own has its price."""
PASS_TOKENS = 4096
"""Tokens, padding included, of one pass over prompts or choices."""
LEAST_PASS = {"cpu": 192}
"""Tokens from which on a pass of its own costs less than padding; 2,048 on other devices."""
MOST_PADDED = 1.2
"""Padding included, tokens of a pass over those that are none, where passes are not smaller than that."""
SHARE = 0.2
"""Of the free memory that a batch may take."""
HEAD_ELEMENTS = 1 << 24
"""Most logits held at once."""


Place = tuple[int, int]
"""An item of a batch, and one of its sequences."""


@dataclass(frozen=True)
class Continuation:
    """Token ids of which the last `count` are scored. At least one stands before them."""

    ids: tuple[int, ...]
    count: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: all but the last token."""
        return self.ids[:-1]

    @property
    def start(self) -> int:
        """Place of the input that predicts the first scored token."""
        return len(self.ids) - 1 - self.count


@dataclass(frozen=True)
class Likelihood:
    """Sum of natural log-probabilities of the scored tokens, how many, and whether each was the most probable."""

    total: float
    tokens: int
    greedy: bool


@dataclass(frozen=True)
class Item:
    """Sequences scored together, and how many inputs they begin with alike."""

    number: int
    sequences: tuple[Continuation, ...]
    shared: int

    @property
    def prompt(self) -> tuple[int, ...]:
        """The inputs that all of them begin with."""
        return self.sequences[0].inputs[: self.shared]

    @property
    def before(self) -> tuple[int, ...]:
        """Inputs whose states nobody asks for, so that other items may share them."""
        return self.prompt[: min(self.shared - 1, *(s.start for s in self.sequences))]

    @property
    def rest(self) -> int:
        """Inputs of the longest sequence behind the prompt."""
        return max(len(s.inputs) for s in self.sequences) - self.shared


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of entries that two sequences begin with alike."""
    count = min(len(one), len(other))
    if one[:count] == other[:count]:
        return count
    return next(i for i in range(count) if one[i] != other[i])


def copied(cache: KVCache, rows: Sequence[int]) -> KVCache:
    """A cache of these rows, each as often as it is named; the given one stays as it is."""
    found = copy(cache)
    found.keys, found.values = list(cache.keys), list(cache.values)
    found.key_scales, found.value_scales = list(cache.key_scales), list(cache.value_scales)
    found.select(rows)
    return found


class Scorer:
    """Scores items on a model. What begins alike is computed once, save on models that read their text again."""

    def __init__(self, model: Decoder, pass_tokens: int = PASS_TOKENS) -> None:
        self.model, self.pass_tokens = model, pass_tokens
        self.config = cached_config(model)
        self.shares = not (self.config.reads_back or model.ahead)
        self.token_bytes = bytes_per_token(self.config, model.dtype)

    def score(self, items: Sequence[Sequence[Continuation]]) -> Iterator[tuple[int, list[Likelihood]]]:
        """(number of the item, its sequences' likelihoods), as they are done: not in order."""
        for prefix, group in self._groups([self._item(n, sequences) for n, sequences in enumerate(items)]):
            front = self._front(prefix)
            waiting = list(self._batches(group, len(prefix)))
            while waiting:
                batch = waiting.pop(0)
                try:
                    done = self._score(batch, front)
                except (MemoryError, RuntimeError) as error:
                    if len(batch) == 1 or not _out_of_memory(error):
                        raise
                    self.pass_tokens = max(1, self.pass_tokens // 2)
                    half = len(batch) // 2
                    waiting = [batch[:half], batch[half:], *waiting]
                    continue
                yield from ((item.number, found) for item, found in zip(batch, done, strict=True))

    def _item(self, number: int, sequences: Sequence[Continuation]) -> Item:
        first = sequences[0].inputs
        shared = len(first)
        for sequence in sequences[1:]:
            shared = min(shared, common(first[:shared], sequence.inputs))
        return Item(number, tuple(sequences), shared)

    def _groups(self, items: Sequence[Item]) -> Iterator[tuple[tuple[int, ...], list[Item]]]:
        """(tokens that a group begins with, its items); items that share nothing come last, behind no tokens."""
        alone: list[Item] = []
        group: list[Item] = []
        prefix: tuple[int, ...] = ()
        apart = [item for item in items if not (self.shares and item.shared)]
        for item in sorted((item for item in items if self.shares and item.shared), key=lambda item: item.before):
            alike = common(prefix, item.before) if group else 0
            if alike >= LEAST_SHARED and (len(group) == 1 or 2 * alike >= len(prefix)):
                group.append(item)
                prefix = prefix[:alike]
                continue
            if len(group) > 1:
                yield prefix, group
            else:
                alone += group
            group, prefix = [item], item.before
        if len(group) > 1:
            yield prefix, group
        else:
            alone += group
        if alone:
            yield (), alone
        if apart:
            yield (), apart

    def _batches(self, group: list[Item], ahead: int) -> Iterator[list[Item]]:
        """Items of similar length, as many as a pass and the memory take; longest first: trouble is early."""
        room = int(free_bytes(self.model.device) * SHARE) // self.token_bytes
        batch: list[Item] = []
        for item in sorted(group, key=lambda item: (item.shared - ahead, item.rest, item.number), reverse=True):
            if batch and not self._fits([*batch, item], ahead, room):
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _fits(self, batch: list[Item], ahead: int, room: int) -> bool:
        """Whether the passes over a batch stay within their number of tokens, and its cache within the memory."""
        prompt, rest = max(item.shared for item in batch) - ahead, max(item.rest for item in batch)
        behind = sum(len(item.sequences) for item in batch) if rest else 0
        if self._apart(batch):
            return (behind or len(batch)) * (prompt + rest) <= self.pass_tokens
        if len(batch) * prompt > self.pass_tokens or len(batch) * prompt + behind * (prompt + rest) > room:
            return False
        return not self._wasteful([item.shared - ahead for item in batch])

    def _wasteful(self, lengths: Sequence[int]) -> bool:
        """Whether rows of these lengths are better read in two passes than padded to the longest."""
        padded = len(lengths) * max(lengths)
        return padded > LEAST_PASS.get(self.model.device.type, 2048) and padded > MOST_PADDED * sum(lengths)

    def _parts(self, rests: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Numbers of rows to be read in one pass: of similar length, the longest first."""
        part: list[int] = []
        for number in sorted(range(len(rests)), key=lambda i: -len(rests[i])):
            lengths = [len(rests[i]) for i in [*part, number]]
            if part and (len(lengths) * lengths[0] > self.pass_tokens or self._wasteful(lengths)):
                yield part
                part = []
            part.append(number)
        if part:
            yield part

    @torch.inference_mode()
    def _front(self, prefix: tuple[int, ...]) -> KVCache | None:
        """The cache of what a group begins with."""
        if not prefix:
            return None
        cache = KVCache(self.config, 1, len(prefix), self.model.dtype, self.model.device)
        self.model.hidden(torch.tensor([prefix], device=self.model.device), cache=cache)
        return cache

    @torch.inference_mode()
    def _score(self, batch: list[Item], front: KVCache | None) -> list[list[Likelihood]]:
        if self._apart(batch):
            return self._score_apart(batch)
        ahead = 0 if front is None else front.longest
        prompts = [item.prompt[ahead:] for item in batch]
        cache = self._cache(front, len(batch), max(map(len, prompts)), any(item.rest for item in batch))
        states = self._read(prompts, cache)
        wanted = _Wanted(self.model)
        behind: list[Place] = []
        for row, item in enumerate(batch):
            for which, sequence in enumerate(item.sequences):
                for place in range(sequence.start, min(item.shared, len(sequence.inputs))):
                    wanted.add((row, which), (0, row, place), states[row, place - ahead], sequence.ids[place + 1])
                if len(sequence.inputs) > item.shared:
                    behind.append((row, which))
        if behind:
            assert cache is not None
            self._behind(batch, behind, cache, wanted)
        return [[wanted.result((row, i)) for i in range(len(item.sequences))] for row, item in enumerate(batch)]

    def _behind(self, batch: list[Item], behind: list[Place], cache: KVCache, wanted: _Wanted) -> None:
        """Passes over what the sequences have behind their prompts: one row each."""
        rests = [batch[row].sequences[which].inputs[batch[row].shared :] for row, which in behind]
        for part in self._parts(rests):
            states = self._read([rests[i] for i in part], copied(cache, [behind[i][0] for i in part]))
            for line, number in enumerate(part):
                row, which = behind[number]
                shared, sequence = batch[row].shared, batch[row].sequences[which]
                for place in range(max(shared, sequence.start), len(sequence.inputs)):
                    state = states[line, place - shared]
                    wanted.add((row, which), (1, number, place), state, sequence.ids[place + 1])

    def _apart(self, batch: list[Item]) -> bool:
        """Whether nothing is shared: the model cannot, or an item's sequences begin with different tokens."""
        return not (self.shares and batch[0].shared)

    def _score_apart(self, batch: list[Item]) -> list[list[Likelihood]]:
        """Every sequence in a row of its own."""
        rows = [(row, i, s) for row, item in enumerate(batch) for i, s in enumerate(item.sequences)]
        states = self._read([s.inputs for _, _, s in rows], None)
        wanted = _Wanted(self.model)
        for number, (row, which, sequence) in enumerate(rows):
            for place in range(sequence.start, len(sequence.inputs)):
                wanted.add((row, which), (0, number, place), states[number, place], sequence.ids[place + 1])
        return [[wanted.result((row, i)) for i in range(len(item.sequences))] for row, item in enumerate(batch)]

    def _cache(self, front: KVCache | None, rows: int, capacity: int, needed: bool) -> KVCache | None:
        if front is not None:
            return SharedPrefixCache(self.config, front, rows, capacity)
        return KVCache(self.config, rows, capacity, self.model.dtype, self.model.device) if needed else None

    def _read(self, rows: Sequence[Sequence[int]], cache: KVCache | None) -> Tensor:
        """States (rows, time, hidden) of rows of different lengths, padded on the right, where nobody looks."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        segments = None
        if cache is not None:
            lengths = torch.tensor([len(row) for row in rows])
            segments = (torch.arange(width) < lengths[:, None]).int().to(self.model.device)
        return self.model.hidden(ids.to(self.model.device), segments=segments, cache=cache)


class _Wanted:
    """Tokens to be scored, by the state they are predicted from; each state goes through the head once."""

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self._places: dict[tuple[int, int, int], int] = {}
        self._states: list[Tensor] = []
        self._targets: dict[Place, list[tuple[int, int]]] = {}
        self._scores: dict[tuple[int, int], tuple[float, bool]] | None = None

    def add(self, owner: Place, key: tuple[int, int, int], state: Tensor, target: int) -> None:
        """Score the token `target` for `owner` by a state (hidden,) of which `key` says where it stands."""
        if key not in self._places:
            self._places[key] = len(self._states)
            self._states.append(state)
        self._targets.setdefault(owner, []).append((self._places[key], target))

    def result(self, owner: Place) -> Likelihood:
        """Sum over the tokens of an owner."""
        if self._scores is None:
            self._scores = self._computed()
        found = [self._scores[key] for key in self._targets[owner]]
        return Likelihood(sum(score for score, _ in found), len(found), all(best for _, best in found))

    def _computed(self) -> dict[tuple[int, int], tuple[float, bool]]:
        """{(state, target): (log-probability, whether it is the most probable)}, some logits at a time."""
        pairs = sorted({pair for pairs in self._targets.values() for pair in pairs})
        states = torch.stack(self._states)
        step = max(1, HEAD_ELEMENTS // self.model.config.vocab_size)
        scores: dict[tuple[int, int], tuple[float, bool]] = {}
        at = 0
        for start in range(0, len(states), step):
            logits = self.model.head(states[start : start + step]).float()
            sums, best = logits.logsumexp(-1), logits.argmax(-1)
            end = at
            while end < len(pairs) and pairs[end][0] < start + step:
                end += 1
            place = torch.tensor([pair[0] - start for pair in pairs[at:end]], device=logits.device)
            target = torch.tensor([pair[1] for pair in pairs[at:end]], device=logits.device)
            found = (logits[place, target] - sums[place]).double().tolist()
            firsts = (best[place] == target).tolist()
            scores |= dict(zip(pairs[at:end], zip(found, firsts, strict=True), strict=True))
            at = end
        return scores


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "allocate" in str(error)
