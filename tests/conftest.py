"""How test processes share the machine; fixtures of several files: chat page, corpus, kernels, stages."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from luhuo.browse.worker import Searcher
    from tests.page_server import PageServer


def take_cores() -> None:
    """Give each of several test processes cores of its own, and as many threads as it has cores.

    Stages compute with one thread a core they may use; so do the programs that tests start.
    """
    workers, name = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    cores = 2
    if workers > 1 and hasattr(os, "sched_setaffinity"):
        there = sorted(os.sched_getaffinity(0))
        mine = there[int(name.removeprefix("gw")) % len(there) :: workers]
        os.sched_setaffinity(0, mine)
        cores = len(mine)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))


take_cores()
os.environ["LUHUO_LANG"] = "en"
# Processes of a run are copies of one that has imported torch: importing it anew takes each four seconds.
multiprocessing.set_forkserver_preload(["pytest", "tests.fault_runs", "tests.parallel_cases", "tests.command_line"])

gc.disable()  # until all tests are collected: what is imported stays


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later search for garbage: it is most of what there is."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    from tests.page_browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A server of the chat page whose answers the test says."""
    from tests.page_server import PageServer

    with PageServer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def page(browser: Browser, server: PageServer) -> Iterator[Page]:
    """The chat page, opened anew."""
    from tests.page_browser import watched

    with watched(browser, server.address) as page:
        yield page


@pytest.fixture(scope="module")
def module_page(browser: Browser) -> Iterator[Page]:
    """One opened chat page for all tests of a file that only call its modules."""
    from tests.page_browser import watched
    from tests.page_server import PageServer

    with PageServer() as server, watched(browser, server.address) as page:
        yield page
        server.shutdown()


@pytest.fixture
def small_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the stages `write`, `join` and `fail` (tests/small_stages.py) to the list."""
    from luhuo import stages

    for name, cls in (("write", "WriteStage"), ("join", "JoinStage"), ("fail", "FailStage")):
        monkeypatch.setitem(stages.STAGES, name, stages.Entry(f"tests.small_stages:{cls}", name, name))


@pytest.fixture
def recipe_file(tmp_path: Path):
    """Write a recipe text to a file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def browse_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that the tests of one file have to themselves."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUHUO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def clean_corpus(browse_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filter artifact with its ancestors beside it; paragraphs that repeat were cut."""
    from tests.corpus_view_cases import make_corpus, village_with_notices

    return make_corpus(tmp_path_factory.mktemp("browse"), documents=village_with_notices())


@pytest.fixture(scope="module")
def searcher(clean_corpus: Path) -> Iterator[Searcher]:
    """The process that searches the corpus."""
    from luhuo.browse.worker import Searcher

    with Searcher(clean_corpus) as held:
        yield held


@pytest.fixture(params=["compiled", "plain"])
def low_bit_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Products of packed matrices by the compiled kernels, and as on a machine without a compiler."""
    from luhuo.kernels import low_bit
    from luhuo.kernels.native import library

    if request.param == "plain":
        monkeypatch.setattr(low_bit, "library", lambda: None)
    elif library() is None:
        pytest.skip("no C++ compiler here")
    return request.param
