"""The command line in processes that are copies of one that has imported torch (`forkserver`, set up in conftest.py):
importing it anew takes each of them seconds."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

from luhuo import cli

ROOT = Path(__file__).parent.parent
WAIT_S = 500


def luhuo(
    *words: str, cwd: Path = ROOT, stdin: str = "", environment: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """Run `luhuo WORDS` to its end."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "0").write_text(stdin, encoding="utf-8")
        process = start(*words, cwd=cwd, environment=environment, streams=Path(name))
        try:
            process.join(WAIT_S)
        finally:
            process.kill()  # where it has not come to its end
            process.join()
        told = [Path(name, stream).read_text(encoding="utf-8") for stream in "12"]
    return CompletedProcess(words, process.exitcode, *told)


def start(
    *words: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None, streams: Path | None = None
) -> BaseProcess:
    """Start `luhuo WORDS`. It reads the file `0` of the folder `streams` and writes `1` and `2`, or nothing."""
    environment = dict(os.environ if environment is None else environment)
    process = get_context("forkserver").Process(target=_command, args=(words, cwd, environment, streams))
    process.start()
    return process


def _command(words: tuple[str, ...], cwd: Path, environment: dict[str, str], streams: Path | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(os.devnull if streams is None else streams / str(number), flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (those of the forkserver are others)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["luhuo", *words]
    cli.main()
