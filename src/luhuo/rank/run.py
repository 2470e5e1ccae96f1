"""`luhuo rank serve`: the page until a signal comes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr
from luhuo.core.listening import bound
from luhuo.core.progress import say

try:
    import uvicorn
    from fastapi import FastAPI

    from luhuo.rank.app import create_app
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "uvicorn", "starlette"):
        raise
    raise missing_extra(error.name, "serve") from None

from luhuo.serve.guard import LOOPBACK


def serve(project: Path, host: str, port: int, hosts: tuple[str, ...]) -> None:
    """Listen at an address. Raises `LuhuoError` when it is taken, or the project is none."""
    told = tr("Rank at", "排序页面："), tr("every judgement is kept", "所有评判都已保存")
    listen(lambda: create_app(project, (*hosts, host)), host, port, told)


def listen(make: Callable[[], FastAPI], host: str, port: int, told: tuple[str, str]) -> None:
    """Serve the application that `make` makes, once the address is ours, until a signal comes.

    `told`: what stands before the address, and what is certain at the end. Raises `LuhuoError`.
    """
    try:
        listener = bound(host, port)
        listener.listen()  # who calls as soon as the address is told waits until the page is there
    except OSError as error:
        raise LuhuoError(
            tr("The page cannot be opened at this address.", "无法在此地址打开网页。"),
            found=error.strerror or error,
            where=f"{host}:{port}",
            fix=tr("Choose another --port or --host.", "换一个 --port 或 --host。"),
        ) from None
    with listener:
        application = make()
        shown = f"[{host}]" if ":" in host else host
        say(told[0] + f" http://{shown}:{listener.getsockname()[1]}/")
        if host not in LOOPBACK:
            say(tr("Whoever reaches this address may judge.", "能访问此地址的任何人都可评判。"))
        config = uvicorn.Config(application, log_level="error", access_log=False, lifespan="off", server_header=False)
        with contextlib.suppress(KeyboardInterrupt):  # stopping the page is its proper end
            uvicorn.Server(config).run(sockets=[listener])
        say(tr(f"Stopped; {told[1]}.", f"已停止；{told[1]}。"))
