"""Work units through a function: in this process, in worker processes, or on Ray; the files that come out are equal.

A unit that is finished leaves a mark with the digests of its files. A run that was cut off verifies these and makes
only what is missing or damaged. A record that ends or blocks its process is found by going through its unit record by
record, left out, and reported.

A job crosses into other processes as JSON: a function by its name, plain settings, plain units.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from luhuo.core.atomic import write_json
from luhuo.core.device import cpu_threads
from luhuo.core.digest import file_digest
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.corpus.factory.watch import Died, Watch, place_of

Executor = Literal["inline", "process", "ray"]

MOST_SKIPS = 20
"""Records of one unit that may end their process before the run stops: so many are no accident of the data."""


@dataclass(frozen=True)
class Job:
    """A function of units: `target` is "module:function", called as function(settings, unit, folder, watch)."""

    target: str
    settings: dict[str, Any]

    def function(self) -> Callable[[dict[str, Any], Unit, Path, Watch], Outcome]:
        """The function itself."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)


@dataclass(frozen=True)
class Unit:
    """A share of the work: its name (also of its files), its size for the progress, and what the function needs."""

    name: str
    bytes: int
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a unit gave: files written below the folder, and a summary of plain values."""

    files: list[str]
    told: dict[str, Any] = field(default_factory=dict)


def run(
    job: Job,
    units: Sequence[Unit],
    folder: Path,
    *,
    title: str,
    executor: Executor = "process",
    workers: int = 0,
    record_s: float = 300,
    note: Callable[[dict[str, Any]], str] | None = None,
) -> list[dict[str, Any]]:
    """Do all units; their summaries in the order of `units`.

    folder: where files are written and marks kept (`.done/TITLE/`); with `ray` every machine must see it.
    workers: processes (0: one a core). record_s: a record that takes longer is left out (not with `inline`).
    note: what the progress says beside the rate, told each summary as it comes.
    Raises `RunFailed` when a unit fails for another reason than one of its records.
    """
    marks = folder / ".done" / title
    told = {unit.name: summary for unit in units if (summary := _finished(marks, unit, folder)) is not None}
    left = [unit for unit in units if unit.name not in told]
    total = sum(unit.bytes for unit in units)
    with Progress(title, total / 1e6, "MB") as progress:
        progress.start_from((total - sum(unit.bytes for unit in left)) / 1e6)
        for unit, outcome in _started(executor, workers, job, left, folder, record_s):
            files = {name: file_digest(folder / name) for name in outcome.files}
            write_json(marks / f"{unit.name}.json", {"files": files, "told": outcome.told}, indent=None)
            place_of(folder, unit.name).unlink(missing_ok=True)
            told[unit.name] = outcome.told
            progress.advance(unit.bytes / 1e6, note(outcome.told) if note else "")
    return [told[unit.name] for unit in units]


def _finished(marks: Path, unit: Unit, folder: Path) -> dict[str, Any] | None:
    """The summary of a unit whose files are all there and whole, or None."""
    mark = marks / f"{unit.name}.json"
    if not mark.is_file():
        return None
    found = json.loads(mark.read_text(encoding="utf-8"))
    for name, sha in found["files"].items():
        file = folder / name
        if not file.is_file() or file_digest(file) != sha:
            return None
    return found["told"]


def _started(
    executor: Executor, workers: int, job: Job, units: list[Unit], folder: Path, record_s: float
) -> Iterator[tuple[Unit, Outcome]]:
    if executor == "inline":
        work = job.function()
        return ((unit, work(job.settings, unit, folder, Watch(folder, unit.name))) for unit in units)
    if executor == "ray":
        from luhuo.corpus.factory.on_ray import remote

        return _in_threads(remote(job, folder, record_s), units, workers or 64)
    from luhuo.corpus.factory.processes import Pool

    return _with_pool(Pool(job, folder, record_s), units, workers or cpu_threads())


def _with_pool(pool: Any, units: list[Unit], workers: int) -> Iterator[tuple[Unit, Outcome]]:
    with pool:
        yield from _in_threads(pool.attempt, units, workers)


Attempt = Callable[[Unit, bool, "frozenset[int]"], Outcome]
"""Try a unit once: (unit, record by record, records to leave out). Raises `Died`."""


def _in_threads(attempt: Attempt, units: list[Unit], workers: int) -> Iterator[tuple[Unit, Outcome]]:
    """Units as they are finished; each of the threads waits for one worker."""
    finished: queue.SimpleQueue[tuple[Unit, Outcome]] = queue.SimpleQueue()
    stop = threading.Event()

    def do(unit: Unit) -> None:
        if not stop.is_set():
            finished.put((unit, _stubborn(attempt, unit)))

    with ThreadPoolExecutor(max(1, min(workers, len(units)))) as threads:
        waiting = {threads.submit(do, unit) for unit in units}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                while not finished.empty():
                    yield finished.get()
                for future in done:
                    future.result()
        finally:
            stop.set()
    while not finished.empty():
        yield finished.get()


def _stubborn(attempt: Attempt, unit: Unit) -> Outcome:
    """A unit in spite of records that end their process: once more record by record, without those that did."""
    careful, skips = False, frozenset[int]()
    while True:
        try:
            return attempt(unit, careful, skips)
        except Died as death:
            if careful:
                skips = skips | {death.record}
            hopeless = careful and death.record < 0  # nothing had begun: no record did it
            careful = True
            if hopeless or len(skips) > MOST_SKIPS:
                raise RunFailed(
                    tr("A worker process ended again and again.", "工作进程一再意外结束。"),
                    found=f"{death.why}; {len(skips)} {tr('records left out', '条记录被跳过')}",
                    where=unit.name,
                    fix=tr(
                        "Give it more memory, or fewer workers (workers=1).", "请增加内存，或减少进程数（workers=1）。"
                    ),
                ) from death


def as_plain(unit: Unit) -> dict[str, Any]:
    """A unit as JSON values."""
    return asdict(unit)


def unit_from(values: dict[str, Any]) -> Unit:
    """The unit of `as_plain`."""
    return Unit(**values)


def require_units(units: Sequence[Unit], where: str) -> None:
    """Raise `LuhuoError` if there is no work at all."""
    if not units:
        raise LuhuoError(tr("There is nothing to do.", "没有可处理的内容。"), where=where)
