"""Running untrusted Python code in a process of its own, behind the protections that the kernel gives."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.sandbox.limits import Limits, Outcome, Status
from luhuo.sandbox.protections import refused

MAIN = "main.py"
"""The name of the guest's program in its folder."""

SYSTEM = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/lib32", "/nix/store", "/gnu/store")
SYSTEM += ("/etc/ld.so.cache", "/usr/share/zoneinfo")
"""What a Python interpreter reads besides its own library, where it exists."""

GRACE_S = 20.0
"""Seconds beyond the limit after which the launcher itself is given up: it ends guests in time."""

_START = "import sys; sys.path.insert(0, sys.argv[1]); from inside.launcher import main; main()"


def run(
    code: str,
    *,
    stdin: str = "",
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
    weak: bool = False,
) -> Outcome:
    """Run Python code that nobody trusts, with `files` in its folder; never raises for what the code does.

    It has no network, no environment, no files but the interpreter's and its own, and ends with all that it started.
    `packages`: the packages installed here can be imported. `weak`: run it also where a protection is missing
    (`Outcome.missing`). Raises `LuhuoError` where this machine has no sandbox, or not enough of one.
    """
    return outcome(launch(request(code, stdin=stdin, files=files, limits=limits, packages=packages, weak=weak)))


def request(
    code: str,
    *,
    stdin: str = "",
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
    weak: bool = False,
    answers: int = 0,
    without: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What the launcher is told. `answers`: lines on file descriptor 3 that each start the clock anew; `without`:
    protections not to use, of "namespaces", "landlock" and "seccomp", as on a machine that does not have them."""
    if MAIN in (files or {}):
        raise LuhuoError(tr(f"{MAIN} is the code itself.", f"{MAIN} 就是代码本身。"), where="files")
    given = {MAIN: code, **(files or {})}
    for name in given:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise LuhuoError(
                tr("A file of the sandbox must lie in its folder.", "沙箱的文件必须位于其文件夹内。"), found=name
            )
    libraries = interpreter_paths(packages)
    environment = {
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
    if packages:
        environment["PYTHONPATH"] = os.pathsep.join(_site_packages())
    return {
        "command": [interpreter(), "-s", "-S", MAIN],
        "environment": environment,
        "files": {name: _coded(content) for name, content in given.items()},
        "stdin": _coded(stdin),
        "readable": libraries,
        "limits": (limits or Limits()).model_dump(),
        "answers": answers,
        "weak": weak,
        "without": list(without),
        "parent": os.getpid(),
    }


def launch(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run a request in a launcher and return its report. Raises `LuhuoError` or `RunFailed` if there is none."""
    if not sys.platform.startswith("linux"):
        raise LuhuoError(
            tr("The sandbox needs Linux.", "沙箱需要 Linux。"),
            found=sys.platform,
            fix=tr("Run this in a Linux container or virtual machine.", "请在 Linux 容器或虚拟机中运行。"),
        )
    place = Path(tempfile.mkdtemp(prefix="luhuo-sandbox-"))
    try:
        (place / "box").mkdir(mode=0o700)
        report = _launched(wanted | {"place": str(place)})
    finally:
        _remove(place)
    if "refused" in report:
        raise refused(tuple(report["refused"]))
    if "failed" in report:
        raise RunFailed(tr("The sandbox could not be set up.", "沙箱无法建立。"), found=report["failed"])
    return report


def outcome(report: dict[str, Any]) -> Outcome:
    """The outcome of a launcher's report."""
    code = report.get("code")
    status: Status = report["verdict"] or ("ok" if code == 0 else "error")
    if status == "error" and _out_of_time(report):
        status, code = "time", None
    if status == "error" and report["stderr"].rstrip().rpartition("\n")[2].startswith("MemoryError"):
        status = "memory"
    return Outcome(
        status=status,
        exit_code=code if status in ("ok", "error") else None,
        stdout=report["stdout"],
        stderr=report["stderr"],
        seconds=report["seconds"],
        memory=report["memory"],
        answers=report["answers"],
        missing=tuple(report["missing"]),
    )


def _out_of_time(report: dict[str, Any]) -> bool:
    """Whether the kernel ended a program for its processor time: by the signal for that, or, where it was ignored,
    by the one that cannot be."""
    return report["code"] == -signal.SIGXCPU or (
        report["code"] == -signal.SIGKILL and report["cpu"] >= report["limit"]
    )


def _launched(wanted: dict[str, Any]) -> dict[str, Any]:
    """A launcher's report; a second one is started without namespaces where the first could not make use of them."""
    report = _report(wanted)
    if "failed" in report and "namespaces" not in wanted["without"]:
        return _report(wanted | {"without": [*wanted["without"], "namespaces"]})
    return report


def _report(wanted: dict[str, Any]) -> dict[str, Any]:
    command = [interpreter(), "-I", "-S", "-c", _START, str(Path(__file__).parent)]
    process = subprocess.Popen(
        command,
        env={},
        cwd="/",
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    patience = wanted["limits"]["seconds"] * (wanted["answers"] + 1) + GRACE_S
    try:
        said, complaint = process.communicate(json.dumps(wanted).encode(), timeout=patience)
    except BaseException as error:
        process.kill()
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise RunFailed(
            tr("The sandbox did not end in time.", "沙箱未能按时结束。"), expected=f"{patience:.0f} s"
        ) from None
    try:
        return json.loads(said) | {"limit": wanted["limits"]["cpu_seconds"]}
    except ValueError:
        found = complaint.decode("utf-8", errors="replace").strip()[-2000:] or f"exit code {process.returncode}"
        raise RunFailed(tr("The sandbox ended without a report.", "沙箱没有给出报告。"), found=found) from None


@cache
def interpreter() -> str:
    """The interpreter that guests run in: the one below any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@cache
def interpreter_paths(packages: bool) -> list[str]:
    """Files and folders that a guest can read, none inside another, links followed."""
    below = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    own = [sysconfig.get_path(name, vars=below) for name in ("stdlib", "platstdlib")]
    own += [sysconfig.get_config_var("LIBDIR")]  # where a shared libpython lies
    own += [interpreter(), *(_site_packages() if packages else ())]
    paths = {os.path.realpath(path) for path in own if path and Path(path).exists()}
    paths |= {real for path in SYSTEM if Path(path).exists() for real in (path, os.path.realpath(path))}
    return sorted(path for path in paths if not any(path.startswith(other + "/") for other in paths))


def _site_packages() -> tuple[str, ...]:
    """Folders of installed packages."""
    return tuple(
        path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and Path(path).is_dir()
    )


def _coded(content: str | bytes) -> str:
    return base64.b64encode(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content).decode()


def _remove(place: Path) -> None:
    """Remove the folder of a run, also what a guest has closed to its owner."""

    def open_up(function: Any, path: str, error: Any) -> None:
        Path(path).parent.chmod(0o700)
        Path(path).chmod(0o700, follow_symlinks=os.chmod not in os.supports_follow_symlinks)
        function(path)

    shutil.rmtree(place, onerror=open_up)
