"""TruthfulQA's published table: answers parted by semicolons become the targets of both multiple-choice forms."""

from __future__ import annotations

from typing import Any

Targets = dict[str, list[Any]]


def _parted(cell: str) -> list[str]:
    return [answer for part in cell.split(";") if (answer := part.strip())]


def _targets(right: list[str], wrong: list[str]) -> Targets:
    return {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)}


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """`question`, `category`, `mc1_targets` (the best answer first) and `mc2_targets` of a row of the table.

    Rows of the other layouts have them already. The first form puts the best answer against all false ones.
    """
    if "mc1_targets" in row:
        found = dict(row)
        for name in ("mc1_targets", "mc2_targets"):
            if "choices" not in row[name]:  # the authors' file: {answer: label}
                found[name] = {"choices": list(row[name]), "labels": list(row[name].values())}
        return found
    right, wrong = _parted(row["Correct Answers"]), _parted(row["Incorrect Answers"])
    return {
        "question": row["Question"],
        "category": row["Category"],
        "mc1_targets": _targets([row["Best Answer"].strip()], wrong),
        "mc2_targets": _targets(right, wrong),
    }
