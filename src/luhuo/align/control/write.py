"""The stage `control`: attributes are read from all rows, made into classes, and written into the rows as control.

Two passes over the data, so that memory does not grow with it: the first keeps what was read of each row in a hidden
file (and goes on there after a kill: rewards can be slow), the second writes.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from luhuo.align.control.reading import Classes, classes, reader
from luhuo.align.control.rows import lines
from luhuo.align.control.text import FILE
from luhuo.align.ledger import Ledger, groups
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say, track
from luhuo.core.seeds import derive_seed
from luhuo.files.readers import list_files
from luhuo.files.records import Broken
from luhuo.files.references import resolve

if TYPE_CHECKING:
    from luhuo.align.control.stages import ControlStage

READ = ".read.jsonl"
DATA = "train.jsonl"
TOGETHER = 256
"""Rows that are read at a time."""


def write_control(stage: ControlStage, out: Workspace) -> list[Path]:
    """Write `train.jsonl`, `control.json` and `quarantine.jsonl` into `out`; returns the files that were read."""
    given = [stage.data] if isinstance(stage.data, str) else stage.data
    files = [file for value in given for file in list_files(resolve(value).path)]
    ledger = Ledger(out.path / READ)
    _read(stage, files, ledger)
    if not ledger.count:
        raise LuhuoError(
            tr("There is no row with an answer.", "没有任何含回答的行。"), where=", ".join(map(str, files))
        )
    found = [classes(attribute, (row[number] for row in ledger)) for number, attribute in enumerate(stage.attributes)]
    table = _table(stage, ledger, found)
    counts = _write(stage, files, out.path, table, found)
    _describe(stage, out, table, found, counts)
    ledger.path.unlink()
    return files


def _read(stage: ControlStage, files: list[Path], ledger: Ledger) -> None:
    """Keep what each row is, from the first that is not there yet."""
    readers = [reader(attribute) for attribute in stage.attributes]
    done = ledger.count
    rows = (one.told for number, one in enumerate(lines(files, stage.plain, _nothing)) if number >= done)
    for group in groups(track(rows, tr("reading attributes", "读取属性"), unit=tr("rows", "行")), TOGETHER):
        ledger.append(zip(*(read(group) for read in readers), strict=True))


def _table(stage: ControlStage, ledger: Ledger, found: list[Classes]) -> np.ndarray:
    """The number of each row's class (rows, attributes) int16, -1 where it is unknown."""
    table = np.full((ledger.count, len(found)), -1, dtype=np.int16)
    for place, row in enumerate(ledger):
        for number, (raw, one) in enumerate(zip(row, found, strict=True)):
            name = one.of(raw)
            if name is not None:
                table[place, number] = one.names.index(name)
    if stage.shuffle:
        table = np.random.default_rng(derive_seed(stage.seed, "shuffle")).permutation(table)
    return table


def _write(
    stage: ControlStage, files: list[Path], folder: Path, table: np.ndarray, found: list[Classes]
) -> Counter[str]:
    """Write the rows, and count them."""
    counts: Counter[str] = Counter()
    with (
        atomic_path(folder / DATA) as path,
        path.open("w", encoding="utf-8") as data,
        (folder / "quarantine.jsonl").open("w", encoding="utf-8") as quarantine,
    ):

        def reject(row: Broken) -> None:
            counts["broken"] += 1
            line = {"source": row.file, "line": row.line, "reason": row.reason, "excerpt": row.excerpt}
            quarantine.write(json.dumps(line, ensure_ascii=False) + "\n")

        rows = lines(files, stage.plain, reject)
        for number, (one, places) in enumerate(zip(rows, table, strict=True)):
            known = {
                attribute.name: classes.names[place]
                for attribute, classes, place in zip(stage.attributes, found, places, strict=True)
                if place >= 0
            }
            if stage.missing == "reject" and len(known) < len(found):
                unknown = ", ".join(attribute.name for attribute in stage.attributes if attribute.name not in known)
                reject(Broken(one.place[0], one.place[1], f"unknown_attribute: {unknown}", ""))
                continue
            control = chosen(stage, known, number)
            counts["rows"] += 1
            counts["controlled"] += bool(control)
            data.write(json.dumps(one.row(control), ensure_ascii=False) + "\n")
    return counts


def chosen(stage: ControlStage, known: Mapping[str, str], number: int) -> dict[str, str]:
    """The attributes that are told of a row: all that are known but those that are dropped, by chance from (seed,
    number of the row); in the order of the configuration, or in any."""
    chance = random.Random(derive_seed(stage.seed, "drop", number))
    if chance.random() < stage.without:
        return {}
    told = [a.name for a in stage.attributes if chance.random() >= a.drop and a.name in known]
    if stage.order == "random":
        chance.shuffle(told)
    return {name: known[name] for name in told}


def _describe(
    stage: ControlStage, out: Workspace, table: np.ndarray, found: list[Classes], counts: Counter[str]
) -> None:
    """Write control.json, and tell how the rows part into classes."""
    listed = []
    for number, (attribute, one) in enumerate(zip(stage.attributes, found, strict=True)):
        rows = {name: int((table[:, number] == place).sum()) for place, name in enumerate(one.names)}
        unknown = int((table[:, number] < 0).sum())
        config = attribute.model_dump(mode="json") | ({"edges": list(one.edges)} if one.numeric else {})
        listed.append(
            {"name": attribute.name, "classes": list(one.names), "rows": rows, "unknown": unknown, "config": config}
        )
        out.results |= {f"{attribute.name}.{name}": count for name, count in rows.items()}
        out.results[f"{attribute.name}.unknown"] = unknown
        say(
            f"{attribute.name}: "
            + ", ".join(f"{name} {count:,}" for name, count in rows.items())
            + f" (? {unknown:,})"
        )
    if not counts["controlled"]:
        raise LuhuoError(
            tr("No row has any attribute: there is nothing to control.", "没有任何行具备属性：无可控制。"),
            found=", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
        )
    write_json(out.path / FILE, {"plain": stage.plain, "attributes": listed})
    out.results |= dict(counts)


def _nothing(row: Broken) -> None:
    """Rows that cannot be read are told of in the second pass."""


def described(folder: Path) -> Iterator[tuple[dict, Classes]]:
    """(configuration, classes) of each attribute of a folder. Raises `LuhuoError` where it describes none."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        for one in values["attributes"]:
            edges = tuple(one["config"].get("edges") or ())
            yield one["config"], Classes(tuple(one["classes"]), edges, bool(edges))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LuhuoError(
            tr("This folder describes no control attributes.", "该目录没有描述控制属性。"),
            expected=FILE,
            found=f"{type(error).__name__}: {error}",
            where=folder,
        ) from None
