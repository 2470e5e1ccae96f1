"""HumanEval as a task: from a reply to a program, and from its verdicts to pass@k."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from luhuo.evaluation.metrics.code import pass_at
from luhuo.evaluation.programs.trial import Verdict, attempt, tally
from luhuo.verify.code_blocks import code_of

_OPENED = re.compile(r"^[ \t]*```[ \t]*(?:python|py)?[ \t]*\n((?:(?!^[ \t]*```).)*)\Z", re.M | re.S)


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """pass@k of one problem, and how its samples went."""
    return scores([_tried(document, output) for output in outputs])


def scores(verdicts: Sequence[Verdict]) -> dict[str, float | None]:
    """pass@1, @10, @100 as far as there are samples, the share of each kind of failure, and the flag `timed_out`."""
    counts = tally(verdicts)
    passed = pass_at([(len(verdicts), counts["passed"])])
    shares = {kind: counts[kind] / len(verdicts) for kind in ("wrong", "crashed", "not_compiled", "over_limit")}
    return {
        **{f"pass@{k}": value for k, value in passed.items()},
        **shares,
        "timed_out": float(counts["timed_out"] > 0),
    }


def _tried(document: dict[str, Any], output: str) -> Verdict:
    prompt, entry = document["prompt"], document["entry_point"]
    return attempt(program(prompt, output, entry), document["test"], entry=entry, prompt=prompt)


def program(prompt: str, output: str, entry: str) -> str:
    """The prompt with its continuation; where the reply defines the function anew, behind a prompt made whole."""
    block = code_of(output)[0]
    opened = _OPENED.search(output)  # a block that the token limit cut off
    body = block if block is not None else opened[1] if opened else output
    if not re.search(rf"^(?:async )?def {re.escape(entry)}\b", body, re.M):
        return prompt + body
    return f"{prompt.rstrip()}\n    pass\n\n{body}"
