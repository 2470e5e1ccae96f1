"""Answers that people judged, by which judges are measured: the published sets, and rows of one's own.

Sets are read from folders in their published layout: `pandalm` (pairs, three annotators), `xstest` (completions, two
annotators), `pyrit` (refusals), `gptfuzzer` (responses labelled as jailbroken; read as "does not refuse", which is
close to it and not the same). Rows of one's own: {"prompt", "answers": [a, b], "labels": [1, 2, 0, …]} with one label
of each person (0: a tie), or {"prompt", "answer", "labels": [true, …]}.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.judges.answers import spread
from luhuo.evaluation.judges.verdict import Shown
from luhuo.files.records import Broken
from luhuo.files.structured import read_rows

Form = Literal["pairwise", "label"]
SIDES = {0: "tie", 1: "a", 2: "b"}


@dataclass(frozen=True)
class Opinion:
    """One thing that people judged: "a", "b" or "tie" of a pair, or whether a label holds, of each person."""

    id: str
    shown: Shown
    labels: tuple[str | bool, ...]
    recorded: Mapping[str, str]
    """What other judges are known to have said of it, by their names."""


@dataclass(frozen=True)
class HumanSet:
    """A set of opinions."""

    name: str
    form: Form
    items: tuple[Opinion, ...]


def read_set(name: str, folder: str | Path, limit: int = 0) -> HumanSet:
    """A published set by its name, or a file of one's own rows under any other name; at most `limit` items,
    evenly over the set.

    Raises `LuhuoError` where files are missing or hold nothing of the kind.
    """
    root = Path(folder)
    if not root.exists():
        raise LuhuoError(tr("The set is not there.", "评测集不存在。"), where=root)
    reader = READERS.get(name)
    if reader is None and root.is_dir():
        raise unknown_key(name, sorted(READERS), str(root), tr("set", "评测集"))
    form, items = reader(root) if reader else _own(root)
    kept = tuple(spread(list(items), limit))
    if not kept:
        raise LuhuoError(tr("The set is empty.", "评测集为空。"), where=root)
    return HumanSet(name, form, kept)


Found = tuple[Form, Iterator[Opinion]]


def _pandalm(root: Path) -> Found:
    recorded = _recorded(root)

    def items() -> Iterator[Opinion]:
        for row in _rows(root, "testset-v1.json*"):
            said = {name: verdicts[row["idx"]] for name, verdicts in recorded.items() if row["idx"] in verdicts}
            question = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
            # one answer of the published file is the JSON value true
            shown = Shown((question,), (str(row["response1"]),), (str(row["response2"]),))
            labels = tuple(SIDES[row[f"annotator{who}"]] for who in (1, 2, 3))
            yield Opinion(str(row["idx"]), shown, labels, said)

    return "pairwise", items()


def _recorded(root: Path) -> dict[str, dict[Any, str]]:
    """Verdicts of judges that come with PandaLM's set; what is no verdict is left out."""
    found: dict[str, dict[Any, str]] = {}
    for name, key in (("gpt-3.5-turbo", "gpt_result"), ("pandalm-7b", "pandalm_result")):
        if list(root.glob(f"{name}-testset-v1.json*")):
            said = {row["idx"]: str(row[key]).strip() for row in _rows(root, f"{name}-testset-v1.json*")}
            named = {"0": "tie", "Tie": "tie", "1": "a", "2": "b"}
            found[name] = {number: named[text] for number, text in said.items() if text in named}
    return found


def _xstest(root: Path) -> Found:
    def items() -> Iterator[Opinion]:
        for file in sorted(root.glob("completions_*.csv*")):
            for row in _table(file):
                labels = tuple(not row[f"annotation_{who}"].startswith("1") for who in (1, 2))
                name = f"{file.name.partition('.')[0].removeprefix('completions_')}/{row['id']}"
                yield Opinion(name, Shown((row["prompt"],), (row["completion"],)), labels, {})

    return "label", items()


def _pyrit(root: Path) -> Found:
    def items() -> Iterator[Opinion]:
        for file in sorted(root.glob("refusal_scorer_*.csv*")):
            for number, row in enumerate(_table(file)):
                shown = Shown((row["objective"],), (row["assistant_response"],))
                yield Opinion(f"{file.name.partition('.')[0]}/{number}", shown, (_true(row["human_score"]),), {})

    return "label", items()


def _gptfuzzer(root: Path) -> Found:
    def items() -> Iterator[Opinion]:
        questions = {row["index"]: row["text"] for row in _table(_one(root, "question_list.csv*"))}
        for number, row in enumerate(_table(_one(root, "labeled_evaluate.csv*"))):
            asked = questions.get(row["question"], row["question"])
            yield Opinion(str(number), Shown((asked,), (row["Response"],)), (not _true(row["label"]),), {})

    return "label", items()


READERS: dict[str, Callable[[Path], Found]] = {
    "pandalm": _pandalm,
    "xstest": _xstest,
    "pyrit": _pyrit,
    "gptfuzzer": _gptfuzzer,
}


def _own(file: Path) -> Found:
    first = next(iter(_parsed(file)), None)
    form: Form = "pairwise" if first is not None and "answers" in first else "label"

    def items() -> Iterator[Opinion]:
        for number, row in enumerate(_parsed(file)):
            try:
                yield _own_row(row, number, form)
            except (KeyError, TypeError, ValueError) as error:
                raise LuhuoError(
                    tr("This row is no judged answer.", "该行不是带评判的回答。"),
                    expected="prompt, answers: [a, b], labels: [1, 2, 0]; prompt, answer, labels: [true]",
                    found=f"{type(error).__name__}: {error}",
                    where=tr(f"{file}, row {number + 1}", f"{file} 第 {number + 1} 行"),
                ) from None

    return form, items()


def _own_row(row: Mapping[str, Any], number: int, form: Form) -> Opinion:
    asked = row["prompt"]
    reference = (str(row["reference"]),) if row.get("reference") else ()
    texts = [str(text) for text in row["answers"]] if form == "pairwise" else [str(row["answer"])]
    first, *second = [(text,) for text in texts]
    if not isinstance(asked, str) or len(second) != (form == "pairwise") or not row["labels"]:
        raise ValueError(f"prompt: {type(asked).__name__}, {len(texts)} answers, labels: {row['labels']!r}")
    labels = tuple(SIDES[label] if form == "pairwise" else bool(label) for label in row["labels"])
    shown = Shown((asked,), first, second[0] if second else (), reference)
    return Opinion(str(row.get("id", number)), shown, labels, {})


def _one(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if not found:
        raise LuhuoError(tr("A file of the set is missing.", "评测集缺少文件。"), expected=pattern, where=root)
    return found[0]


def _rows(root: Path, pattern: str) -> Iterator[dict[str, Any]]:
    yield from _parsed(_one(root, pattern))


def _parsed(file: Path) -> Iterator[dict[str, Any]]:
    for row in read_rows(file):
        if isinstance(row, Broken) or not isinstance(row.value, dict):
            raise LuhuoError(
                tr("This row cannot be read.", "该行无法读取。"),
                found=row.reason if isinstance(row, Broken) else type(row.value).__name__,
                where=file,
            )
        yield row.value


def _table(file: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV file whose first lines may be comments (`# dataset_version=1.2,,`)."""
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8", errors="replace", newline="") as handle:
        text = handle.read()
    while text.startswith("#"):
        text = text.partition("\n")[2]
    yield from csv.DictReader(io.StringIO(text))


def _true(text: str) -> bool:
    return bool(re.fullmatch(r"\s*(?:1(?:\.0)?|true|yes)\s*", text, re.I))
