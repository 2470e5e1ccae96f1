"""The sandbox's own process: reads what to run from standard input, runs it behind all protections, and says how it
went on standard output. It is started anew for each run, so it has one thread and no memory worth stealing."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sys
import time
from typing import Any

from . import calls, family, guest, system, tree
from .guest import Isolation
from .watch import Watch

ROOMS = system.CLONE_NEWNS | system.CLONE_NEWPID | system.CLONE_NEWNET | system.CLONE_NEWIPC | system.CLONE_NEWUTS


def main() -> None:
    """One run, from request to report, both JSON."""
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
    request = json.load(sys.stdin.buffer)
    if os.getppid() != request["parent"]:
        return  # the parent ended before it could be watched
    print(json.dumps(run(request)), flush=True)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a guest. The report has `code` (its exit code, negative: the signal that ended it; None: it was ended for
    passing a limit, then `verdict` says which), what it said, `seconds`, `memory`, and what protections are missing;
    or `refused` (the missing ones) or `failed` (the surroundings could not be made)."""
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    isolation, reason = _isolate(request)
    system.prctl(system.PR_SET_DUMPABLE, 0)  # no guest can look into this process, even one of the same user
    box = None if isolation.namespaces else os.path.join(request["place"], "box")
    inputs, outputs = os.pipe(), [os.pipe() for _ in range(4)]  # stdin; stdout, stderr, answers, report
    started = time.monotonic()
    keeper = os.fork()
    if keeper == 0:
        os.close(inputs[1])
        for reading, _ in outputs:
            os.close(reading)
        _keep(request, isolation, (inputs[0], *(writing for _, writing in outputs[:3])), outputs[3][1])
    os.close(inputs[0])
    for _, writing in outputs:
        os.close(writing)
    watch = Watch(request["limits"], base64.b64decode(request["stdin"]), request["answers"], box)
    watch.run(inputs[1], dict(zip(watch.said, (reading for reading, _ in outputs), strict=True)))
    seconds = time.monotonic() - started
    os.kill(keeper, signal.SIGKILL)  # the first process of a namespace takes all others with it
    family.end(os.getpid())
    watch.rest()
    return _report(watch, seconds) | {"namespaces": reason}


def _isolate(request: dict[str, Any]) -> tuple[Isolation, str]:
    """Leave the parent's namespaces, as root or through a user namespace; ("" or why there are none)."""
    own = _own_user()
    if "namespaces" in request["without"]:
        reason = "not asked for"
    elif calls.machine() not in calls.MACHINES:
        reason = f"unknown processor {calls.machine()}"
    else:
        try:
            return _unshare(own, request["command"][0]), ""
        except OSError as error:
            reason = str(error)
    if own is not None and not guest.open_to_all(request["command"][0]):
        own = None
    return Isolation(False, own, 0 if own is not None else family.tasks_of(os.getuid())), reason


def _own_user() -> int | None:
    """A user that no other process has, if this one is root and may become it; in containers not all users exist."""
    needed = 1 << system.CAP_CHOWN | 1 << system.CAP_SETGID | 1 << system.CAP_SETUID
    if os.getuid() != 0 or system.capabilities() & needed != needed:
        return None
    candidates = (guest.OWN_IDS + os.getpid(), guest.SMALL_OWN_IDS + os.getpid() % 5000)
    maps = [system.mapped(name) for name in ("uid_map", "gid_map")]
    return next((user for user in candidates if all(any(user in some for some in each) for each in maps)), None)


def _unshare(own: int | None, python: str) -> Isolation:
    if own is not None:
        try:
            system.unshare(ROOMS)
            return Isolation(True, own, 0)
        except OSError:
            pass  # root of a container without the right to mount: a user namespace gives it
    user, group = os.getuid(), os.getgid()
    counted = family.tasks_of(user) if _kernel() < (5, 14) else 0  # older ones count over all namespaces
    system.unshare(system.CLONE_NEWUSER | ROOMS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    return Isolation(True, None, counted)


def _kernel() -> tuple[int, ...]:
    release = os.uname().release.split("-")[0].split(".")
    return tuple(int(part) for part in release[:2] if part.isdecimal())


def _keep(request: dict[str, Any], isolation: Isolation, streams: tuple[int, ...], report: int) -> None:
    """The guest's keeper, the first process of its namespace: makes the file tree, starts the guest, waits for it,
    reports how it ended, and ends; never returns."""
    try:
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        guest.reset_signals()
        os.setsid()
        limits, machine = request["limits"], calls.machine()
        box = os.path.join(request["place"], "box")
        if isolation.namespaces:
            tree.build(request["place"], request["readable"], limits["disk"], limits["files"], machine)
            box = tree.BOX
        owner = None if isolation.user is None else (isolation.user, isolation.user)
        files = {name: base64.b64decode(content) for name, content in request["files"].items()}
        tree.write_files(box, files, owner)
        child = os.fork()
        if child == 0:
            system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
            guest.enter(request, isolation, box, streams, report)
        for stream in streams:
            os.close(stream)
        status, usage = _wait(child)
        guest.tell(
            report, code=os.waitstatus_to_exitcode(status), cpu=usage.ru_utime + usage.ru_stime, peak=usage.ru_maxrss
        )
    except BaseException as error:  # also of a forked child: nothing may run on behind this line
        guest.tell(report, failed=f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    """Wait for the guest; orphans that come to this process are taken note of on the way."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            return status, usage


def _report(watch: Watch, seconds: float) -> dict[str, Any]:
    told: dict[str, Any] = {"missing": []}
    for line in watch.said.pop("report").splitlines():
        told |= json.loads(line)
    said = {name: text.decode("utf-8", errors="replace") for name, text in watch.said.items()}
    memory = max(watch.peak, told.pop("peak", 0) << 10)
    return told | said | {"verdict": watch.verdict, "seconds": seconds, "memory": memory}
