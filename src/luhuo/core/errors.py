"""Errors that speak to the person who can fix them, and the exit codes of the command line."""

from __future__ import annotations

import errno

from luhuo.core.language import tr

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 75


class LuhuoError(Exception):
    """Bad input. The message says what is wrong, what was expected, what was found, where, and what to do."""

    exit_code = EXIT_BAD_INPUT

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        found: object = None,
        where: object = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.expected, self.found, self.where, self.fix = problem, expected, found, where, fix
        super().__init__(problem)

    def __str__(self) -> str:
        parts = (
            (tr("expected", "应为"), self.expected),
            (tr("found", "实为"), self.found),
            (tr("where", "位置"), self.where),
            (tr("what to do", "怎么办"), self.fix),
        )
        lines = [f"  {label}: {value}" for label, value in parts if value is not None]
        return "\n".join([self.problem, *lines])


class RunFailed(LuhuoError):
    """The input was fine, the run was not (a full disk, a loss that is not finite)."""

    exit_code = EXIT_FAILED


class RequirementMissed(RunFailed):
    """A stage finished, and its result misses a requirement of the recipe."""


class Interrupted(LuhuoError):
    """Stopped by the user or a signal; the same command continues."""

    exit_code = EXIT_INTERRUPTED


def missing_extra(package: str, extra: str) -> LuhuoError:
    """The error for an optional dependency that is not installed."""
    return LuhuoError(
        tr(f"The package {package} is needed here and is not installed.", f"这里需要软件包 {package}，但没有安装。"),
        fix=f"pip install 'luhuo[{extra}]'",
    )


def from_os_error(error: OSError) -> RunFailed | None:
    """Turn a full disk or a forbidden place into a message; None for every other operating-system error."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunFailed(
            tr("This place may not be read or written.", "没有读写此处的权限。"),
            found=error.strerror,
            where=error.filename,
            fix=tr("Give yourself the permission, or choose another place.", "请取得权限，或换一个位置。"),
        )
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return RunFailed(
        tr("The disk is full.", "磁盘已满。"),
        found=error.strerror,
        where=error.filename,
        fix=tr(
            "Free some space and run the same command again; finished stages are kept.",
            "腾出空间后重新运行同一命令；已完成的阶段会保留。",
        ),
    )
