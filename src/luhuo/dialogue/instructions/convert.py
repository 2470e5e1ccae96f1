"""The stage `instructions` at work: each labelled row in some of the wordings of its task (Wei et al. 2021, FLAN;
Longpre et al. 2023, who find that inverted tasks and many wordings help).

Which wordings a row gets, and in which order its options stand, depends on the seed and the row alone.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.digest import value_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say, track
from luhuo.core.seeds import derive_seed
from luhuo.corpus.normalise import language
from luhuo.dialogue.instructions.stages import InstructionsStage
from luhuo.dialogue.instructions.wordings import LETTERS, Wordings, load
from luhuo.files.references import resolve
from luhuo.files.structured import Row, read_rows

MOST_LABELS = 50
"""Different labels; with more of them, the field is none of labels."""


class Unusable(Exception):
    """Why a row becomes no instruction: a code."""


def convert(stage: InstructionsStage, out: Workspace) -> None:
    """See `InstructionsStage`. Raises `LuhuoError` for templates that cannot be used, and where no row can."""
    wordings = load(stage.templates)
    files = [resolve(path).path for path in stage.data]
    labels = _labels(stage, wordings, files)
    counts: dict[str, Counter[str]] = {"rows": Counter(), "templates": Counter(), "languages": Counter()}
    with (
        atomic_path(out.path / "instructions.jsonl") as good,
        atomic_path(out.path / "dropped.jsonl") as bad,
        good.open("w", encoding="utf-8", newline="\n") as kept,
        bad.open("w", encoding="utf-8", newline="\n") as dropped,
    ):
        for file in files:
            for line, value in track(_values(file), file.name, unit=tr("rows", "行")):
                counts["rows"]["read"] += 1
                try:
                    made = list(_made(stage, wordings, labels, value))
                except Unusable as reason:
                    counts["rows"][str(reason)] += 1
                    _line(dropped, {"file": file.name, "line": line, "reason": str(reason), "row": value})
                    continue
                counts["rows"]["used"] += 1
                for name, lang, asked, answer in made:
                    counts["templates"][name] += 1
                    counts["languages"][lang] += 1
                    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
                    _line(kept, {"messages": turns, "template": name, "source": f"{file.name}:{line}"})
    if not counts["rows"]["used"]:
        raise LuhuoError(
            tr("No row could be made an instruction.", "没有一行可以转换为指令。"),
            expected=", ".join(wordings.fields),
            found=", ".join(f"{code}: {count}" for code, count in counts["rows"].items()),
            fix=tr("Name the fields of the data with `fields`.", "请用 fields 指定数据中的字段名。"),
        )
    report = {name: dict(sorted(found.items())) for name, found in counts.items()} | {"labels": labels}
    write_json(out.path / "report.json", report)
    out.results |= {"instructions": counts["templates"].total(), "rows.used": counts["rows"]["used"]}
    say(tr(f"{counts['templates'].total():,} instructions", f"共 {counts['templates'].total():,} 条指令"))


def _values(file: Path) -> Iterator[tuple[int, Any]]:
    for row in read_rows(file):
        yield (row.line, row.value if isinstance(row, Row) else row.excerpt)


def _made(
    stage: InstructionsStage, wordings: Wordings, labels: list[str], row: Any
) -> Iterator[tuple[str, str, str, str]]:
    """(template, language, question, answer) of each instruction that a row becomes. Raises `Unusable`."""
    given = _fields(stage, wordings, row)
    rng = random.Random(derive_seed(stage.seed, "instructions", value_digest(given)))
    lang = stage.lang
    if lang == "auto":
        lang = language(" ".join(str(v) for name, v in given.items() if name not in ("chinese", "label")))
        lang = rng.choice(("en", "zh")) if {"english", "chinese"} <= given.keys() else lang
    values = _values_of(given, labels, rng)
    straight, turned = (wordings.of(lang, inverted=inverted) for inverted in (False, True))
    if not straight:
        raise Unusable(f"no_wording_{lang}")
    chosen = rng.sample(straight, min(stage.wordings, len(straight)))
    if turned and rng.random() < stage.inverted:
        chosen.append(rng.choice(turned))
    for wording in chosen:
        yield wording.name, lang, *wording.filled(values)


def _fields(stage: InstructionsStage, wordings: Wordings, row: Any) -> dict[str, Any]:
    """The row's fields under the templates' names. Raises `Unusable`."""
    if not isinstance(row, Mapping):
        raise Unusable("unreadable")
    names = {str(name): str(name) for name in row} | stage.fields
    found = {name: value for name, place in names.items() if (value := _deep(row, place)) not in (None, "")}
    for name in wordings.fields:
        if name not in found or (isinstance(found[name], str) and not found[name].strip()):
            raise Unusable(f"missing_{name}")
    if "label" in wordings.fields:
        label = str(found["label"])
        if stage.labels and label not in stage.labels:
            raise Unusable("unknown_label")
        found["label"] = stage.labels.get(label, label)
    return found


def _values_of(given: dict[str, Any], labels: list[str], rng: random.Random) -> dict[str, Any]:
    """What a template may name: the fields, the labels in a drawn order, the right choice as text and letter."""
    values = dict(given)
    if labels:
        options = rng.sample(labels, len(labels))
        values |= {"options": options, "others": [one for one in labels if one != given.get("label")]}
    choices = values.get("choices")
    if choices is not None:
        texts = choices.get("text") if isinstance(choices, Mapping) else choices
        if not isinstance(texts, list) or not 2 <= len(texts) <= len(LETTERS):
            raise Unusable("no_choices")
        texts = [str(text) for text in texts]
        place = _right(values["answer"], texts)
        values |= {"choices": texts, "answer": texts[place], "letter": LETTERS[place]}
    return values


def _right(answer: Any, choices: list[str]) -> int:
    """The place of the right choice, given as its text, its letter, or its number from 0. Raises `Unusable`."""
    text = str(answer).strip()
    if text in choices:
        return choices.index(text)
    place = LETTERS.index(text.upper()) if text.upper() in LETTERS else int(text) if text.isdigit() else -1
    if not 0 <= place < len(choices):
        raise Unusable("unknown_answer")
    return place


def _labels(stage: InstructionsStage, wordings: Wordings, files: list[Path]) -> list[str]:
    """All labels in words, sorted: those configured, or those that the data has. Raises `LuhuoError` for too many."""
    if "label" not in wordings.fields:
        return []
    found = set(stage.labels.values())
    if not found:
        place = stage.fields.get("label", "label")
        for file in files:
            for _, value in _values(file):
                label = _deep(value, place) if isinstance(value, Mapping) else None
                if label not in (None, "") and len(found) <= MOST_LABELS:
                    found.add(str(label))
    if len(found) > MOST_LABELS:
        raise LuhuoError(
            tr("There are too many labels for a choice.", "标签过多，无法作为选项。"),
            expected=f"<= {MOST_LABELS}",
            found=", ".join(sorted(found)[:5]) + ", …",
            fix=tr("Use the templates `qa`, or name another field.", "改用 qa 模板，或指定其他字段。"),
        )
    return sorted(found)


def _deep(row: Mapping[str, Any], place: str) -> Any:
    found: Any = row
    for part in [place] if place in row else place.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _line(handle: TextIO, row: Any) -> None:
    handle.write(json.dumps(row, ensure_ascii=False) + "\n")
