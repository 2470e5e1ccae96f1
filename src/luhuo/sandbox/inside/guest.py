"""The last steps before the guest's program: what it may use, what it gives up, and who it is."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
from dataclasses import dataclass
from typing import Any

from . import calls, landlock, seccomp, system

OWN_IDS = 1 << 30
"""From here on, users that no system gives to a person; each sandbox of root's takes one of them."""
SMALL_OWN_IDS = 60_000
"""The same in containers that have 65,536 users."""
SLACK = 128 << 20
"""Address space beyond the memory limit: libraries and stacks are mapped and hardly used."""
OPEN_FILES = 64
STACK = 8 << 20


@dataclass(frozen=True)
class Isolation:
    """What the guest's surroundings are: `namespaces` of its own, and the user it will be (None: stays who it is)."""

    namespaces: bool
    user: int | None
    tasks: int
    """Processes and threads that count against the user's limit already."""


def enter(request: dict[str, Any], isolation: Isolation, box: str, streams: tuple[int, ...], report: int) -> None:
    """Become the guest and run its program; never returns. `streams` become its files 0 to 3; `report` hears what
    protections are missing, or why it came to nothing, and is closed when the program starts."""
    try:
        report = _only_these(streams, report)
        _become(request, isolation, box, report)
    except BaseException as error:  # nothing of this process may run on, and no failure may look like an empty run
        tell(report, failed=f"{type(error).__name__}: {error}")
    finally:
        os._exit(1)


def _become(request: dict[str, Any], isolation: Isolation, box: str, report: int) -> None:
    reset_signals()
    os.umask(0o077)
    os.chdir(box)
    limits, machine = request["limits"], calls.machine()
    keeps_root = os.getuid() == 0 and isolation.user is None
    _limit(limits, isolation.tasks)
    _give_up(isolation.user)
    missing = _lock(request, isolation, box, machine, processes=limits["processes"] > 1 and not keeps_root)
    missing += ["user"] if keeps_root else []
    if any(name in ("files", "network", "processes") for name in missing) and not request["weak"]:
        tell(report, refused=missing)
        return
    tell(report, missing=missing)
    os.execve(request["command"][0], request["command"], request["environment"] | {"HOME": box, "TMPDIR": box})


def tell(report: int, **values: Any) -> None:
    """One line of JSON to the process that watches."""
    os.write(report, json.dumps(values).encode() + b"\n")


def _only_these(streams: tuple[int, ...], report: int) -> int:
    """Make `streams` the files 0, 1, 2, 3, keep `report` as file 4 until the program starts, close all others."""
    import fcntl

    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 16) for each in (*streams, report)]
    for number, each in enumerate(high):
        os.dup2(each, number, inheritable=number < len(streams))
    os.closerange(len(high), os.sysconf("SC_OPEN_MAX"))
    return len(high) - 1


def reset_signals() -> None:
    """Every signal does what it does by default, and none is held back."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if 32 <= number < signal.SIGRTMIN:
            continue  # the C library keeps these to itself
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _limit(limits: dict[str, Any], tasks: int) -> None:
    """The kernel's own limits, which hold for each process. Nothing of them can be raised again."""
    cpu = int(limits["cpu_seconds"] + 0.999)
    values = {
        resource.RLIMIT_AS: limits["memory"] + SLACK,
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: tasks + limits["processes"],
        # 1, not 0: a limit of 0 does not keep the kernel from starting a program that receives core dumps.
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: STACK,
    }
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    for name, value in values.items():
        most = resource.getrlimit(name)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(name, (value, value))


def _give_up(user: int | None) -> None:
    """Become a user without rights, if root chose one, and give up every capability for ever."""
    with contextlib.suppress(OSError):  # an ordinary user may not, and has nothing to give up
        system.prctl(system.PR_SET_SECUREBITS, system.SECURE_NO_ROOT)
    if user is not None:
        system.drop_bounding_set()  # root still may; the change of user then takes the rest
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    system.drop_capabilities()
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)


def _lock(request: dict[str, Any], isolation: Isolation, box: str, machine: str, processes: bool) -> list[str]:
    """Landlock and the filter of system calls; returns what nothing protects."""
    missing = []
    readable = ["/"] if isolation.namespaces else [path for path in request["readable"] if os.path.exists(path)]
    try:
        if "landlock" in request["without"]:
            raise OSError
        landlock.restrict(readable, [box, "/dev/null"])
    except OSError:
        missing += [] if isolation.namespaces else ["files"]
    try:
        if machine not in calls.MACHINES or "seccomp" in request["without"]:
            raise OSError
        seccomp.install(machine, None if isolation.namespaces else os.getpid(), processes)
    except OSError:
        missing += ["kernel"] if isolation.namespaces else ["kernel", "network", "processes"]
    return missing


def open_to_all(path: str) -> bool:
    """Whether any user may run the file and walk to it."""
    folders = [path]
    while folders[-1] != "/":
        folders.append(os.path.dirname(folders[-1]))
    return all(os.stat(spot).st_mode & stat.S_IXOTH for spot in folders)
