"""The annotate stage at work: units of raw text to records with signals.

What a record is given depends on its text and its source alone, so that batches, workers and order change nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json, write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.memory import keep_freed_memory
from luhuo.corpus import languages, privacy, signals
from luhuo.corpus.decontaminate import Benchmarks, Fields
from luhuo.corpus.documents import writer
from luhuo.corpus.factory import plan, records
from luhuo.corpus.factory.executors import Job, Outcome, Unit, run
from luhuo.corpus.factory.reading import Read, read_unit
from luhuo.corpus.factory.watch import Watch
from luhuo.corpus.mojibake import repair
from luhuo.corpus.normalise import normalise
from luhuo.corpus.pieces import pieces
from luhuo.corpus.signals.models import opened
from luhuo.corpus.sources import LANGUAGE_CODE, name_source
from luhuo.files.records import Broken, broken
from luhuo.files.references import resolve
from luhuo.files.remote import is_data_set

if TYPE_CHECKING:
    from luhuo.corpus.factory.stages import AnnotateStage

BATCH_CHARS = 1_000_000
"""Characters that are measured together."""
INDEX = ".benchmarks.npz"
TARGET = "luhuo.corpus.factory.annotate:annotate_unit"
STEPS = ("read", "normalise", "language", "signals", "privacy", "benchmarks", "write")


def annotate(stage: AnnotateStage, out: Workspace) -> None:
    """Write `records/`, `signals/`, `quarantine/`, `units.json`, `report.json` and `steps.log` (processor time).

    Raises `LuhuoError` if a source gives nothing.
    """
    resolved = [None if is_data_set(source.path) else resolve(source.path) for source in stage.sources]
    units = plan.plan(stage.sources, resolved, round(stage.unit_mb * 1e6))
    if stage.benchmarks:
        _index(stage).save(out.path / INDEX)
    told = run(
        Job(TARGET, stage.model_dump(mode="json")),
        units,
        out.path,
        title="annotate",
        executor=stage.executor,
        workers=stage.workers,
        record_s=stage.record_s,
    )
    named = [
        {"name": unit.name, "source": stage.sources[unit.payload["source"]].name}
        | {name: row[name] for name in ("records", "bytes")}
        for unit, row in zip(units, told, strict=True)
    ]
    write_json(out.path / records.UNITS, {"units": named})
    report = _report([source.name for source in stage.sources], units, told)
    write_json(out.path / "report.json", {"sources": report})
    write_text(out.path / "steps.log", _steps(told))
    for source, found in zip(stage.sources, resolved, strict=True):
        _require_something(source.path, source.name, report[source.name])
        name_source(source.name, source.licence, found or resolve(source.path), out)
    out.results["records"] = sum(row["records"] for row in told)
    out.results["bytes"] = sum(row["bytes"] for row in told)
    out.results["quarantined"] = sum(sum(row["quarantined"].values()) for row in told)


def _index(stage: AnnotateStage) -> Benchmarks:
    """The index of all benchmarks."""
    chosen = {name: one.model_dump(exclude={"path"}) for name, one in stage.benchmarks.items()}
    fields = {
        name: Fields(**{part: tuple(names) for part, names in parts.items() if names is not None})
        for name, parts in chosen.items()
    }
    places = {name: resolve(one.path).path for name, one in stage.benchmarks.items()}
    return Benchmarks.load(places, fields, stage.leaks)


@lru_cache(maxsize=1)
def _opened(index: Path) -> Benchmarks:
    return Benchmarks.open(index)


def annotate_unit(settings: dict[str, Any], unit: Unit, folder: Path, watch: Watch) -> Outcome:
    """Write the records, signals and quarantine of one unit."""
    keep_freed_memory()  # every batch makes and frees the same large arrays
    work = _Unit(settings, unit, _opened(folder / INDEX) if settings["benchmarks"] else None)
    names = [f"records/{unit.name}.jsonl.zst", f"signals/{unit.name}.jsonl.zst", f"quarantine/{unit.name}.jsonl"]
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(folder / name)) for name in names]
        two = [stack.enter_context(writer(path, level=records.LEVEL)) for path in paths[:2]]
        bad = stack.enter_context(paths[2].open("w", encoding="utf-8"))
        for batch in work.batches(watch):
            work.write(work.annotated(batch), two[0], two[1], bad)
    return Outcome(names, work.told())


def measured_unit(settings: dict[str, Any], unit: Unit, folder: Path, most: int) -> tuple[dict[str, Any], bool]:
    """Annotate a unit until so many bytes of text are done, for an estimate: its summary, and whether that was all.

    Benchmarks are not looked for.
    """
    work = _Unit(settings, unit, None)
    with (
        (folder / "records").open("w") as texts,
        (folder / "signals").open("w") as values,
        (folder / "bad").open("w") as bad,
    ):
        for batch in work.batches(Watch(folder, unit.name)):
            work.write(work.annotated(batch), texts, values, bad)
            if work.counts["bytes"] >= most:
                return work.told(), False
    return work.told(), True


class _Unit:
    """One unit on its way; counts what becomes of its records."""

    def __init__(self, settings: dict[str, Any], unit: Unit, benchmarks: Benchmarks | None) -> None:
        self.settings, self.unit, self.benchmarks = settings, unit, benchmarks
        self.source: dict[str, Any] = settings["sources"][unit.payload["source"]]
        self.root = Path(unit.payload["root"])
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.langs: Counter[str] = Counter()
        self._bad: list[Broken] = []

    def told(self) -> dict[str, Any]:
        """The summary of the unit."""
        return {
            "records": self.counts["records"],
            "bytes": self.counts["bytes"],
            "unsampled": self.counts["unsampled"],
            "repaired": self.counts["repaired"],
            "converted": self.counts["converted"],
            "langs": dict(sorted(self.langs.items())),
            "quarantined": dict(sorted(self.quarantined.items())),
            "seconds": {step: round(seconds, 4) for step, seconds in self.seconds.items()},
        }

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start

    def batches(self, watch: Watch) -> Iterator[list[Read]]:
        """What the readers yield, in batches; a single record each when the worker is careful."""
        held: list[Read] = []
        chars = 0
        rows = read_unit(self.source, self.unit.payload["parts"], watch)
        watch.at(0)  # a reader that never ends is found by the time since then
        while True:
            with self._step("read"):
                row = next(rows, None)
            if row is None:
                break
            held.append(row)
            chars += 0 if isinstance(row.content, Broken) else len(row.content.text)
            if watch.careful or chars >= BATCH_CHARS:
                yield from self._begun(held, watch)
                held, chars = [], 0
        yield from self._begun(held, watch)

    def _begun(self, held: list[Read], watch: Watch) -> Iterator[list[Read]]:
        if not held:
            return
        mark = held[0].processing
        if mark in watch.skips:
            self._bad.append(self._placed(held[0], "worker_ended"))
            return
        watch.at(mark)
        yield held

    def annotated(self, batch: list[Read]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(record, signals) of what can be read."""
        rows = []
        with self._step("normalise"):
            for read in batch:
                rows += self._normalised(read)
        with self._step("language"):
            self._identify(rows)
        rows = self._identified(rows)
        texts = [row["text"] for row in rows]
        found: list[dict[str, Any]] = [
            {"id": row["id"], "lang": row["lang"], "script": row["script"], "chars": len(row["text"])} for row in rows
        ]
        with self._step("signals"):
            for lang in sorted({row["lang"] for row in rows}):
                places = [place for place, row in enumerate(rows) if row["lang"] == lang]
                some = [texts[place] for place in places]
                measured = signals.measure(some, lang, self.settings["signals"], opened(self.settings["models"]))
                for place, values in zip(places, measured, strict=True):
                    found[place].update(values)
        with self._step("privacy"):
            if self.settings["privacy"]:
                for row, values in zip(rows, found, strict=True):
                    kinds = Counter(span.kind for span in privacy.find(row["text"], row["lang"]))
                    values.update({f"privacy.{kind}": count for kind, count in sorted(kinds.items())})
        with self._step("benchmarks"):
            if self.benchmarks is not None:
                for values, hits in zip(found, self.benchmarks.hits(texts), strict=True):
                    values.update({f"benchmark.{name}": items for name, items in hits.items()})
        return list(zip(rows, found, strict=True))

    def _normalised(self, read: Read) -> list[dict[str, Any]]:
        """The text (in parts, if it is long) as rows without id and language; none if there is nothing to keep."""
        if isinstance(read.content, Broken):
            self._bad.append(read.content)
            return []
        record = read.content
        repaired = repair(record.text)  # before control characters go: they are half of the evidence
        text = normalise(repaired.text)
        self.counts["repaired"] += bool(repaired.how)
        origin: dict[str, Any] = {"file": self._inside(record.file), "line": record.line}
        own = record.fields.get("lang")
        rows = []
        parts = list(pieces(text, self.source["max_chars"])) if len(text) > self.source["max_chars"] else [text]
        for number, part in enumerate(parts):
            if not part:
                self._bad.append(broken(record.file, record.line, "empty"))
                continue
            row: dict[str, Any] = {"id": "", "text": part, "lang": "", "script": ""}
            row |= {"source": self.source["name"], "licence": self.source["licence"]}
            row["origin"] = origin | ({"part": number} if len(parts) > 1 else {})
            if repaired.how:
                row["repaired"] = repaired.how
            if isinstance(own, str) and LANGUAGE_CODE.fullmatch(own):
                row["lang"] = own
            rows.append(row)
        return rows

    def _identify(self, rows: Sequence[dict[str, Any]]) -> None:
        """Language and script of each row; the source's or the record's own word on the language counts."""
        for row, guess in zip(rows, languages.identify([row["text"] for row in rows]), strict=True):
            given = self.source["lang"] if self.source["lang"] != "auto" else row["lang"]
            row["lang"], row["script"] = given or guess.lang, guess.script
            wanted = self.settings["script"]
            if row["lang"] == "zh" and wanted != "keep" and guess.script != wanted:
                row["text"] = languages.convert(row["text"], to=wanted)
                row["converted_from"], row["script"] = guess.script, wanted
                self.counts["converted"] += 1

    def _identified(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows with their id; those outside the sample are left out."""
        kept = []
        for row in rows:
            sha = sha256(f"{self.source['name']}\0{row['text']}".encode()).digest()[:16]
            row["id"] = sha.hex()
            if int.from_bytes(sha[:4], "big") < self.source["share"] * 2**32:
                kept.append(row)
            else:
                self.counts["unsampled"] += 1
        return kept

    def write(
        self, rows: list[tuple[dict[str, Any], dict[str, Any]]], texts: TextIO, values: TextIO, bad: TextIO
    ) -> None:
        """Write a batch and what could not be read before it."""
        with self._step("write"):
            for record, found in rows:
                texts.write(records.to_line(record))
                values.write(records.to_line(found))
                self.counts["records"] += 1
                self.counts["bytes"] += len(record["text"].encode())
                self.langs[record["lang"]] += 1
            for row in self._bad:
                self.quarantined[row.reason] += 1
                place = {"source": self.source["name"], "file": self._inside(row.file), "line": row.line}
                bad.write(records.to_line(place | {"reason": row.reason, "excerpt": row.excerpt}))
            self._bad.clear()

    def _placed(self, read: Read, reason: str) -> Broken:
        content = read.content
        return broken(content.file, content.line, reason, "" if isinstance(content, Broken) else content.text)

    def _inside(self, file: str) -> str:
        """The path inside the source, so that the result is the same wherever the data lies."""
        root = self.root.as_posix().rstrip("/") + "/"
        return file.removeprefix(root)


def _report(names: Sequence[str], units: Sequence[Unit], told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What became of each source."""
    report: dict[str, Any] = {}
    for number, name in enumerate(names):
        rows = [row for unit, row in zip(units, told, strict=True) if unit.payload["source"] == number]
        langs: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        for row in rows:
            langs.update(row["langs"])
            bad.update(row["quarantined"])
        sums = {
            key: sum(row[key] for row in rows) for key in ("records", "bytes", "unsampled", "repaired", "converted")
        }
        report[name] = sums | {"languages": dict(sorted(langs.items())), "quarantined": dict(sorted(bad.items()))}
    return report


def _steps(told: Sequence[dict[str, Any]]) -> str:
    """Processor seconds and rate of each step, as lines."""
    megabytes = sum(row["bytes"] for row in told) / 1e6
    lines = []
    for step in STEPS:
        seconds = sum(row["seconds"][step] for row in told)
        lines.append(f"{step:<11} {seconds:9.2f} s {megabytes / seconds if seconds else 0:9.1f} MB/s of one core")
    return "\n".join([f"{megabytes:.1f} MB of text", *lines]) + "\n"


def _require_something(path: str, name: str, row: dict[str, Any]) -> None:
    if row["records"]:
        return
    raise LuhuoError(
        tr(f"The source “{name}” gives no text.", f"来源“{name}”没有给出任何文本。"),
        expected=tr("at least one document", "至少一篇文档"),
        found=tr(
            f"{row['unsampled']} left out by `share`, not readable: {row['quarantined']}",
            f"按 share 略去 {row['unsampled']} 篇，无法读取：{row['quarantined']}",
        ),
        where=path,
        fix=tr("Check text_field and encoding.", "检查 text_field 和 encoding。"),
    )
