"""Which protections this machine gives to a guest, and what it means where one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

NEEDED = ("files", "network", "processes")
"""Without one of these nothing is run unless the caller says `weak=True`."""


def what(name: str) -> str:
    """A missing protection in words."""
    return {
        "files": tr("files: it can read what its user can read", "文件：可读取其用户能读的一切"),
        "network": tr("network: it can open connections", "网络：可建立连接"),
        "processes": tr("processes: it can signal others of its user", "进程：可向同一用户的其他进程发信号"),
        "kernel": tr("system calls: all of the kernel's can be tried", "系统调用：可尝试内核的全部调用"),
        "user": tr("user: it stays root, without capabilities", "用户：仍为 root，但无任何特权"),
    }[name]


def in_words(names: tuple[str, ...]) -> str:
    """Missing protections in words."""
    return "; ".join(map(what, names))


@dataclass(frozen=True)
class Protections:
    """What a trial run found. `namespaces`: "" or why the guest has none of its own."""

    missing: tuple[str, ...]
    namespaces: str

    @property
    def enough(self) -> bool:
        """Whether guests are run here without `weak=True`."""
        return not set(self.missing) & set(NEEDED)


@cache
def protections() -> Protections:
    """Try them with a guest that does nothing. Raises `LuhuoError` where there is no sandbox at all."""
    from luhuo.sandbox.runner import launch, request

    report = launch(request("pass", weak=True))
    return Protections(tuple(report["missing"]), report["namespaces"])


def refused(names: tuple[str, ...]) -> LuhuoError:
    """The error for a machine that does not protect enough."""
    return LuhuoError(
        tr("This machine cannot hold untrusted code.", "本机无法安全运行不可信的代码。"),
        expected=", ".join(NEEDED),
        found=tr("missing: ", "缺少：") + in_words(names),
        fix=tr(
            "Allow user namespaces or Landlock (Linux 5.13) and seccomp; or accept the risk with `weak: true` "
            "on a machine that holds nothing of value.",
            "请允许用户命名空间或 Landlock（Linux 5.13）以及 seccomp；"
            "或在没有重要内容的机器上用 `weak: true` 接受风险。",
        ),
    )
