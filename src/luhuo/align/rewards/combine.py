"""Several rewards as one: weighted sums, what could not be scored, and what is logged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luhuo.align.rewards.config import Reward, labels
from luhuo.align.rewards.score import CompletionInfo, Failure, Item, Mark
from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say

EXCERPT = 200
SHOWN = 3
"""Failures of one reward that are shown in full; further ones are only counted."""

FATAL = 8
"""So many failures of one reward in a row, the whole of a batch among them, stop the run."""


@dataclass(frozen=True)
class Scores:
    """What the rewards gave to a batch of completions; all lists have one entry a completion.

    `totals` None: could not be scored; leave such a completion out of means, advantages and losses.
    """

    totals: list[float | None]
    components: dict[str, list[float | None]]
    parts: dict[str, list[float]]
    failures: dict[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Means by name: `reward`, `reward.std`, `reward.NAME`, `reward.NAME.strict` …, and the share unscored."""
        scored = [total for total in self.totals if total is not None]
        found = {"reward.unscored": 1 - len(scored) / max(1, len(self.totals))}
        if scored:
            mean = math.fsum(scored) / len(scored)
            spread = math.fsum((total - mean) ** 2 for total in scored) / len(scored)
            found |= {"reward": mean, "reward.std": spread**0.5}
        for name, values in self.components.items():
            known = [value for value in values if value is not None]
            if known:
                found[f"reward.{name}"] = math.fsum(known) / len(known)
        found |= {f"reward.{name}": math.fsum(values) / len(values) for name, values in self.parts.items() if values}
        found |= {f"reward.{name}.failed": count / len(self.totals) for name, count in self.failures.items()}
        return found


class Rewards:
    """The rewards of a stage, opened once and used for every batch."""

    def __init__(self, configs: Sequence[Reward]) -> None:
        self.configs = list(configs)
        self.names = labels(self.configs)
        self._scorers = [config.open() for config in self.configs]
        self._shown: dict[str, int] = defaultdict(int)
        self._without_any = 0
        self._in_a_row: dict[str, int] = defaultdict(int)

    def score(self, item: Item, text: str, info: CompletionInfo | None = None) -> float | None:
        """The total of one completion, or None where it could not be scored."""
        return self.score_all([item], [text], [info or CompletionInfo()]).totals[0]

    def score_all(
        self, items: Sequence[Item], texts: Sequence[str], infos: Sequence[CompletionInfo] | None = None
    ) -> Scores:
        """Score completions: `items[i]` is the prompt of `texts[i]`, the very same object for a prompt's completions.

        The total is the weighted sum of the rewards that apply. A reward that fails for a completion leaves it
        without a total, and so does one that applies to other completions of its prompt and not to this one: sums
        over different rewards cannot be compared. Raises `RunFailed` where a reward failed `FATAL` times in a row, the
        whole batch included, and where no reward applied to as many completions.
        """
        infos = infos if infos is not None else [CompletionInfo()] * len(items)
        totals: list[float | None] = [None] * len(items)
        spoiled = [False] * len(items)
        components: dict[str, list[float | None]] = {}
        parts: dict[str, list[float]] = defaultdict(list)
        failures: dict[str, int] = {}
        for name, config, scorer in zip(self.names, self.configs, self._scorers, strict=True):
            marks = [_finite(mark) for mark in scorer(items, texts, infos)]
            failures[name] = self._report(name, marks, items, texts)
            components[name] = [None if isinstance(mark, Failure) else mark.value for mark in marks]
            uneven = _uneven(items, components[name])
            for i, mark in enumerate(marks):
                if isinstance(mark, Failure) or i in uneven:
                    spoiled[i] = True
                elif mark.value is not None:
                    totals[i] = (totals[i] or 0.0) + config.weight * mark.value
                if isinstance(mark, Mark):
                    for key, value in mark.parts.items():
                        parts[f"{name}.{key}"].append(value)
        self._check_applied(items, totals, spoiled)
        totals = [None if bad else total for bad, total in zip(spoiled, totals, strict=True)]
        return Scores(totals, components, dict(parts), {name: n for name, n in failures.items() if n})

    def _check_applied(self, items: Sequence[Item], totals: Sequence[float | None], spoiled: Sequence[bool]) -> None:
        """Raise `RunFailed` when `FATAL` completions in a row had nothing that could score them."""
        nothing = all(total is None and not bad for total, bad in zip(totals, spoiled, strict=True))
        self._without_any = self._without_any + len(items) if nothing else 0
        if self._without_any >= FATAL:
            raise RunFailed(
                tr("No reward applies to these prompts.", "没有任何奖励适用于这些提示。"),
                expected=", ".join(self.names),
                found=tr("rows with ", "数据行的键：") + ", ".join(map(str, items[0])),
                fix=tr("Name the key of the gold answer: `key`.", "请用 `key` 指明标准答案所在的键。"),
            )

    def _report(self, name: str, marks: Sequence[Mark | Failure], items: Sequence[Item], texts: Sequence[str]) -> int:
        """Show the first failures of a reward with an example; raise `RunFailed` if nothing else comes of it."""
        failed = [i for i, mark in enumerate(marks) if isinstance(mark, Failure)]
        applied = sum(isinstance(mark, Failure) or mark.value is not None for mark in marks)
        self._in_a_row[name] = self._in_a_row[name] + applied if len(failed) == applied else 0
        if not failed:
            return 0
        first = marks[failed[0]]
        assert isinstance(first, Failure)
        example = {
            "item": items[failed[0]].get("id", _shortened(items[failed[0]])),
            "text": texts[failed[0]][:EXCERPT],
        }
        if self._in_a_row[name] >= FATAL:
            raise RunFailed(
                tr(
                    f"The reward “{name}” failed {self._in_a_row[name]} times in a row.",
                    f"奖励“{name}”连续失败了 {self._in_a_row[name]} 次。",
                ),
                found=first.reason,
                where=example,
                fix=tr("A failure is no zero: repair the reward or the data.", "失败不等于 0 分：请修正奖励或数据。"),
            )
        if self._shown[name] < SHOWN:
            self._shown[name] += 1
            say(
                tr(
                    f"The reward “{name}” failed for {len(failed)} of {applied} completions, which are left out: "
                    f"{first.reason}; for example {example}",
                    f"奖励“{name}”对 {applied} 条回答中的 {len(failed)} 条失败，这些回答不参与训练："
                    f"{first.reason}；例如 {example}",
                )
            )
        return len(failed)


def _finite(mark: Mark | Failure) -> Mark | Failure:
    if isinstance(mark, Mark) and mark.value is not None and not math.isfinite(mark.value):
        return Failure(tr(f"the value is {mark.value}", f"值为 {mark.value}"))
    return mark


def _uneven(items: Sequence[Item], values: Sequence[float | None]) -> set[int]:
    """Completions without a value whose prompt has others with one. A prompt is its row: the same object."""
    having = {id(item) for item, value in zip(items, values, strict=True) if value is not None}
    return {i for i, value in enumerate(values) if value is None and id(items[i]) in having}


def _shortened(item: Mapping[str, object]) -> str:
    return repr(dict(item))[:EXCERPT]
