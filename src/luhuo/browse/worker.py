"""The search in a process of its own: an expression that never ends ends with it, and the page stays awake."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from luhuo.browse.columns import Index
from luhuo.browse.document import compare, document
from luhuo.browse.query import Query, names, search
from luhuo.core.artifact import read_manifest
from luhuo.core.errors import LuhuoError, RunFailed, from_os_error
from luhuo.core.language import tr
from luhuo.corpus.factory.processes import end_with_caller
from luhuo.report.corpus_card.family import open_corpus

PATIENCE_S = 20.0
"""Time an answer may take: most is for the columns of one part; a search gives a page after `BUDGET_S`."""
COMMAND = (sys.executable, "-c", "from luhuo.browse.worker import serve; serve()")


class Searcher:
    """Asks a process about a corpus, one question after another, from any thread.

    Raises `LuhuoError` if there is no corpus in `folder`. Use as a context manager.
    """

    def __init__(self, folder: Path, patience_s: float = PATIENCE_S) -> None:
        open_corpus(folder)
        self.folder, self.patience_s = folder, patience_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def about(self) -> dict[str, Any]:
        """The corpus: its name, its stages, and what filters may name."""
        return self._ask({"do": "about"})

    def search(self, query: Query, start: tuple[int, int] = (0, 0), limit: int = 30) -> dict[str, Any]:
        """A page of what fits, as `query.Page` in plain values."""
        return self._ask({"do": "search", "query": query.model_dump(), "start": start, "limit": limit})

    def document(self, part: int, line: int) -> dict[str, Any]:
        """Everything known of a document."""
        return self._ask({"do": "document", "part": part, "line": line})

    def compare(self, one: tuple[int, int], other: tuple[int, int]) -> dict[str, Any]:
        """Two documents (part, line) with their differences marked."""
        return self._ask({"do": "compare", "one": one, "other": other})

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], self.patience_s)
                line = process.stdout.readline() if ready else ""
            except BrokenPipeError:
                ready, line = [process.stdout], ""
            if not line.endswith("\n"):
                self._end()
                raise _ended() if ready else _too_long(order, self.patience_s)
        reply = json.loads(line)
        if "error" in reply:
            raise LuhuoError(**reply["error"])
        return reply["told"]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            places = os.pathsep.join(path for path in sys.path if path)
            environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                COMMAND, stdin=pipe, stdout=pipe, text=True, encoding="utf-8", env=environment
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(str(self.folder.absolute())) + "\n")
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _ended() -> LuhuoError:
    return RunFailed(
        tr("The process that searches has ended.", "搜索进程意外结束。"),
        fix=tr("Ask again; where it was said why, put that right.", "请重试；若上方说明了原因，请先解决。"),
    )


def _too_long(order: dict[str, Any], seconds: float) -> LuhuoError:
    regex = order["do"] == "search" and order["query"]["regex"]
    return LuhuoError(
        tr(f"There was no answer within {seconds:g} s.", f"{seconds:g} 秒内没有结果。"),
        where=order["query"]["text"] if regex else None,
        fix=tr("Write a simpler expression, without repeats inside repeats.", "请改用更简单的表达式，避免嵌套重复。")
        if regex
        else tr("Ask again.", "请重试。"),
    )


def serve() -> None:
    """What the process does: read questions, answer, until the caller is gone."""
    threading.Thread(target=end_with_caller, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    index: Index | None = None
    folder = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        try:
            index = index or Index(open_corpus(folder))
            reply: dict[str, Any] = {"told": _answer(index, json.loads(line))}
        except LuhuoError as error:
            reply = {"error": _words(error)}
        except OSError as error:
            known = from_os_error(error)
            if known is None:
                raise
            reply = {"error": _words(known)}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def _words(error: LuhuoError) -> dict[str, str | None]:
    """An error as what it is made of again on the other side."""
    parts_of = {"problem": error.problem, "expected": error.expected, "found": error.found}
    texts = parts_of | {"where": error.where, "fix": error.fix}
    return {name: None if part is None else str(part) for name, part in texts.items()}


def _answer(index: Index, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] == "search":
        query = Query.parse(order["query"])
        return vars(search(index, query, (order["start"][0], order["start"][1]), order["limit"]))
    if order["do"] == "document":
        return document(index, order["part"], order["line"])
    if order["do"] == "compare":
        return compare(index, (order["one"][0], order["one"][1]), (order["other"][0], order["other"][1]))
    corpus = index.corpus
    return {
        "name": corpus.path.name,
        "stages": [[stage, folder.name, read_manifest(folder)["metrics"]] for stage, folder in corpus.parts],
        "parts": len(index.parts),
        "decided": corpus.filtered is not None or corpus.duplicates is not None,
        **names(index),
    }
