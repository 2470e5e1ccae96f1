"""The files of AGIEval: which sets are in which language, and which questions have one right option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.tasks.folders import first_of, rows_of

ENGLISH = ("aqua-rat", "logiqa-en", "lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-en-without-passage", "sat-math")
_GAOKAO = ("biology", "chemistry", "chinese", "english", "geography", "history", "mathqa", "physics")
CHINESE = (*(f"gaokao-{name}" for name in _GAOKAO), "jec-qa-ca", "jec-qa-kd", "logiqa-zh")


class Exams:
    """The functions of a task over some of the sets: those questions with one right option, or those with several."""

    def __init__(self, sets: tuple[str, ...], *, single: bool) -> None:
        self.sets, self.single = sets, single

    def rows(self, folder: Path | None, split: str, seed: int) -> Iterator[dict[str, Any]]:
        """The rows of each set that is there. Raises `LuhuoError` where none is."""
        files = [
            file
            for file in first_of(folder, ("data/v1*/*.jsonl*", "*.jsonl*"))
            if file.name.partition(".")[0] in self.sets
        ]
        if not files:
            raise LuhuoError(
                tr("None of AGIEval's sets is in this folder.", "此目录中没有 AGIEval 的数据。"),
                expected=", ".join(f"{name}.jsonl" for name in self.sets),
                where=folder,
            )
        for file in files:
            subject = file.name.partition(".")[0]
            for number, row in enumerate(rows_of([file])):
                yield {**row, "id": f"{subject}/{number}", "subject": subject}

    def prepare(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """`label` as a run of letters, `letters` of all options; None for questions of the other kind, and for the few
        without a label."""
        given = row["label"]
        label = "".join(sorted(set(re.findall(r"[A-G]", "".join(given or ())))))
        if not label or (len(label) == 1) != self.single:
            return None
        return row | {"label": label, "letters": [chr(ord("A") + place) for place in range(len(row["options"]))]}
