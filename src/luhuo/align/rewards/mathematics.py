"""Are two answers mathematically the same: numbers here, everything else by math-verify in the sandbox.

math-verify reads what a model wrote with parsers that evaluate it, it needs the main thread (it stops itself by a
signal, which never comes in another thread, and then calls every answer wrong), and one power of powers keeps it busy
for ever. In a process of its own with limits none of that matters: what takes too long cannot be scored, and the rest
of the batch is.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from typing import Any

from luhuo import sandbox
from luhuo.align.rewards.answers import graded
from luhuo.align.rewards.config import MathReward
from luhuo.align.rewards.score import NOT_APPLICABLE, CompletionInfo, Failure, Item, Mark, Scorer
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.sandbox import Call, Limits, Result
from luhuo.verify.answers import Match, match_exact, split_reasoning, stated
from luhuo.verify.quantities import match_number, value_of

_JUDGE = """
import math_verify

def boxed(text):
    return math_verify.parse("\\\\boxed{" + text + "}")

def judge(gold, stated, said):
    wanted = boxed(gold)
    if not wanted or all(isinstance(each, str) for each in wanted):
        raise ValueError("the gold answer cannot be read")
    strict = math_verify.verify(wanted, boxed(stated), raise_on_error=True) if stated else False
    return [strict, strict or math_verify.verify(wanted, math_verify.parse(said), raise_on_error=True)]
"""
_MEMORY = 1 << 30
_LONGEST = 4000
"""Characters of a reply's end that are searched for an answer."""


def mathematics(config: MathReward) -> Scorer:
    """See `MathReward`."""
    limits = Limits(seconds=config.seconds, cpu_seconds=config.seconds, memory=_MEMORY)
    if util.find_spec("math_verify") is None:
        say(
            tr(
                "The package math-verify is not installed: answers that are no numbers cannot be scored. "
                "pip install 'luhuo[math]'",
                "未安装 math-verify：非数值答案无法评分。请运行 pip install 'luhuo[math]'",
            )
        )

    def score(items: Sequence[Item], texts: Sequence[str], infos: Sequence[CompletionInfo]) -> list[Mark | Failure]:
        golds = [item.get(config.key) for item in items]
        easy = [None if gold is None else numeric(str(gold), text) for gold, text in zip(golds, texts, strict=True)]
        hard = [i for i, gold in enumerate(golds) if gold is not None and easy[i] is None]
        results = dict(zip(hard, symbolic([(str(golds[i]), texts[i]) for i in hard], limits), strict=True))
        marks: list[Mark | Failure] = []
        for i, match in enumerate(easy):
            found = results.get(i, match)
            marks.append(
                NOT_APPLICABLE if found is None else found if isinstance(found, Failure) else graded(found, config)
            )
        return marks

    return score


def numeric(gold: str, text: str) -> Match | None:
    """The match where numbers alone decide it: the same text; or a gold number, and a reply that states a number or
    ends on the right one. None: to be looked at more closely."""
    same = match_exact(text, [gold])
    if same.strict:
        return same
    wanted = value_of(gold)
    if wanted is None:
        return None
    match, answer = match_number(text, wanted), stated(text)
    decided = match.strict or (answer is not None and value_of(answer) is not None)
    return match if decided else None


def symbolic(pairs: Sequence[tuple[str, str]], limits: Limits) -> list[Match | Failure]:
    """Matches of (gold answer, reply) by math-verify, all in one process of the sandbox; a failure where it could not
    tell in time. Without the package a gold number is looked for as `match_number` does it."""
    if not pairs:
        return []
    if util.find_spec("math_verify") is None:
        return [_numbers_only(gold, text) for gold, text in pairs]
    said = [(gold, stated(text) or "", split_reasoning(text)[1][-_LONGEST:]) for gold, text in pairs]
    cases: list[sandbox.Case] = [Call.of("judge", *each, wanted=[True, True]) for each in said]
    # Not what is in the sandbox is untrusted but what it reads, so a machine with fewer protections will do.
    report = sandbox.tests(_JUDGE, cases, limits=limits, packages=True, weak=True)
    return [_read(result, bool(each[1])) for result, each in zip(report.results, said, strict=True)]


def _read(result: Result, parsed: bool) -> Match | Failure:
    value: Any = result.value
    if isinstance(value, list) and len(value) == 2:
        return Match(bool(value[0]), bool(value[1]), parsed)
    return Failure(f"math-verify: {result.status}, {result.found}")


def _numbers_only(gold: str, text: str) -> Match | Failure:
    wanted = value_of(gold)
    if wanted is None:
        return Failure(
            tr(f"no number, and math-verify is not installed: {gold!r}", f"非数值，且未安装 math-verify：{gold!r}")
        )
    return match_number(text, wanted)
