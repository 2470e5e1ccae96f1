"""Best of n: sampling, scoring and choosing of the stage `rejection`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.adapter.open import open_decoder
from luhuo.align.prompts import Prompt, PromptOrder, render_prompts
from luhuo.align.rewards import CompletionInfo, Rewards
from luhuo.align.rollout import Rollout, Sample
from luhuo.align.rollout_run import tokenizer_of
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.core.seeds import derive_seed
from luhuo.files.readers import list_files
from luhuo.files.references import resolve

if TYPE_CHECKING:
    from luhuo.align.rejection import RejectionStage

ANSWERS = "answers.jsonl"
"""Everything that was sampled, with scores: one line a prompt."""


def run_rejection(stage: RejectionStage, out: Workspace) -> None:
    """Write `answers.jsonl` (everything), `conversations.jsonl`, `pairs.jsonl` and `ranked.jsonl` into `out`."""
    model = open_decoder(stage.model, dtype=stage.dtype, device=stage.device).eval()
    given = [stage.prompts] if isinstance(stage.prompts, str) else stage.prompts
    files = [file for value in given for file in list_files(resolve(value).path)]
    prompts = render_prompts(files, tokenizer_of(model, stage.model), system=stage.system)
    room = model.config.max_positions - stage.max_tokens
    asked = [prompt for prompt in prompts if len(prompt.ids) <= room]
    if not asked:
        raise LuhuoError(
            tr("No prompt leaves room for an answer.", "没有任何提示为回答留出余地。"),
            expected=tr(f"at most {room} tokens", f"至多 {room} 个词元"),
            where="max_tokens",
        )
    order = PromptOrder(asked, stage.seed)
    count = min(stage.limit or len(asked), len(asked))
    rollout = Rollout(
        model,
        samples=stage.samples,
        max_tokens=stage.max_tokens,
        length=max(len(prompt.ids) for prompt in asked) + stage.max_tokens,
        temperature=stage.temperature,
        at_once=stage.at_once,
    )
    _answer_all(stage, order, count, rollout, out.path / ANSWERS)
    rows = list(complete_rows(out.path / ANSWERS))
    kept = {
        "conversations.jsonl": [one for row in rows for one in conversations(row, stage.keep, stage.min_score)],
        "pairs.jsonl": [one for row in rows for one in pairs(row, stage.min_score)],
        "ranked.jsonl": [one for row in rows for one in rankings(row)],
    }
    for name, found in kept.items():
        with atomic_path(out.path / name) as path, path.open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    if not kept["conversations.jsonl"]:
        raise LuhuoError(
            tr("No answer was good enough to be kept.", "没有任何回答达到保留标准。"),
            expected=f"score >= {stage.min_score}",
            found=max((s for row in rows for s in _scored(row)), default=math.nan),
            fix=tr(
                "Lower min_score, raise samples, or look at the rewards.", "降低 min_score、增大 samples 或检查奖励。"
            ),
        )
    out.results |= {name.removesuffix(".jsonl"): len(found) for name, found in kept.items()}
    out.results |= summary(rows) | {"prompts": count, "too_long": len(prompts) - len(asked)}


def _answer_all(stage: RejectionStage, order: PromptOrder, count: int, rollout: Rollout, file: Path) -> None:
    """Append the answers to each prompt, from the first one that is not there yet."""
    rewards = Rewards(stage.rewards)
    done = sum(1 for _ in complete_rows(file)) if file.exists() else 0
    with atomic_path(file) as path, path.open("w", encoding="utf-8") as handle:  # without a line that was cut off
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in (complete_rows(file) if done else ()))
    together = max(1, stage.at_once // stage.samples)
    with Progress("rejection", count, tr("prompts", "提示")) as progress, file.open("a", encoding="utf-8") as handle:
        progress.start_from(done)
        for start in range(done, count, together):
            places = {place: order.at(place) for place in range(start, min(start + together, count))}
            drawn = rollout.sample(places, derive_seed(stage.seed, "rejection"))
            samples = [sample for group in drawn.values() for sample in group]
            infos = [CompletionInfo(s.length, "stop" if s.ended else "length", stage.max_tokens) for s in samples]
            scores = rewards.score_all([s.prompt.item for s in samples], [s.text for s in samples], infos).totals
            for number, (place, group) in enumerate(drawn.items()):
                own = scores[number * stage.samples : (number + 1) * stage.samples]
                row = _row(places[place], group, own)
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            handle.flush()
            progress.advance(len(places))


def _row(prompt: Prompt, group: Sequence[Sample], scores: Sequence[float | None]) -> dict[str, Any]:
    known = {name: prompt.item[name] for name in ("id", "family", "lang") if name in prompt.item}
    answers = [
        {"text": sample.text, "score": score, "ended": sample.ended, "tokens": sample.length}
        for sample, score in zip(group, scores, strict=True)
    ]
    return {**known, "prompt": list(prompt.messages), "answers": answers}


def complete_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a file; what a kill cut off is made again."""
    with file.open(encoding="utf-8") as handle:
        for line in handle:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def usable(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of a prompt that were scored, the best first; of equal texts one. An answer that was cut off is
    none to learn from: it would be learned without its end."""
    found: dict[str, dict[str, Any]] = {}
    for answer in row["answers"]:
        if answer["score"] is not None and answer["ended"] and answer["text"].strip():
            found.setdefault(answer["text"], answer)
    return sorted(found.values(), key=lambda answer: -answer["score"])


def conversations(row: dict[str, Any], keep: str, least: float | None) -> Iterator[dict[str, Any]]:
    """What is kept of a prompt's answers, as conversations for fine-tuning; only the answer is a target."""
    context = [message | {"train": False} if message["role"] == "assistant" else message for message in row["prompt"]]
    good = [answer for answer in usable(row) if least is None or answer["score"] >= least]
    for answer in good[:1] if keep == "best" else good:
        known = {name: row[name] for name in ("id", "family", "lang") if name in row}
        turns = [*context, {"role": "assistant", "content": answer["text"]}]
        yield known | {"messages": turns, "score": answer["score"]}


def pairs(row: dict[str, Any], least: float | None) -> Iterator[dict[str, Any]]:
    """The best answer to a prompt against the worst one, where their scores differ. The worst may be cut off."""
    good = usable(row)
    scored = [answer for answer in row["answers"] if answer["score"] is not None and answer["text"].strip()]
    if not good or (least is not None and good[0]["score"] < least):
        return
    worst = min(scored, key=lambda answer: answer["score"])
    if worst["score"] < good[0]["score"]:
        yield {
            "prompt": row["prompt"],
            "chosen": good[0]["text"],
            "rejected": worst["text"],
            "score_chosen": good[0]["score"],
            "score_rejected": worst["score"],
        }


def rankings(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All usable answers to a prompt with their scores and ranks (1 is best), where the scores differ."""
    good = usable(row)
    scores = [answer["score"] for answer in good]
    if len(set(scores)) < 2:
        return
    levels = sorted(set(scores), reverse=True)
    yield {
        "prompt": row["prompt"],
        "answers": [answer["text"] for answer in good],
        "scores": scores,
        "ranks": [levels.index(score) + 1 for score in scores],
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean score, what the best of k answers would score (k = 1, 2, 4 … n), and how many were cut off."""
    answers = [answer for row in rows for answer in row["answers"]]
    found = {"truncated": sum(not answer["ended"] for answer in answers) / max(1, len(answers))}
    curves = [best_of(scores) for row in rows if len(scores := _scored(row)) == len(row["answers"])]
    for k in (2**power for power in range(20)):
        values = [curve[k - 1] for curve in curves if k <= len(curve)]
        if values:
            found[f"best_of_{k}"] = math.fsum(values) / len(values)
    return found | {"unscored": sum(answer["score"] is None for answer in answers) / max(1, len(answers))}


def best_of(scores: Sequence[float]) -> list[float]:
    """The expected best of k of these scores, drawn without replacement, for k = 1 … n: unbiased for the best of k.

    The score of rank i (ascending, from 0) is the best of C(i, k - 1) of the C(n, k) draws.
    """
    ranked, n = sorted(scores), len(scores)
    return [
        math.fsum(score * math.comb(i, k - 1) for i, score in enumerate(ranked)) / math.comb(n, k)
        for k in range(1, n + 1)
    ]


def _scored(row: dict[str, Any]) -> list[float]:
    return [answer["score"] for answer in row["answers"] if answer["score"] is not None]
