"""MBPP as a task: its splits are ranges of numbers, and its tests are assertions."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from luhuo.evaluation.programs.trial import Verdict, attempt
from luhuo.evaluation.tasks.folders import first_of, rows_of
from luhuo.evaluation.tasks.humaneval import scores
from luhuo.verify.code_blocks import code_of

SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
"""Numbers of tasks (README of google-research/mbpp)."""
_SHOWN = (2, 3, 4)
"""The examples of the published prompt come first."""


def rows(folder: Path | None, split: str, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of a split, from the one file that holds all, or from a file a split."""
    found = rows_of(first_of(folder, ("mbpp.jsonl*", f"full/{split}*.parquet", f"**/{split}*.parquet")))
    chosen = [row for row in found if row["task_id"] in SPLITS[split]]
    for row in sorted(chosen, key=lambda row: row["task_id"] not in _SHOWN):
        yield row | {"id": str(row["task_id"])}


def score(document: dict[str, Any], outputs: Sequence[str]) -> dict[str, float | None]:
    """pass@k of one problem, and how its samples went."""
    return scores([_tried(document, output) for output in outputs])


def _tried(document: dict[str, Any], output: str) -> Verdict:
    program = output.partition("[DONE]")[0]
    program = code_of(program)[1]
    setup = document.get("test_setup_code") or ""
    return attempt(f"{program}\n{setup}", "\n".join(document["test_list"]), shadows=_shadows(document["code"]))


def _shadows(solution: str) -> list[str]:
    """Names of Python's own that the reference solution defines, so that any solution may."""
    with warnings.catch_warnings(action="ignore"):  # solutions of the set have odd escapes
        body = ast.parse(solution).body
    named = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return [name for name in named if hasattr(builtins, name)]
