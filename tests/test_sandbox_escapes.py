"""What untrusted code tries, and that it is held back: with namespaces, without them, and as an ordinary user."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luhuo.sandbox.inside.guest import open_to_all
from luhuo.sandbox.runner import _START, interpreter, launch, outcome, request
from tests import sandbox_attempts as attempts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

SOURCE = Path(attempts.__file__)
LAST = ("start_with_a_huge_command_line", "make_many_files", "call_in_32_bit_mode")
"""These may end the guest."""
TOGETHER = [name for name in attempts.ATTEMPTS if name not in LAST]
ORDINARY = 54321
MODES = {"namespaces": (), "no namespaces": ("namespaces",)}
NEIGHBOUR = (
    "import ctypes, time; held = ctypes.create_string_buffer(b'the prize'); "
    "print(ctypes.addressof(held), flush=True); time.sleep(600)"
)


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """A folder that every user can reach; pytest closes its own ones to others whenever a run begins."""
    with tempfile.TemporaryDirectory(prefix="luhuo-outside-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def world(outside: Path) -> Iterator[dict[str, Any]]:
    """Prizes outside the sandbox: files that all may read, servers that answer, a process of the same user."""
    for name, mode in (("secret", 0o644), ("private", 0o600)):
        (outside / name).write_text("the prize")
        (outside / name).chmod(mode)
    mark = f"luhuo-{os.getpid()}"
    Path("/dev/shm", mark).write_text("the prize")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as file,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdout=subprocess.PIPE, text=True) as neighbour,
    ):
        file.bind(str(outside / "socket"))
        abstract.bind("\0" + mark)
        datagrams.bind("\0" + mark + "-datagrams")
        file.listen()
        abstract.listen()
        (outside / "socket").chmod(0o777)
        assert neighbour.stdout is not None
        yield {
            "secret": str(outside / "secret"),
            "private": str(outside / "private"),
            "outside": str(outside),
            "home": str(outside),
            "pid": os.getpid(),
            "port": server.getsockname()[1],
            "socket": str(outside / "socket"),
            "mark": mark,
            "neighbour": neighbour.pid,
            "address": int(neighbour.stdout.readline()),
            "first_unknown": 4,
            "box": ".",
        }
        neighbour.kill()
        Path("/dev/shm", mark).unlink(missing_ok=True)


def lines(stdout: str) -> dict[str, str]:
    """How each attempt went, the last word on each."""
    return dict(json.loads(line) for line in stdout.splitlines())


def told(names: list[str], world: dict[str, Any]) -> str:
    return json.dumps({"names": names, "world": world})


@pytest.fixture(scope="module", params=list(MODES))
def inside(request: pytest.FixtureRequest, world: dict[str, Any]) -> dict[str, str]:
    """How the attempts went in one run of the sandbox."""
    inherited = os.open(world["secret"], os.O_RDONLY)
    os.set_inheritable(inherited, True)
    os.environ["LUHUO_TEST_SECRET"] = "the prize"
    try:
        return attempted(TOGETHER, world, MODES[request.param])
    finally:
        os.close(inherited)
        del os.environ["LUHUO_TEST_SECRET"]


def attempted(names: list[str], world: dict[str, Any], without: tuple[str, ...]) -> dict[str, str]:
    wanted = request(SOURCE.read_text(encoding="utf-8"), stdin=told(names, world), without=without)
    done = outcome(launch(wanted))
    assert done.status == "ok", done.stderr
    return lines(done.stdout)


@pytest.mark.parametrize("name", TOGETHER)
def test_an_attempt_is_held_back(inside: dict[str, str], name: str) -> None:
    assert inside[name].startswith("contained"), inside[name]


def outside_too() -> list[str]:
    """The attempts that can be made without the sandbox, harmlessly and with success. A signal to the neighbour is
    the last of them, because it is heard."""
    never = {*attempts.NOT_HARMLESS, *attempts.DEPENDS, *(attempts.NEEDS_RIGHTS if os.getuid() else ())}
    return sorted((name for name in TOGETHER if name not in never), key=lambda name: name == "signal_a_neighbour")


@pytest.mark.parametrize("name", outside_too())
def test_the_same_attempt_succeeds_without_the_sandbox(world: dict[str, Any], tmp_path: Path, name: str) -> None:
    inherited = os.open(world["secret"], os.O_RDONLY)
    done = subprocess.run(
        [interpreter(), "-I", "-S", str(SOURCE)],
        input=told([name], world | {"box": world["outside"], "first_unknown": inherited}),
        env={"LUHUO_TEST_SECRET": "the prize"},
        cwd=tmp_path,
        pass_fds=(inherited,),
        capture_output=True,
        text=True,
        timeout=60,
    )
    os.close(inherited)
    assert lines(done.stdout)[name].startswith("ESCAPED"), done.stdout + done.stderr


def open_interpreter() -> str | None:
    """An interpreter that every user can run: this one, or the system's."""
    candidates = [interpreter(), *map(os.path.realpath, ("/usr/bin/python3", "/usr/local/bin/python3"))]
    return next((path for path in candidates if Path(path).exists() and open_to_all(path)), None)


@pytest.mark.skipif(os.getuid() != 0, reason="the user is an ordinary one: all other tests show it")
@pytest.mark.parametrize("mode", MODES)
def test_the_attempts_of_an_ordinary_users_guest_are_held_back(world: dict[str, Any], mode: str) -> None:
    python = open_interpreter()
    rooms = Path(attempts.__file__).resolve().parents[1] / "src/luhuo/sandbox"
    if python is None or not open_to_all(str(rooms)):
        pytest.skip("an ordinary user can run no interpreter here, or not read this package")
    place = Path(world["outside"], f"place-{len(MODES[mode])}")
    (place / "box").mkdir(parents=True)
    for folder in (place, place / "box"):
        os.chown(folder, ORDINARY, ORDINARY)
    wanted = request(SOURCE.read_text(encoding="utf-8"), stdin=told(TOGETHER, world), without=MODES[mode])
    wanted["command"][0] = python
    wanted |= {"place": str(place), "readable": [*wanted["readable"], python]}
    wanted["readable"] = [path for path in wanted["readable"] if open_to_all(str(Path(path).parent))]
    done = subprocess.run(
        [python, "-I", "-S", "-c", _START, str(rooms)],
        input=json.dumps(wanted),
        user=ORDINARY,
        group=ORDINARY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=120,
    )
    report = json.loads(done.stdout)
    if "PermissionError" in report.get("failed", ""):
        pytest.skip(f"no namespaces for ordinary users here: {report['failed']}")
    assert report["missing"] == []
    went = lines(report["stdout"])
    assert {name: how for name, how in went.items() if not how.startswith("contained")} == {}
    assert list(went) == TOGETHER


@pytest.mark.parametrize("mode", MODES)
def test_calls_in_32_bit_mode_end_the_guest(world: dict[str, Any], mode: str) -> None:
    if not attempts.X86:
        pytest.skip("the attempt is written for x86_64")
    wanted = request(SOURCE.read_text(), stdin=told(["call_in_32_bit_mode"], world), without=MODES[mode])
    done = outcome(launch(wanted))
    assert done.exit_code in (-31, -11)  # bad system call; where the kernel has no such mode at all, a fault
    assert lines(done.stdout) == {"call_in_32_bit_mode": "tried"}


@pytest.mark.parametrize("mode", MODES)
def test_many_files_and_a_huge_command_line_are_refused(world: dict[str, Any], mode: str) -> None:
    names = ["start_with_a_huge_command_line", "make_many_files"]
    wanted = request(SOURCE.read_text(), stdin=told(names, world), without=MODES[mode])
    done = outcome(launch(wanted))
    went = lines(done.stdout)
    assert went["start_with_a_huge_command_line"].startswith("contained")
    assert done.status == "disk" or went["make_many_files"].startswith("contained")


def test_every_listed_exception_names_an_attempt_and_there_are_forty() -> None:
    listed = {*attempts.NOT_HARMLESS, *attempts.NEEDS_RIGHTS, *attempts.DEPENDS}
    assert listed <= set(attempts.ATTEMPTS)
    assert len(attempts.ATTEMPTS) >= 40
    assert ctypes.sizeof(ctypes.c_void_p) == 8
