"""Worker processes of this machine, one a thread of the caller, spoken to in lines of JSON."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.core.errors import LuhuoError
from luhuo.corpus.factory.watch import Died, Watch, place_of, read_place

if TYPE_CHECKING:
    from luhuo.corpus.factory.executors import Job, Outcome, Unit

POLL_S = 0.5
COMMAND = (sys.executable, "-c", "from luhuo.corpus.factory.processes import serve; serve()")


class Pool:
    """Processes that are started when they are needed and ended together."""

    def __init__(self, job: Job, folder: Path, record_s: float) -> None:
        self._job, self._folder, self._record_s = job, folder, record_s
        self._mine = threading.local()
        self._all: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.kill()
            process.wait()

    def attempt(self, unit: Unit, careful: bool, skips: frozenset[int]) -> Outcome:
        """One unit in the process of this thread. Raises `Died`, or the `LuhuoError` or `OSError` the work raised."""
        from luhuo.corpus.factory.executors import Outcome, as_plain

        process = self._process()
        place_of(self._folder, unit.name).unlink(missing_ok=True)
        order = {"unit": as_plain(unit), "careful": careful, "skips": sorted(skips)}
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._forget()
            raise Died(-1, "the process ended before it began") from None
        reply = json.loads(self._wait(process, unit))
        if "system" in reply:
            raise OSError(*reply["system"])
        if "error" in reply:
            raise LuhuoError(**reply["error"])
        return Outcome(reply["files"], reply["told"])

    def _wait(self, process: subprocess.Popen[str], unit: Unit) -> str:
        assert process.stdout is not None
        while True:
            ready, _, _ = select.select([process.stdout], [], [], POLL_S)
            if ready:
                line = process.stdout.readline()
                if line.endswith("\n"):
                    return line
                process.wait()
                self._forget()
                raise Died(read_place(self._folder, unit.name)[0], _how(process.returncode))
            record, began = read_place(self._folder, unit.name)
            if record >= 0 and time.time() - began > self._record_s:
                process.kill()
                process.wait()
                self._forget()
                raise Died(record, f"a record took more than {self._record_s:g} s")

    def _process(self) -> subprocess.Popen[str]:
        process = getattr(self._mine, "process", None)
        if process is None:
            places = os.pathsep.join(path for path in sys.path if path)
            environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
            )
            assert process.stdin is not None
            told = {"target": self._job.target, "settings": self._job.settings, "folder": str(self._folder)}
            process.stdin.write(json.dumps(told) + "\n")
            self._mine.process = process
            self._all.append(process)
        return process

    def _forget(self) -> None:
        self._all.remove(self._mine.process)
        self._mine.process = None


def _how(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def serve() -> None:
    """What a worker does: read orders, work, answer, until the caller is gone."""
    from luhuo.corpus.factory.executors import Job, unit_from

    threading.Thread(target=end_with_caller, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    told = json.loads(sys.stdin.readline())
    job, folder = Job(told["target"], told["settings"]), Path(told["folder"])
    work = job.function()
    for line in sys.stdin:
        order = json.loads(line)
        unit = unit_from(order["unit"])
        watch = Watch(folder, unit.name, order["careful"], frozenset(order["skips"]))
        try:
            outcome = work(job.settings, unit, folder, watch)
            reply: dict[str, Any] = {"files": outcome.files, "told": outcome.told}
        except LuhuoError as error:
            parts = {"problem": error.problem, "expected": error.expected, "found": error.found}
            texts = parts | {"where": error.where, "fix": error.fix}
            reply = {"error": {name: None if part is None else str(part) for name, part in texts.items()}}
        except OSError as error:
            reply = {"system": [error.errno, error.strerror, error.filename]}
        try:
            answers.write(json.dumps(reply) + "\n")
            answers.flush()
        except BrokenPipeError:  # the caller is gone
            os._exit(1)


def end_with_caller(caller: int) -> None:
    """End when the caller was killed: its successor does this work."""
    while os.getppid() == caller:
        time.sleep(1)
    os._exit(1)
