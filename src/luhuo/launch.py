"""Start the processes of a distributed run on one machine, and end with the exit code that says what to do next.

python -m luhuo.launch --processes 8 -- pretrain --config base.yaml parallel='{fsdp: 0}'

It is `torchrun` with an exit code: `torchrun` ends with 1 whatever its processes said, and kills them 30 seconds after
a SIGTERM. Here SIGTERM and SIGINT go to every process once, all of them are waited for, and 75 (interrupted, start me
again) is passed on, on which job schedulers restart. When one fails, the others are told, and killed if they do not
leave.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from luhuo.core.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from luhuo.core.language import tr

PATIENCE_S = 60.0
"""How long the others have to leave after one has failed."""
LOOK_S = 0.1


def launch(command: Sequence[str], processes: int, nodes: int = 1, node: int = 0, master: str = "") -> int:
    """Run `command` in `processes` processes that find each other at `master` (HOST:PORT); the exit code of them all.

    EXIT_FAILED or another code of a failure goes before EXIT_INTERRUPTED, and that before EXIT_OK.
    """
    host, _, port = (master or f"127.0.0.1:{_free_port()}").rpartition(":")
    shared = {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": str(nodes * processes)}
    shared |= {"LOCAL_WORLD_SIZE": str(processes)}
    if "OMP_NUM_THREADS" not in os.environ and processes > 1:
        shared["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    running: list[subprocess.Popen[bytes]] = []
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for process in running:
            process.send_signal(number)

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for local in range(processes):
            own = {"RANK": str(node * processes + local), "LOCAL_RANK": str(local)}
            # A session of its own: what a terminal or a scheduler sends to the group comes once, from here.
            running.append(subprocess.Popen(command, env={**os.environ, **shared, **own}, start_new_session=True))
            if told:
                running[-1].send_signal(told[0])
        return _wait(running)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(running: list[subprocess.Popen[bytes]]) -> int:
    deadline: float | None = None
    while None in [process.poll() for process in running]:
        failed = any(process.returncode not in (None, EXIT_OK, EXIT_INTERRUPTED) for process in running)
        if failed and deadline is None:
            deadline = time.monotonic() + PATIENCE_S
            for process in running:
                process.terminate()
        if deadline is not None and time.monotonic() > deadline:
            for process in running:
                process.kill()
        time.sleep(LOOK_S)
    codes = [process.returncode for process in running]
    failures = [code for code in codes if code not in (EXIT_OK, EXIT_INTERRUPTED)]
    for rank, code in enumerate(codes):
        if code < 0:
            print(tr(f"luhuo: process {rank} was killed by signal {-code}", f"luhuo：进程 {rank} 被信号 {-code} 终止"),
                  file=sys.stderr)  # fmt: skip
    if failures:
        return next((code for code in failures if code > 0), EXIT_FAILED)
    return EXIT_INTERRUPTED if EXIT_INTERRUPTED in codes else EXIT_OK


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: options, `--`, and what `luhuo` is to do."""
    parser = argparse.ArgumentParser(
        prog="python -m luhuo.launch",
        usage="python -m luhuo.launch [--processes N] [--nodes N --node I --master HOST:PORT] -- COMMAND …",
        description=tr("Start a distributed run on this machine.", "在本机启动分布式运行。"),
    )
    parser.add_argument("--processes", type=int, default=1, help=tr("Processes on this machine.", "本机进程数。"))
    parser.add_argument("--nodes", type=int, default=1, help=tr("Machines.", "机器数。"))
    parser.add_argument(
        "--node", type=int, default=0, help=tr("Number of this machine, from 0.", "本机编号，从 0 起。")
    )
    parser.add_argument(
        "--master", default="", help=tr("HOST:PORT of machine 0, for several machines.", "多机时 0 号机的 HOST:PORT。")
    )
    parser.add_argument("command", nargs="+", help=tr("What luhuo is to do.", "luhuo 要执行的命令。"))
    given = parser.parse_args(arguments)
    wrong = given.processes < 1 or not 0 <= given.node < given.nodes or (given.nodes > 1 and ":" not in given.master)
    if wrong:
        parser.print_usage(sys.stderr)
        print(
            tr(
                "luhuo: expected processes >= 1, 0 <= node < nodes, and a master HOST:PORT for several nodes",
                "luhuo：应满足 processes >= 1、0 <= node < nodes；多机时须给出 master HOST:PORT",
            ),
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    command = [sys.executable, "-m", "luhuo", *given.command]
    return launch(command, given.processes, given.nodes, given.node, given.master)


if __name__ == "__main__":
    sys.exit(main())
