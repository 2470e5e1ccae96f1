"""Stages that take no time, for tests of artifacts and recipes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar

from luhuo.core.artifact import Workspace
from luhuo.core.config import Input, field
from luhuo.core.stage import Stage


class WriteStage(Stage):
    """Write a text."""

    text: str = field(..., "Text to write.", "要写的文本。")
    score: float = field(1.0, "A result.", "一个结果。")

    def run(self, out: Workspace) -> None:
        (out.path / "text.txt").write_text(self.text, encoding="utf-8")
        (out.path / "more").mkdir()
        (out.path / "more" / "extra.txt").write_text("extra", encoding="utf-8")
        out.sources.append({"name": "poem", "reference": "nowhere", "sha256": "0", "licence": "CC0", "bytes": 4})
        out.metrics.write(step=1, loss=2.0)
        out.results["score"] = self.score


class JoinStage(Stage):
    """Join files, one a line, in a way that can be cut off after each."""

    resumable: ClassVar[bool] = True

    parts: list[Input] = field(..., "Files to join.", "要连接的文件。")
    die_after: int = field(-1, "Kill this process after so many files.", "处理这么多文件后杀死进程。")

    def run(self, out: Workspace) -> None:
        done = out.path / "joined.txt"
        count = len(done.read_text().splitlines()) if done.exists() else 0
        out.results["resumed_at"] = count
        for i, part in enumerate(self.parts[count:], count):
            if i == self.die_after and not count:
                os.kill(os.getpid(), signal.SIGKILL)
            with done.open("a") as handle:
                handle.write(Path(part).read_text().strip() + "\n")
        out.results["lines"] = len(self.parts)


class FailStage(Stage):
    """Fail with an operating-system error after half the work."""

    error: int = field(..., "Number of the error.", "错误号。")

    def run(self, out: Workspace) -> None:
        (out.path / "half.txt").write_text("half")
        raise OSError(self.error, os.strerror(self.error), str(out.path / "rest.txt"))
