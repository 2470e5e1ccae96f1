"""The stage `synthetic-comparisons` (ALMoST, Kim et al. 2023, section 2.1): who answered says which answer is better.

One model after the other answers all prompts, so that only one is in memory; then answers are ranked by the order of
the models, and comparisons that the filters doubt are kept apart with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.align.ai_feedback.config import ResponderConfig
from luhuo.align.ai_feedback.constitution import language_asked
from luhuo.align.ai_feedback.data import KEPT, Outputs, prompts
from luhuo.align.ai_feedback.responders import THOUGHT, NoReply, Question, opened
from luhuo.align.ledger import Ledger, groups
from luhuo.align.rewards import Rewards
from luhuo.core.artifact import Workspace
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.core.seeds import derive_seed
from luhuo.verify.layout import repeated_share
from luhuo.verify.scoring import words
from luhuo.verify.script import language_of

if TYPE_CHECKING:
    from luhuo.align.ai_feedback.stages import SyntheticComparisonsStage

GRAM = 4


def run_comparisons(stage: SyntheticComparisonsStage, out: Workspace) -> None:
    """Write `answers-N.jsonl` of each model, `pairs.jsonl`, `ranked.jsonl` and `failed.jsonl` into `out`."""
    ledgers = [_answers(stage, number, config, out.path) for number, config in enumerate(stage.responders)]
    least, means = _lengths(ledgers)
    filters = _Filters(stage, least if stage.filters.longer else 0.0)
    with Outputs(out.path, ("pairs", "ranked", "failed")) as files:
        rows = zip(prompts(stage.prompts, stage.limit, files.reject), zip(*ledgers, strict=True), strict=True)
        for row, answers in rows:
            _compare(stage, filters, row, answers, files)
    out.results |= files.results("pairs")
    out.results |= {f"words.{number}": mean for number, mean in enumerate(means, 1)}


def _answers(stage: SyntheticComparisonsStage, number: int, config: ResponderConfig, folder: Path) -> Ledger:
    """What one model answers: {"text", "reason"} for each prompt."""
    ledger = Ledger(folder / f"answers-{number + 1}.jsonl")
    left = list(islice(prompts(stage.prompts, stage.limit), ledger.count, ledger.count + 1))
    if not left:
        return ledger
    with opened(config) as model:
        rows = islice(enumerate(prompts(stage.prompts, stage.limit)), ledger.count, None)
        for group in groups(track(rows, config.label, unit=tr("prompts", "提示")), stage.together):
            questions = [
                Question(
                    row["prompt"],
                    config.max_tokens,
                    config.temperature,
                    derive_seed(stage.seed, "answer", number, place),
                )
                for place, row in group
            ]
            ledger.append(map(_record, model.ask(questions)))
    return ledger


def _record(reply: Any) -> dict[str, Any]:
    if isinstance(reply, NoReply):
        return {"text": None, "reason": f"no_reply: {reply.reason}"}
    text = THOUGHT.sub("", reply.text).strip()
    return {"text": text, "reason": None if text and reply.ended else "cut_off" if text else "empty"}


def _lengths(ledgers: Sequence[Ledger]) -> tuple[float, list[float]]:
    """The least length of a better answer, mean less half a standard deviation of all; and each model's mean."""
    sums, squares, counts = [0.0] * len(ledgers), 0.0, [0] * len(ledgers)
    for number, ledger in enumerate(ledgers):
        for row in ledger:
            if row["reason"] is None:
                length = words(row["text"])
                sums[number], squares, counts[number] = sums[number] + length, squares + length**2, counts[number] + 1
    total = max(1, sum(counts))
    mean = sum(sums) / total
    spread = math.sqrt(max(0.0, squares / total - mean**2))
    return mean - spread / 2, [part / max(1, count) for part, count in zip(sums, counts, strict=True)]


class _Filters:
    """Whether a comparison is believed."""

    def __init__(self, stage: SyntheticComparisonsStage, least: float) -> None:
        self._filters, self._least = stage.filters, least
        self._rewards = Rewards(stage.filters.rewards) if stage.filters.rewards else None

    def doubt(self, row: Mapping[str, Any], better: str, worse: str) -> str | None:
        """Why a comparison is not believed, or None."""
        filters = self._filters
        if better == worse:
            return "equal"
        if words(better) < self._least:
            return "short"
        if any(phrase in better for phrase in filters.phrases):
            return "phrase"
        if repeated_share(better, GRAM) > filters.repeated:
            return "repeated"
        said = language_of(better)
        if filters.same_language and said in ("en", "zh") and said != language_asked(row["prompt"]):
            return "other_language"
        if self._rewards is not None:
            item = {**row, "messages": row["prompt"]}
            high, low = self._rewards.score_all([item, item], [better, worse]).totals
            if high is None or low is None or high <= low:
                return "reward"
        return None


def _compare(
    stage: SyntheticComparisonsStage,
    filters: _Filters,
    row: Mapping[str, Any],
    answers: Sequence[Mapping[str, Any]],
    files: Outputs,
) -> None:
    """The comparisons of one prompt's answers; those of all that are believed also as a ranking."""
    known = {name: row[name] for name in KEPT if name in row}
    labels = [config.label for config in stage.responders]
    believed: list[tuple[int, int]] = []
    for better, worse in _pairs(stage, len(answers)):
        pair = {
            **known, "prompt": row["prompt"], "chosen": answers[better]["text"], "rejected": answers[worse]["text"],
            "provenance": {"chosen": labels[better], "rejected": labels[worse], "ranks": [better + 1, worse + 1]},
        }  # fmt: skip
        # A worse answer may be cut off or empty of sense; a better one may not. Neither may be missing.
        reason = answers[better]["reason"] or (None if answers[worse]["text"] else answers[worse]["reason"])
        reason = reason or filters.doubt(row, pair["chosen"], pair["rejected"])
        if reason is not None:
            files.fail(pair, reason)
            continue
        believed.append((better, worse))
        files.add("pairs", pair)
    kept = sorted({place for pair in believed for place in pair})
    if stage.pairs == "all" and len(kept) > 1 and len(believed) == len(kept) * (len(kept) - 1) // 2:
        ranking = {"answers": [answers[place]["text"] for place in kept], "ranks": list(range(1, len(kept) + 1))}
        files.add("ranked", known | {"prompt": row["prompt"]} | ranking)


def _pairs(stage: SyntheticComparisonsStage, count: int) -> Iterator[tuple[int, int]]:
    """(better, worse) by the order of the models."""
    yield from combinations(range(count), 2) if stage.pairs == "all" else [(0, count - 1)]
