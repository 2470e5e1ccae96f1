"""The stage `ai-feedback`: which of two answers a judge finds better, and how much the order has to do with it.

Each pair is judged in both orders, and the probability that the first answer is better is the mean of the two (Lee et
al. 2023, section 2.2): a judge that favours a place gives each answer that favour once. By how much it does is told:
`position_bias` is the mean probability of the answer shown first less one half, and `flipped` the share of pairs of
which the two orders name different answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.align.ai_feedback.constitution import (
    LABELS,
    WORDS,
    Constitution,
    Language,
    comparison,
    language_asked,
    read_constitution,
)
from luhuo.align.ai_feedback.data import KEPT, Outputs, files_of, unheeded
from luhuo.align.ai_feedback.responders import NoReply, Question, Responder, opened
from luhuo.align.ledger import Ledger, groups
from luhuo.core.artifact import Workspace
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say, track
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.layouts import prompt_of
from luhuo.dialogue.preference_layouts import PREFERENCES, prompt_conversation
from luhuo.dialogue.rows import Layout, Reject, Row, read_layout
from luhuo.verify.statistics import wilson

if TYPE_CHECKING:
    from luhuo.align.ai_feedback.stages import AiFeedbackStage

JUDGED = "judged.jsonl"


def run_feedback(stage: AiFeedbackStage, out: Workspace) -> None:
    """Write `judged.jsonl` (everything), `pairs.jsonl`, `ties.jsonl` and `failed.jsonl` into `out`."""
    principles = read_constitution(stage.constitution)
    ledger = Ledger(out.path / JUDGED)
    with opened(stage.judge) as judge:
        rows = islice(enumerate(_pairs(files_of(stage.data), stage.limit)), ledger.count, None)
        for group in groups(track(rows, tr("judging", "评判"), unit=tr("pairs", "对")), stage.together):
            ledger.append(_judged(stage, principles, judge, group))
    tally = Tally()
    with Outputs(out.path, ("pairs", "ties", "failed")) as files:
        for row, _ in zip(ledger, _pairs(files_of(stage.data), stage.limit, files.reject), strict=True):
            if row["reason"] is not None:
                files.fail(row, row["reason"])
                continue
            tally.add(row)
            sure = abs(row["probability"] - 0.5)
            files.add("ties" if sure < stage.tie or not sure else "pairs", _labelled(row, stage.judge.label))
    out.results |= files.results("pairs") | tally.results()
    bias, flipped = out.results["position_bias"], out.results["flipped"]
    say(
        tr(
            f"The answer shown first is favoured by {bias:+.1%}; {flipped:.1%} of the verdicts turn with the order.",
            f"先出现的回答被偏向 {bias:+.1%}；{flipped:.1%} 的结论随顺序改变。",
        )
    )


class Tally:
    """What the judgements say about the judge."""

    def __init__(self) -> None:
        self.pairs = self.flipped = self.known = self.agreed = 0
        self.first = 0.0

    def add(self, row: dict[str, Any]) -> None:
        """Count one judged pair."""
        shown, swapped = row["orders"]  # probability that the first answer of the row is better
        self.pairs += 1
        self.first += (shown + 1 - swapped) / 2
        self.flipped += (shown - 0.5) * (swapped - 0.5) < 0
        if row["labelled"] and row["probability"] != 0.5:
            self.known += 1
            self.agreed += row["probability"] > 0.5

    def results(self) -> dict[str, float]:
        """For the manifest; agreement with labels that the data had, with its 95% interval."""
        if not self.pairs:
            return {}
        found = {"position_bias": self.first / self.pairs - 0.5, "flipped": self.flipped / self.pairs}
        if self.known:
            low, high = wilson(self.agreed, self.known)
            found |= {"agreement": self.agreed / self.known, "agreement.low": low, "agreement.high": high}
        return found


def _judged(
    stage: AiFeedbackStage, principles: Constitution, judge: Responder, group: Sequence[tuple[int, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Each pair with the probabilities in both orders, and their mean."""
    asked: list[list[dict[str, Any]]] = []
    drawn = []
    for number, row in group:
        principle = principles.draw("choice", random.Random(derive_seed(stage.seed, "choice", number)))
        drawn.append(principle.id)
        first, second = row["answers"]
        for a, b in ((first, second), (second, first)):
            asked.append([{"role": "user", "content": comparison(row["prompt"], a, b, principle)}])
    languages: list[Language] = [language_asked(row["prompt"]) for _, row in group for _ in range(2)]
    lost: dict[int, str] = {}
    if stage.reasoning:
        lost = _think(stage, judge, asked, languages, [number for number, _ in group for _ in range(2)])
    for messages, language in zip(asked, languages, strict=True):
        only = WORDS[language].only
        if messages[-1]["role"] == "user":
            messages[-1]["content"] += f"\n\n{only}"
        else:
            messages.append({"role": "user", "content": only})
    found = judge.choose(asked, LABELS)
    rows = []
    for i, ((_, row), principle) in enumerate(zip(group, drawn, strict=True)):
        shown, swapped = found[2 * i], found[2 * i + 1]
        reason = lost.get(2 * i) or lost.get(2 * i + 1)
        record = row | {"principle": principle, "orders": None, "probability": None, "reason": reason}
        if isinstance(shown, NoReply) or isinstance(swapped, NoReply):
            record["reason"] = reason or next(one.reason for one in (shown, swapped) if isinstance(one, NoReply))
        elif reason is None:
            orders = [shown["A"], swapped["B"]]
            record |= {"orders": orders, "probability": sum(orders) / 2}
        rows.append(record)
    return rows


def _think(
    stage: AiFeedbackStage,
    judge: Responder,
    asked: list[list[dict[str, Any]]],
    languages: Sequence[Language],
    numbers: Sequence[int],
) -> dict[int, str]:
    """Have the judge compare in words, as turns before the choice; what went wrong, by place."""
    for messages, language in zip(asked, languages, strict=True):
        messages[-1]["content"] += "\n\n" + WORDS[language].thought
    config = stage.judge
    questions = [
        Question(
            messages, config.max_tokens, config.temperature, derive_seed(stage.seed, "thought", numbers[i], i % 2)
        )
        for i, messages in enumerate(asked)
    ]
    lost = {}
    for i, reply in enumerate(judge.ask(questions)):
        if isinstance(reply, NoReply):
            lost[i] = f"no_thought: {reply.reason}"
        else:
            asked[i].append({"role": "assistant", "content": reply.text})
    return lost


def _labelled(row: dict[str, Any], judge: str) -> dict[str, Any]:
    """A judged pair as preference data; `probability` that the chosen answer is better."""
    first, second = row["answers"]
    better, worse = (first, second) if row["probability"] >= 0.5 else (second, first)
    known = {name: row[name] for name in KEPT if name in row}
    pair = {"prompt": row["prompt"], "chosen": better, "rejected": worse}
    sure = max(row["probability"], 1 - row["probability"])
    return known | pair | {"probability": sure, "provenance": {"judge": judge, "principle": row["principle"]}}


def _pairs(files: Sequence[Path], limit: int, reject: Reject = unheeded) -> Iterator[dict[str, Any]]:
    """{"prompt", "answers": [two texts], "labelled", and the columns kept} of each pair, at most `limit` (0: all);
    rows that hold none go to `reject`."""

    def read() -> Iterator[dict[str, Any]]:
        for file in files:
            _, found = read_layout(file, LAYOUTS, tr("pair of answers", "回答对"), reject)
            for one in found:
                yield from one.value

    return islice(read(), limit or None)


def _of_pair(layout: Layout[Any]) -> Layout[list[dict[str, Any]]]:
    def convert(row: Row) -> list[dict[str, Any]]:
        pair = layout.convert(row)
        sides = [one[0].content if len(one) == 1 else "" for one in (pair.chosen, pair.rejected)]
        return _rows(row, pair.prompt.plain(), sides, True)

    return Layout(layout.name, layout.keys, layout.fits, convert, layout.means)


def _of_answers(row: Row) -> list[dict[str, Any]]:
    asked = prompt_conversation(prompt_of(row["prompt"], row.get("system")), row)
    texts = [one["text"] if isinstance(one, dict) else one for one in row["answers"]]
    return _rows(row, asked.plain(), list(dict.fromkeys(texts)), False)


def _rows(row: Row, prompt: list[dict[str, Any]], texts: Sequence[Any], labelled: bool) -> list[dict[str, Any]]:
    """Every two answers after one another, as pairs."""
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise LuhuoError(tr("An answer to be judged is one text.", "待评判的回答须为单段文本。"))
    known = {name: row[name] for name in KEPT if isinstance(row.get(name), (str, int))}
    return [known | {"prompt": prompt, "answers": [a, b], "labelled": labelled} for a, b in pairwise(texts)]


LAYOUTS: tuple[Layout[list[dict[str, Any]]], ...] = (
    Layout("prompt-answers", "prompt, answers", lambda row: "prompt" in row and "answers" in row, _of_answers),
    *(_of_pair(layout) for layout in PREFERENCES),
)
