"""One run of stage `teacher-answers`: prompts to a teacher's answers, and these to conversations for fine-tuning.

`answers.jsonl` is the ledger: one line a prompt, appended as soon as it is answered. A run that was cut off asks only
what is not there yet. What cannot be learned from is in `failed.jsonl` with its reason.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from luhuo.adapter.open import open_decoder
from luhuo.align.best_of_n import ANSWERS, complete_rows, pairs, summary
from luhuo.align.distill.endpoint import Endpoint, Refused
from luhuo.align.distill.endpoint_config import EndpointConfig
from luhuo.align.prompts import Prompt, PromptOrder, asked, render_prompts
from luhuo.align.rewards import CompletionInfo, Rewards
from luhuo.align.rollout import Rollout
from luhuo.align.rollout_run import tokenizer_of
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import Progress, say
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.files.readers import list_files
from luhuo.files.references import resolve

if TYPE_CHECKING:
    from luhuo.align.distill.stages import TeacherAnswersStage

Row = dict[str, Any]
"""A line of the ledger: place, what is known of the prompt, prompt, answers, and `failure` if there are none."""

TIRED = 3
"""Times as many prompts in a row as are asked at once may fail before a run gives up."""


@dataclass(frozen=True)
class Answer:
    """One answer of the teacher."""

    text: str
    ended: bool
    tokens: int
    reasoning: str = ""


Outcome = list[Answer] | str
"""The answers to a prompt, or why there are none."""
Teacher = Callable[[Iterable[int]], Iterator[tuple[int, Outcome]]]
"""Answers the prompts at some places of the order, in any order."""


def answer(stage: TeacherAnswersStage, out: Workspace) -> None:
    """Write `answers.jsonl`, `conversations.jsonl`, `pairs.jsonl` (if there are scores) and `failed.jsonl`."""
    given = [stage.prompts] if isinstance(stage.prompts, str) else stage.prompts
    files = [file for value in given for file in list_files(resolve(value).path)]
    if stage.endpoint is None:
        order, teach = _local(stage, files)
    else:
        order, teach = _remote(stage, stage.endpoint, files)
    count = min(stage.limit or len(order.prompts), len(order.prompts))
    _answer_all(stage, order, count, teach, out.path / ANSWERS)
    rows = sorted(complete_rows(out.path / ANSWERS), key=lambda row: row["place"])
    source = stage.teacher if stage.endpoint is None else stage.endpoint.model
    kept = {"conversations": [], "failed": []}
    for row in rows:
        for name, line in _sorted_out(row, stage, str(source)):
            kept[name].append(line)
    if stage.rewards:
        kept["pairs"] = [pair for row in rows for pair in pairs(row, stage.min_score)]
    for name, lines in kept.items():
        _write(out.path / f"{name}.jsonl", lines)
    if not kept["conversations"]:
        raise LuhuoError(
            tr("No answer of the teacher can be learned from.", "教师的回答均不可用于学习。"),
            found=kept["failed"][0]["reason"] if kept["failed"] else None,
            where=out.path / "failed.jsonl",
        )
    out.results |= {name: len(lines) for name, lines in kept.items()} | {"prompts": count}
    out.results["truncated"] = summary(rows)["truncated"]
    if stage.rewards:
        out.results |= summary(rows)


def _local(stage: TeacherAnswersStage, files: Sequence[Path]) -> tuple[PromptOrder, Teacher]:
    assert stage.teacher is not None
    model = open_decoder(stage.teacher, dtype=stage.dtype, device=stage.device).eval()
    prompts = render_prompts(files, tokenizer_of(model, stage.teacher), system=stage.system)
    room = model.config.max_positions - stage.max_tokens
    order = _order(prompts, stage)
    fitting = [len(prompt.ids) for prompt in prompts if len(prompt.ids) <= room]
    rollout = Rollout(
        model,
        samples=stage.samples,
        max_tokens=stage.max_tokens,
        length=max(fitting, default=0) + stage.max_tokens,
        temperature=stage.temperature,
        at_once=stage.at_once,
    )

    def teach(places: Iterable[int]) -> Iterator[tuple[int, Outcome]]:
        waiting = iter(places)
        while some := list(islice(waiting, max(1, stage.at_once // stage.samples))):
            there = {place: order.at(place) for place in some}
            for place, prompt in list(there.items()):
                if len(prompt.ids) > room:
                    yield place, f"prompt too long: {len(prompt.ids)} tokens leave no room for {stage.max_tokens}"
                    del there[place]
            drawn = rollout.sample(there, derive_seed(stage.seed, "teacher-answers")) if there else {}
            for place, samples in drawn.items():
                yield place, [Answer(sample.text, sample.ended, sample.length) for sample in samples]

    return order, teach


def _remote(stage: TeacherAnswersStage, config: EndpointConfig, files: Sequence[Path]) -> tuple[PromptOrder, Teacher]:
    endpoint = Endpoint(config)
    prompts = [
        Prompt(item, tuple(_openai(conversation)), ()) for item, conversation in asked(files, system=stage.system)
    ]
    order = _order(prompts, stage)

    def one(place: int, prompt: Prompt) -> Outcome:
        seeds = [derive_seed(stage.seed, "teacher-answers", place, choice) % 2**31 for choice in range(stage.samples)]
        options: dict[str, Any] = {"temperature": stage.temperature, "max_tokens": stage.max_tokens}
        try:
            found = [endpoint.ask(prompt.messages, seed=seed, **options) for seed in seeds]
        except Refused as error:
            return str(error)
        return [Answer(reply.text, reply.ended, reply.tokens, reply.reasoning) for reply in found]

    def teach(places: Iterable[int]) -> Iterator[tuple[int, Outcome]]:
        work: SimpleQueue[tuple[int, Prompt] | None] = SimpleQueue()
        done: SimpleQueue[tuple[int, Outcome | Exception]] = SimpleQueue()
        for _ in range(config.concurrency):  # daemons: who stops the run does not wait for the last answers
            threading.Thread(target=_work, args=(one, work, done), daemon=True).start()
        waiting, running, failed = iter(places), 0, 0
        try:
            while True:
                for place in islice(waiting, 2 * config.concurrency - running):
                    work.put((place, order.at(place)))
                    running += 1
                if not running:
                    return
                place, outcome = done.get()
                running -= 1
                if isinstance(outcome, Exception):
                    raise outcome
                yield place, outcome
                failed = failed + 1 if isinstance(outcome, str) else 0
                if failed >= TIRED * config.concurrency:
                    raise _gave_up(failed, str(outcome), endpoint.name)
        finally:
            endpoint.close()
            for _ in range(config.concurrency):
                work.put(None)

    return order, teach


def _work(
    one: Callable[[int, Prompt], Outcome],
    work: SimpleQueue[tuple[int, Prompt] | None],
    done: SimpleQueue[tuple[int, Outcome | Exception]],
) -> None:
    """One thread's life: what goes wrong belongs to the thread that waits for it."""
    while (task := work.get()) is not None:
        try:
            done.put((task[0], one(*task)))
        except Exception as error:
            done.put((task[0], error))


def _gave_up(count: int, reason: str, where: str) -> RunFailed:
    return RunFailed(
        tr(f"{count} prompts in a row were not answered.", f"连续 {count} 个提示未得到回答。"),
        found=reason,
        where=where,
        fix=tr(
            "Run the same command again when it is mended: what was answered is kept.",
            "修复后重新运行同一命令：已得到的回答会保留。",
        ),
    )


def _order(prompts: Sequence[Prompt], stage: TeacherAnswersStage) -> PromptOrder:
    if not prompts:
        raise LuhuoError(tr("There is no prompt.", "没有任何提示。"), where="prompts")
    return PromptOrder(prompts, stage.seed)


def _openai(conversation: Conversation) -> Iterator[Mapping[str, Any]]:
    """The messages as such servers read them: the arguments of tool calls are text."""
    for message, plain in zip(conversation.messages, conversation.plain(), strict=True):
        yield plain | {"tool_calls": list(message.tool_calls)} if message.tool_calls else plain


def _answer_all(stage: TeacherAnswersStage, order: PromptOrder, count: int, teach: Teacher, file: Path) -> None:
    """Append what is not in the ledger yet; prompts that failed are asked again."""
    known = [row for row in complete_rows(file) if "failure" not in row] if file.exists() else []
    _write(file, known)  # without failures, and without a line that was cut off
    done = {row["place"] for row in known}
    rewards = Rewards(stage.rewards) if stage.rewards else None
    missing = (place for place in range(count) if place not in done)
    failed = 0
    title = tr("teacher's answers", "教师作答")
    with Progress(title, count, tr("prompts", "提示")) as progress, file.open("a", encoding="utf-8") as handle:
        progress.start_from(len(done))
        for place, outcome in teach(missing):
            prompt = order.at(place)
            row: Row = {"place": place} | {n: prompt.item[n] for n in ("id", "family", "lang") if n in prompt.item}
            row["prompt"] = list(prompt.messages)
            if isinstance(outcome, str):
                row |= {"answers": [], "failure": outcome}
                failed += 1
            else:
                row["answers"] = _scored(outcome, prompt, rewards, stage.max_tokens)
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            handle.flush()
            progress.advance()
    if failed:
        say(
            tr(
                f"{failed} prompts were not answered; failed.jsonl says why.",
                f"{failed} 个提示未得到回答；原因见 failed.jsonl。",
            )
        )


def _scored(answers: Sequence[Answer], prompt: Prompt, rewards: Rewards | None, most: int) -> list[Row]:
    scores: Sequence[float | None] = [None] * len(answers)
    if rewards is not None:
        infos = [CompletionInfo(one.tokens, "stop" if one.ended else "length", most) for one in answers]
        scores = rewards.score_all([prompt.item] * len(answers), [one.text for one in answers], infos).totals
    return [
        {"text": one.text, "score": score, "ended": one.ended, "tokens": one.tokens}
        | ({"reasoning_content": one.reasoning} if one.reasoning else {})
        for one, score in zip(answers, scores, strict=True)
    ]


def _sorted_out(row: Row, stage: TeacherAnswersStage, source: str) -> Iterator[tuple[str, Row]]:
    """("conversations" or "failed", line) of a prompt: what is kept of its answers, and why the others are not."""
    about = {name: row[name] for name in ("id", "family", "lang") if name in row}
    if "failure" in row:
        yield "failed", about | {"prompt": row["prompt"], "reason": row["failure"]}
        return
    good: dict[tuple[str, str], Row] = {}
    for number, one in enumerate(row["answers"]):
        reason = _fault(one, stage)
        if reason:
            yield "failed", about | {"prompt": row["prompt"], "reason": reason, "answer": one["text"]}
        else:
            good.setdefault((one.get("reasoning_content", ""), one["text"]), one | {"sample": number})
    best = sorted(good.values(), key=lambda one: -(one["score"] or 0.0))
    context = [message | {"train": False} if message["role"] == "assistant" else message for message in row["prompt"]]
    for one in best[:1] if stage.keep == "best" else best:
        thought = {"reasoning_content": one["reasoning_content"]} if "reasoning_content" in one else {}
        line = about | {"messages": [*context, {"role": "assistant", "content": one["text"], **thought}]}
        if one["score"] is not None:
            line["score"] = one["score"]
        yield (
            "conversations",
            line
            | {
                "meta": {
                    "teacher": source,
                    "temperature": stage.temperature,
                    "sample": one["sample"],
                    "seed": stage.seed,
                }
            },
        )


def _fault(one: Row, stage: TeacherAnswersStage) -> str | None:
    """Why an answer is none to learn from, or None. One that was cut off would be learned without its end."""
    if not one["ended"]:
        return "cut off"
    if not one["text"].strip():
        return "empty"
    if stage.rewards and one["score"] is None:
        return "could not be scored"
    if stage.min_score is not None and one["score"] < stage.min_score:
        return f"score {one['score']:g} below {stage.min_score:g}"
    return None


def _write(file: Path, rows: Iterable[Row]) -> None:
    with atomic_path(file) as path, path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
