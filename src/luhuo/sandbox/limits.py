"""How much a guest may use, and how its run went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luhuo.core.config import Config, field

Status = Literal["ok", "error", "time", "memory", "processes", "output", "disk"]


class Limits(Config):
    """What a guest may use. Beyond any of them it is ended."""

    seconds: float = field(
        10.0, "Wall time of a run, or of each answer of one.", "一次运行（或每个答案）的墙钟秒数。", gt=0
    )
    cpu_seconds: float = field(10.0, "Processor time of each process.", "每个进程的 CPU 秒数。", gt=0)
    memory: int = field(512 << 20, "Bytes of memory of all its processes.", "所有进程的内存字节数。", ge=32 << 20)
    processes: int = field(16, "Processes and threads.", "进程与线程数。", ge=1)
    output: int = field(1 << 20, "Bytes it may say on each of its streams.", "每个输出流的字节数。", ge=1024)
    disk: int = field(64 << 20, "Bytes of its files.", "文件总字节数。", ge=4096)
    files: int = field(1000, "Number of its files and folders.", "文件与文件夹个数。", ge=8)


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    `status` "ok": the program ended by itself with exit code 0. It says nothing of what it computed, and its text
    must never be taken for a verdict: the program chooses both. "error": another exit code, or a signal (negative).
    The others: the limit it passed, and there is no exit code.
    """

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    memory: int
    """The most bytes its processes held at one time, as far as was seen."""
    answers: str = ""
    """What it wrote to file descriptor 3."""
    missing: tuple[str, ...] = ()
    """Protections that this machine does not give (`protections.WHAT` says what they are)."""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.status == "ok"
