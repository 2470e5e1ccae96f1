"""From what a model gave for an item to its scores, and to what went wrong besides being wrong.

Every row of a finished task is made here, from the request and the outcome alone, so that scores can be read again.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.outcomes import Outcome
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.requests import Asked
from luhuo.evaluation.tasks.spec import Extraction, Match

FLAGS = ("unparsed", "truncated", "refused", "timed_out")
"""What is counted beside scores: no answer was found in the reply; it hit the token limit, or its prompt the context;
the model declined; the judgement of the reply ran out of time. A task's `score` may give these names too."""
REFUSAL = re.compile(
    r"^\W*(?:i(?:['’]m| am) (?:very |so )?sorry|sorry,|i (?:can(?:no|['’])t|am (?:not able|unable)|won['’]t)|"
    r"as an? (?:ai|language model)|(?:很|非常)?抱歉|对不起|作为一?[个名]?(?:人工智能|AI|语言模型)|"
    r"我(?:不能|无法|没有办法))",
    re.IGNORECASE,
)
"""How replies begin that decline. It says what a reply looks like, not why."""

Row = dict[str, Any]


def scored(task: Task, asked: Asked, outcome: Outcome) -> Row:
    """The row of an item: what was asked and given, `scores` by metric, `flags`, and the `chance` of guessing right.

    Raises `LuhuoError` when the task's own `score` fails.
    """
    document = asked.document
    row: Row = {"id": document.id, "subject": document.subject, "group": document.group, "lang": document.language}
    row |= {"shots": asked.shots, "flags": {"truncated": True} if outcome.get("cut") else {}}
    kind = task.spec.kind
    if kind == "custom":
        row |= {"chance": task.spec.chance} | _split(dict(outcome["scores"]), row["flags"])
        return row
    if kind == "choice":
        return row | _choice(task, asked, outcome)
    if kind == "continuation":
        total = outcome["totals"][0]
        found = {"scores": {"acc": float(outcome["greedy"][0]), "logprob": total}, "chance": task.spec.chance}
        return row | {"prompt": asked.prompts[0], "target": asked.continuations[0]} | found
    if kind == "text":
        counts = {"words": len(re.split(r"\s+", asked.counted)), "bytes": len(asked.counted.encode())}
        numbers = {"tokens": sum(outcome["tokens"]), **counts}
        return row | numbers | {"scores": {"logprob": math.fsum(outcome["totals"])}, "chance": None}
    return row | _reply(task, asked, outcome, row["flags"])


def _choice(task: Task, asked: Asked, outcome: Outcome) -> Row:
    totals, right = outcome["totals"], asked.right
    by = {
        "acc": totals,
        "acc_norm": [t / max(1, len(c)) for t, c in zip(totals, asked.choices, strict=True)],
        "acc_bytes": [t / max(1, len(c.encode())) for t, c in zip(totals, asked.choices, strict=True)],
        "acc_tokens": [t / n for t, n in zip(totals, outcome["tokens"], strict=True)],
    }
    if "alone" in outcome:
        by["acc_mutual_info"] = [t - a for t, a in zip(totals, outcome["alone"], strict=True)]
    scores = {name: float(right[_first_largest(values)]) for name, values in by.items()}
    weights = [math.exp(total - max(totals)) for total in totals]
    scores["mass"] = sum(w for w, mark in zip(weights, right, strict=True) if mark) / sum(weights)
    function = task.functions.find("score")
    if function is not None:
        scores |= function(asked.document.fields, [asked.choices[_first_largest(totals)]])
    return {
        "prompt": asked.prompts[0] if len(asked.prompts) == 1 else list(asked.prompts),
        "choices": list(asked.choices),
        "right": list(right),
        "picked": _first_largest(totals),
        "logprobs": totals,
        "tokens": outcome["tokens"],
        "scores": scores,
        "chance": sum(right) / len(right),
    }


def _first_largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: values[i])


def _reply(task: Task, asked: Asked, outcome: Outcome, flags: dict[str, bool]) -> Row:
    outputs: list[str] = outcome["outputs"]
    if "length" in outcome["reasons"]:
        flags["truncated"] = True
    row: Row = {"prompt": asked.prompts[0] if asked.prompts else list(asked.turns), "outputs": outputs}
    row |= {"reference": asked.reference, "chance": task.spec.chance}
    function = task.functions.find("score")
    if function is not None:
        row |= _split(_called(function, task, asked, outputs), flags)
    else:
        row |= _extracted(task, asked, outputs, flags)
    if outputs and all(REFUSAL.match(text.strip()) for text in outputs):
        flags["refused"] = True
    return row


def _called(function: Callable[..., Any], task: Task, asked: Asked, outputs: list[str]) -> dict[str, Any]:
    try:
        return dict(function(asked.document.fields, outputs))
    except LuhuoError:
        raise
    except Exception as error:  # the task's own code: whatever it raises is said with its place, and ends this task
        raise LuhuoError(
            tr("The task's own scoring failed.", "任务自带的评分函数出错。"),
            found=f"{type(error).__name__}: {error}",
            where=f"{task.spec.python}: {asked.document.id}",
        ) from error


def _split(found: dict[str, Any], flags: dict[str, bool]) -> Row:
    """Scores without the flags among them. A score of None could not be judged: it is 0, and unparsed."""
    for name in FLAGS:
        if found.pop(name, False):
            flags[name] = True
    if any(value is None for value in found.values()):
        flags["unparsed"] = True
    return {"scores": {name: 0.0 if value is None else float(value) for name, value in found.items()}}


def _extracted(task: Task, asked: Asked, outputs: list[str], flags: dict[str, bool]) -> Row:
    """Answers found by each way of extraction; with several replies also what most of them say."""
    scores: dict[str, float] = {}
    answers: dict[str, list[str | None]] = {}
    ways = task.spec.extract or {"whole": None}
    reference = normalised(asked.reference or "", task.spec.match)
    for name, way in ways.items():
        found = answers[name] = [text.strip() if way is None else extract(text, way) for text in outputs]
        equal = [a is not None and normalised(a, task.spec.match) == reference for a in found]
        scores[f"exact.{name}"] = sum(equal) / max(1, len(equal))
        if len(outputs) > 1:
            said = Counter(normalised(a, task.spec.match) for a in found if a is not None)
            scores[f"majority.{name}"] = float(bool(said) and said.most_common(1)[0][0] == reference)
    headline = task.spec.metrics[0].partition(".")[2]
    if all(answer is None for answer in answers.get(headline, next(iter(answers.values())))):
        flags["unparsed"] = True
    return {"scores": scores, "answers": answers}


def extract(text: str, way: Extraction) -> str | None:
    """The answer in a reply: the first group that matched (the whole match without groups), or None."""
    matches = list(re.finditer(way.pattern, text))
    if not matches:
        return None
    match = matches[0 if way.pick == "first" else -1]
    return next((group for group in match.groups() if group), match.group(0)).strip()


def normalised(text: str, match: Match) -> str:
    """An answer as it is compared."""
    for pattern in match.ignore:
        text = re.sub(pattern, "", text)
    text = text if match.case else text.lower()
    return text if match.punctuation else text.translate(str.maketrans("", "", string.punctuation))
