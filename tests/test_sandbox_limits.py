"""The sandbox's limits: bombs of every kind are put out, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from luhuo import sandbox
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.sandbox import Limits, Outcome
from luhuo.sandbox.runner import launch, outcome, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

SMALL = Limits(seconds=5, cpu_seconds=2, memory=96 << 20, processes=8, output=20_000, disk=4 << 20, files=50)
MODES = {"namespaces": (), "no namespaces": ("namespaces",)}
both_modes = pytest.mark.parametrize("mode", MODES)


def run(code: str, mode: str = "namespaces", limits: Limits = SMALL, **options: object) -> Outcome:
    return outcome(launch(request(code, limits=limits, without=MODES[mode], **options)))  # type: ignore[arg-type]


@both_modes
def test_a_program_reads_its_input_and_says_something(mode: str) -> None:
    done = run("name = input(); print('你好，' + name)", mode, stdin="世界\n")
    assert (done.status, done.exit_code, done.stdout, done.stderr) == ("ok", 0, "你好，世界\n", "")
    assert done.seconds > 0 and done.memory > 1 << 20


@both_modes
def test_files_are_there_and_the_folder_can_be_written(mode: str) -> None:
    code = """
import pathlib, tempfile, helper
print(helper.double(21), pathlib.Path('data/x.bin').read_bytes())
with tempfile.NamedTemporaryFile('w+') as file:
    file.write('written'); file.seek(0); print(file.read())
pathlib.Path('data/new').write_text('x'); print(sorted(p.name for p in pathlib.Path('data').iterdir()))
"""
    files = {"helper.py": "def double(x): return 2 * x", "data/x.bin": b"\0\1"}
    done = run(code, mode, files=files)
    assert done.stdout == "42 b'\\x00\\x01'\nwritten\n['new', 'x.bin']\n", done.stderr


def test_files_outside_of_its_folder_are_refused() -> None:
    for name in ("/etc/x", "../x", "a/../../x", ""):
        with pytest.raises(LuhuoError, match="must lie in its folder"):
            sandbox.run("", files={name: ""})


@both_modes
def test_an_exception_and_an_exit_code_are_errors_with_their_text(mode: str) -> None:
    done = run("import sys; sys.exit(3)", mode)
    assert (done.status, done.exit_code) == ("error", 3)
    assert run("1/0", mode).stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_fault_in_memory_is_an_error_with_its_signal() -> None:
    done = run("import ctypes; ctypes.string_at(0)")
    assert (done.status, done.exit_code) == ("error", -signal.SIGSEGV)


@both_modes
def test_sleeping_beyond_the_wall_time_ends_it(mode: str) -> None:
    done = run("import time; print('before', flush=True); time.sleep(60)", mode, Limits(seconds=0.5))
    assert (done.status, done.exit_code, done.stdout) == ("time", None, "before\n")


def test_computing_beyond_the_processor_time_ends_it_even_if_it_does_not_listen() -> None:
    code = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert run(code, limits=Limits(seconds=120, cpu_seconds=1)).status == "time"


def test_a_program_that_stops_itself_is_ended() -> None:
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", limits=Limits(seconds=0.5)).status == "time"


@both_modes
def test_memory_beyond_the_limit_is_not_given(mode: str) -> None:
    done = run("held = []\nwhile True: held.append(bytearray(1 << 20))", mode)
    assert done.status == "memory"
    assert done.memory < 2 * SMALL.memory + (128 << 20)


def test_processes_together_cannot_hold_more_memory_than_one_may() -> None:
    code = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        held = bytearray(60 << 20)
        for place in range(0, len(held), 4096): held[place] = 1
        time.sleep(60)
time.sleep(60)
"""
    assert run(code, limits=SMALL.model_copy(update={"seconds": 30})).status == "memory"


def test_shared_memory_counts() -> None:
    code = """
import mmap, time
held = [mmap.mmap(-1, 30 << 20) for _ in range(5)]
for each in held:
    for place in range(0, len(each), 4096): each[place] = 1
time.sleep(60)
"""
    assert run(code, limits=SMALL.model_copy(update={"seconds": 30})).status == "memory"


@both_modes
def test_a_fork_bomb_fizzles(mode: str) -> None:
    code = """
import os, time
made = 0
while made < 500:
    try:
        if os.fork() == 0: time.sleep(60)
        made += 1
    except OSError: break
print(made)
"""
    done = run(code, mode)
    assert done.status == "processes" or int(done.stdout) <= SMALL.processes


@both_modes
def test_endless_output_ends_it_on_every_stream(mode: str) -> None:
    for stream in (1, 2, 3):
        done = run(f"import os\nwhile True: os.write({stream}, b'x' * 1000)", mode)
        assert done.status == "output"
        assert [len(done.stdout), len(done.stderr), len(done.answers)][stream - 1] == SMALL.output


@both_modes
def test_a_file_and_many_files_cannot_fill_the_disk(mode: str) -> None:
    one = "file = open('big', 'wb')\nwhile True: file.write(b'x' * 100_000)"
    many = """
import time
for number in range(40): open(f'f{number}', 'wb').write(b'x' * 1_000_000)
time.sleep(60)
"""
    assert run(one, mode).status in ("error", "disk")
    assert run(many, mode).status in ("error", "disk")


def test_a_zip_bomb_stays_a_small_fire() -> None:
    code = """
import io, zipfile
packed = io.BytesIO()
with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
    with archive.open('bomb', 'w', force_zip64=True) as inside:
        for _ in range(200): inside.write(bytes(1 << 20))
print(len(packed.getvalue()) < 1 << 20, flush=True)
zipfile.ZipFile(packed).extractall('.')
print('extracted')
"""
    done = run(code)
    assert done.stdout == "True\n"
    assert done.status == "error" and ("No space" in done.stderr or "too large" in done.stderr)


def names_of_processes() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/comm"):
        try:
            found.append(file.read_text().strip())
        except OSError:
            continue
    return found


@both_modes
def test_nothing_that_it_started_outlives_it(mode: str) -> None:
    """Threads, children, and a grandchild that left its session and its parent."""
    name = f"lh-{os.getpid()}-{len(mode)}"
    code = f"""
import ctypes, os, threading, time
ctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(60)
        time.sleep(60)
except BlockingIOError: pass
time.sleep(0.3)
os._exit(0)
"""
    done = run(code, mode)
    assert done.status in ("ok", "error"), done
    assert name not in names_of_processes()


def test_the_same_grandchild_outlives_a_program_without_the_sandbox(tmp_path: Path) -> None:
    import subprocess

    name = f"lh-{os.getpid()}-out"
    code = f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)
if os.fork() == 0:
    os.setsid()
    child = os.fork()
    if child == 0:
        for stream in (1, 2): os.dup2(os.open('/dev/null', os.O_RDWR), stream)
        time.sleep(60)
    print(child, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    try:
        assert name in names_of_processes()
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


@both_modes
def test_its_folder_is_removed_whatever_it_holds(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    code = f"""
import os
os.makedirs('deep/closed'); open('deep/closed/file', 'w').close()
os.symlink({str(kept)!r}, 'deep/link'); os.symlink('/', 'root'); os.mkfifo('pipe')
os.chmod('deep/closed', 0); os.chmod('deep', 0)
"""
    assert run(code, mode).status in ("ok", "error")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "x"


def test_killing_its_parent_inside_changes_nothing() -> None:
    code = "import os\ntry: os.kill(os.getppid() or 1, 9)\nexcept OSError: pass\nprint('still here')"
    assert run(code).stdout == "still here\n"


def test_ordinary_programs_work_threads_processes_and_event_loops_included() -> None:
    code = """
import asyncio, decimal, multiprocessing.pool, os, subprocess, sys, threading, random, datetime, hashlib, shutil
async def main(): await asyncio.sleep(0.01); return 'loop'
print(asyncio.run(main()))
with multiprocessing.pool.ThreadPool(2) as pool: print(pool.map(abs, [-1, -2]))
print(subprocess.run([sys.executable, '-S', '-c', 'print(1)'], capture_output=True, text=True).stdout.strip())
open('a', 'w').write('x'); shutil.copy2('a', 'b'); shutil.move('b', 'c'); print(sorted(os.listdir()))
print(datetime.datetime(2024, 5, 1).isoformat(), hashlib.sha256(b'').hexdigest()[:4], random.Random(0).random() < 1)
"""
    done = run(code, limits=Limits(seconds=60, cpu_seconds=30))
    assert done.stdout.splitlines() == [
        "loop",
        "[1, 2]",
        "1",
        "['a', 'c', 'main.py']",
        "2024-05-01T00:00:00 e3b0 True",
    ], done.stderr


def test_installed_packages_can_be_imported_where_that_is_asked_for() -> None:
    code = "import numpy; print(int(numpy.arange(5).sum()))"
    assert "ModuleNotFoundError" in run(code).stderr
    done = sandbox.run(code, packages=True, limits=Limits(seconds=60, cpu_seconds=30))
    assert done.stdout == "10\n", done.stderr


def test_runs_are_repeatable() -> None:
    code = "print(hash('x'), {'a', 'b', 'c'})"
    assert run(code).stdout == run(code).stdout


def test_without_protections_nothing_is_run_unless_the_danger_is_accepted() -> None:
    nothing = ("namespaces", "landlock", "seccomp")
    with pytest.raises(LuhuoError, match="cannot hold untrusted code") as caught:
        launch(request("print(1)", without=nothing))
    assert "network" in str(caught.value)
    done = outcome(launch(request("print(1)", without=nothing, weak=True)))
    assert done.stdout == "1\n"
    assert {"files", "network", "processes", "kernel"} <= set(done.missing)


@pytest.mark.parametrize("without", [("landlock",), ("namespaces",), ("landlock", "seccomp")])
def test_each_needed_protection_is_given_in_more_than_one_way(without: tuple[str, ...]) -> None:
    assert outcome(launch(request("print(1)", without=without))).stdout == "1\n"


def test_what_is_missing_here_is_told_in_words() -> None:
    found = sandbox.protections()
    assert found.enough
    assert set(found.missing) <= {"user", "kernel"}


@pytest.mark.parametrize("mode", MODES)
def test_a_program_that_cannot_be_started_is_a_failure_and_not_an_empty_run(mode: str, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("no program")
    wanted = request("print(1)", without=MODES[mode])
    wanted["command"][0] = str(broken)
    wanted["readable"].append(str(broken))
    with pytest.raises(RunFailed, match="could not be set up"):
        launch(wanted)


def test_the_code_itself_cannot_be_given_twice() -> None:
    with pytest.raises(LuhuoError, match=r"main\.py"):
        sandbox.run("print(1)", files={"main.py": "print(2)"})
