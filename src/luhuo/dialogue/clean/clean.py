"""The stage `clean-dialogue` at work: two passes over the data, the first to judge, the second to write.

Memory holds of each row what comparing needs, not the row. Which rows are kept does not depend on their order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say, track
from luhuo.corpus import signals
from luhuo.corpus.normalise import language
from luhuo.corpus.signals import harmful
from luhuo.corpus.signals.classifier import Classifier
from luhuo.dialogue.clean.diversity import Vectors, hashed_vectors, unit_length
from luhuo.dialogue.clean.faults import Fault, fault_of
from luhuo.dialogue.clean.reasons import REASONS
from luhuo.dialogue.clean.repeats import Asked, repeats
from luhuo.dialogue.clean.samples import Sample, read_samples
from luhuo.dialogue.clean.selection import Candidate, described, read_difficulty, select, structured
from luhuo.dialogue.clean.stages import CleanDialogueStage
from luhuo.files.records import Broken
from luhuo.files.references import resolve

GROUP = 256
"""Rows whose answers are measured together."""
MOST_HARM = 0.5
"""Score of the signal `harmful` above which an answer is dropped, as in the rules of the corpus."""


@dataclass
class _Judged:
    """What is known of all readable rows, by their number."""

    dropped: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)
    """Reason, what shows it, number of the row kept in its place."""
    asked: list[Asked] = field(default_factory=list)
    rows: dict[int, Candidate] = field(default_factory=dict)
    """Of rows without a fault."""
    places: list[tuple[int, int]] = field(default_factory=list)
    """File and line."""
    langs: list[str] = field(default_factory=list)
    broken: list[tuple[int, Broken]] = field(default_factory=list)


def clean(stage: CleanDialogueStage, out: Workspace) -> None:
    """See `CleanDialogueStage`. Raises `LuhuoError` for a file of no known layout, or where no row is left."""
    files = [resolve(path).path for path in stage.data]
    judged = _judge(stage, files)
    found = repeats(judged.asked, near=stage.near)
    for number, repeat in found.items():
        if repeat.reason not in stage.keep:
            judged.dropped[number] = (repeat.reason, "", repeat.of)
    chosen = _choose(stage, files, judged)
    report = _write(stage, files, judged, out)
    report["selection"] = chosen
    write_json(out.path / "report.json", report)
    for name in ("read", "kept", "dropped"):
        out.results[f"rows.{name}"] = report[name]
    out.results |= {f"reason.{code}": count for code, count in report["reasons"].items()}
    if not report["kept"]:
        raise LuhuoError(
            tr("No row is left.", "没有剩下任何条目。"),
            found=", ".join(f"{code}: {count}" for code, count in report["reasons"].items()),
            where=", ".join(map(str, files)),
        )
    _say(report)


def _judge(stage: CleanDialogueStage, files: list[Path]) -> _Judged:
    judged = _Judged()
    known = read_difficulty(stage.difficulty) if stage.difficulty is not None else {}
    classifiers = {lang: Classifier.load(resolve(path).path) for lang, path in stage.harmful.items()}
    model = harmful.Model(classifiers)
    for place, file in enumerate(files):

        def reject(broken: Broken, place: int = place) -> None:
            judged.broken.append((place, broken))

        _, samples = read_samples(file, reject)
        rows = track(samples, tr(f"checking {file.name}", f"检查 {file.name}"), unit=tr("rows", "行"))
        while group := list(islice(rows, GROUP)):
            langs = [language(sample.question + sample.answer) for sample in group]
            for sample, lang, harm in zip(group, langs, _harm(group, langs, model), strict=True):
                judged.langs.append(lang)
                _see(stage, judged, place, sample, harm, known.get(sample.key))
    return judged


def _see(
    stage: CleanDialogueStage, judged: _Judged, place: int, sample: Sample, harm: float, ifd: float | None
) -> None:
    """Judge one row, and remember of it what comparing needs."""
    number = len(judged.places)
    judged.places.append((place, sample.line))
    fault = _fault(sample)
    found = [fault] if fault is not None else []
    if harm > MOST_HARM:
        found.append(Fault("toxic", f"{harm:.2f}"))
    if ifd is not None and ifd >= 1:
        found.append(Fault("not_helped", f"IFD {ifd:.3f}"))
    fault = next((one for one in found if one.code not in stage.keep), None)
    if fault is not None:
        judged.dropped[number] = (fault.code, fault.shown, None)
        return
    judged.asked.append(Asked.of(number, sample.key, sample.question, sample.answer))
    units = judged.asked[-1].answer_length
    judged.rows[number] = Candidate(number, sample.key, sample.file, units, structured(sample.answer), ifd)


def _harm(samples: list[Sample], langs: list[str], model: harmful.Model) -> list[float]:
    """How harmful the answer of each row is."""
    found = [0.0] * len(samples)
    for lang in sorted(set(langs)):
        mine = [number for number, one in enumerate(langs) if one == lang]
        rows = signals.measure([samples[number].answer for number in mine], lang, (), [model])
        for number, row in zip(mine, rows, strict=True):
            found[number] = row["harmful.score"]
    return found


def _fault(sample: Sample) -> Fault | None:
    """The first fault of any answer of a conversation."""
    turns = sample.turns
    if not turns and not sample.answer:
        return Fault("unanswered", "")
    for asked, answer in turns:
        fault = fault_of(asked, answer, sample.instructions, alone=len(turns) == 1)
        if fault is not None:
            return fault
    return None


def _choose(stage: CleanDialogueStage, files: list[Path], judged: _Judged) -> dict[str, Any] | None:
    """Drop all rows but the chosen ones; what the report says of it."""
    if stage.select is None:
        return None
    numbers = [number for number in sorted(judged.rows) if number not in judged.dropped]
    rows = [judged.rows[number] for number in numbers]
    vectors = None
    if stage.select.by != "difficulty":
        vectors = (
            _given(stage.vectors, numbers, len(judged.places)) if stage.vectors else _vectors(files, set(numbers))
        )
    places, report = select(rows, vectors, stage.select)
    kept = {numbers[place] for place in places}
    judged.dropped |= {number: ("not_selected", "", None) for number in numbers if number not in kept}
    return {"by": stage.select.by, **report, **described(rows, places)}


def _given(path: str, numbers: list[int], total: int) -> Vectors:
    try:
        vectors = np.load(resolve(path).path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LuhuoError(tr("These are no vectors.", "这不是向量文件。"), found=str(error), where=path) from None
    if vectors.ndim != 2 or len(vectors) != total:
        raise LuhuoError(
            tr("The vectors do not belong to this data.", "向量与数据不对应。"),
            expected=f"({total}, …)",
            found=str(vectors.shape),
            where=path,
        )
    return unit_length(np.asarray(vectors[np.array(numbers, dtype=np.int64)], dtype=np.float32))


def _vectors(files: list[Path], wanted: set[int]) -> Vectors:
    return hashed_vectors([s.question for number, s in enumerate(_all(files)) if number in wanted])


def _all(files: list[Path]) -> Iterator[Sample]:
    for file in files:
        yield from read_samples(file, lambda _: None)[1]


def _write(stage: CleanDialogueStage, files: list[Path], judged: _Judged, out: Workspace) -> dict[str, Any]:
    """Write both sides, and count."""
    names = _names(files)
    per_file = {name: Counter[str]() for name in names}
    per_lang: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        dropped = _open(stack, out.path / "dropped.jsonl")
        for place, broken in judged.broken:
            code = "role_order" if broken.reason.startswith("role_order") else "unreadable"
            per_file[names[place]][code] += 1
            row = {"file": names[place], "line": broken.line, "reason": code, "shown": broken.reason}
            _line(dropped, row | {"row": broken.excerpt})
        kept = [_open(stack, out.path / "data" / name) for name in names]
        for number, sample in enumerate(_all(files)):
            place, line = judged.places[number]
            code, shown, of = judged.dropped.get(number, ("kept", "", None))
            per_file[names[place]][code] += 1
            per_lang.setdefault(judged.langs[number], Counter())[code] += 1
            if code == "kept":
                _line(kept[place], sample.row)
                continue
            row = {"file": names[place], "line": line, "reason": code, "shown": shown}
            if of is not None:
                row["of"] = f"{names[judged.places[of][0]]}:{judged.places[of][1]}"
            _line(dropped, row | {"row": sample.row})
    total = sum(per_file.values(), Counter[str]())
    return {
        "read": total.total(),
        "kept": total["kept"],
        "dropped": total.total() - total["kept"],
        "reasons": {code: total[code] for code in REASONS if total[code]},
        "files": {name: dict(sorted(counts.items())) for name, counts in per_file.items()},
        "languages": {name: dict(sorted(counts.items())) for name, counts in sorted(per_lang.items())},
    }


def _names(files: list[Path]) -> list[str]:
    """A name for the output of each file; a second file of the same name gets a number."""
    found: list[str] = []
    for file in files:
        stem = file.name.split(".")[0]
        name, number = f"{stem}.jsonl", 1
        while name in found:
            number += 1
            name = f"{stem}-{number}.jsonl"
        found.append(name)
    return found


def _open(stack: ExitStack, path: Path) -> TextIO:
    return stack.enter_context(stack.enter_context(atomic_path(path)).open("w", encoding="utf-8", newline="\n"))


def _line(handle: TextIO, row: Any) -> None:
    handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def _say(report: dict[str, Any]) -> None:
    say(
        tr(f"{report['kept']:,} of {report['read']:,} rows kept", f"{report['read']:,} 条中保留 {report['kept']:,} 条")
    )
    for code, count in sorted(report["reasons"].items(), key=lambda pair: -pair[1]):
        say(f"  {code}: {count:,} ({tr(*REASONS[code])})")
