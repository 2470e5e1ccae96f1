"""`luhuo serve`: load the models, listen, and leave in good order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Iterator, Sequence

from luhuo.core import processes
from luhuo.core.errors import EXIT_FAILED, EXIT_OK, LuhuoError, RunFailed, missing_extra
from luhuo.core.language import tr
from luhuo.core.listening import bound
from luhuo.core.progress import say
from luhuo.serve.config import ServeConfig
from luhuo.serve.keys import Keys

try:
    import uvicorn

    from luhuo.serve.adapters import load_named
    from luhuo.serve.app import create_app
    from luhuo.serve.house import House
    from luhuo.serve.served import Served, named
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "uvicorn", "starlette"):
        raise
    raise missing_extra(error.name, "serve") from None

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECTIONS = 4096
"""Connections that may wait to be accepted."""


def serve(models: Sequence[str], config: ServeConfig) -> int:
    """Serve models until a signal comes, and return the exit code. Raises `LuhuoError` before anything is loaded
    where settings, keys or the address are not right."""
    keys = Keys.read(config.keys)
    pairs = named(list(models))
    _check_engine(config)
    if config.engine == "ray":
        from luhuo.serve.ray_replicas import serve_with_ray

        _warn(config, keys)
        return serve_with_ray(pairs, config, _loaded)
    if processes.count() > 1:
        return _serve_divided(pairs, config, keys)
    with _listening(config) as listener:
        _warn(config, keys)
        return _run([_loaded(name, reference, config) for name, reference in pairs], config, keys, listener)


def _check_engine(config: ServeConfig) -> None:
    """Raise `LuhuoError` for settings of another engine."""
    if config.engine == "own" and (config.replicas > 1 or config.threads > 1):
        raise LuhuoError(
            tr("Replicas and their threads need another engine.", "副本及其线程数需要另一种引擎。"),
            fix="--engine ray",
        )
    if config.engine == "ray" and config.adapter_root is not None:
        raise LuhuoError(
            tr("With replicas, nothing is loaded over HTTP.", "使用副本时不能经 HTTP 加载。"),
            found="--adapter-root",
            fix=tr("Name adapters with --adapter.", "请用 --adapter 指定适配器。"),
        )


def _serve_divided(pairs: Sequence[tuple[str, str]], config: ServeConfig, keys: Keys) -> int:
    """The same in several processes that share one model. Raises `LuhuoError` for several models."""
    from luhuo.serve.divided import divided

    if len(pairs) > 1:
        raise LuhuoError(
            tr("Several processes serve one model together.", "多个进程共同提供一个模型。"),
            expected="1",
            found=len(pairs),
        )
    with contextlib.ExitStack() as held:
        listener = held.enter_context(_listening(config)) if processes.is_main() else None
        if listener is not None:
            _warn(config, keys)
            say(tr(f"Loading {pairs[0][0]} …", f"正在加载 {pairs[0][0]} …"))
        served = held.enter_context(divided(*pairs[0], config.dtype, config.device))
        return EXIT_OK if served is None or listener is None else _run([served], config, keys, listener)


def _run(models: list[Served], config: ServeConfig, keys: Keys, listener: socket.socket) -> int:
    house = House(config, models, keys)
    try:
        load_named(house.models, config.adapters)
        return asyncio.run(_serve(house, listener))
    finally:
        house.close()


def _warn(config: ServeConfig, keys: Keys) -> None:
    if config.host not in LOOPBACK and not keys.required:
        say(
            tr(
                "Anyone who reaches this address may use the models: no --keys were given.",
                "未设置 --keys：能访问此地址的任何人都可使用模型。",
            )
        )


def _loaded(name: str, reference: str, config: ServeConfig) -> Served:
    from luhuo.adapter.open import open_model

    say(tr(f"Loading {name} …", f"正在加载 {name} …"))
    served = Served.of(name, open_model(reference, config.dtype, config.device), reference)
    gc.collect()
    return served


@contextlib.contextmanager
def _listening(config: ServeConfig) -> Iterator[socket.socket]:
    """The socket, bound before the models are loaded. Raises `LuhuoError` when the address is taken or not ours."""
    try:
        listener = bound(config.host, config.port)
    except OSError as error:
        raise LuhuoError(
            tr("The server cannot listen here.", "服务器无法在此监听。"),
            found=error.strerror or error,
            where=f"{config.host}:{config.port}",
            fix=tr("Choose another --port or --host.", "换一个 --port 或 --host。"),
        ) from None
    try:
        yield listener
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """Leaves signals to us: new requests get 503 while those that run are finished."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(house: House, listener: socket.socket) -> int:
    config = house.config
    server = _Server(
        uvicorn.Config(
            create_app(house),
            log_level="error",
            access_log=False,
            lifespan="off",
            server_header=False,
            backlog=CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
    )
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():  # the second signal: now
            server.should_exit = server.force_exit = True
        house.admission.draining = True
        asked.set()

    for kind in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(kind, stop)
    port = listener.getsockname()[1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if server.started:
        say(tr(f"Serving at http://{host}:{port}", f"服务地址：http://{host}:{port}"))
    drained = asyncio.create_task(_drain(house, server, asked))
    await asyncio.wait({running, drained}, return_when=asyncio.FIRST_COMPLETED)
    await running
    if not drained.done():
        drained.cancel()
        raise RunFailed(tr("The server ended by itself.", "服务器意外结束。"))
    return EXIT_OK if drained.result() else EXIT_FAILED


async def _drain(house: House, server: uvicorn.Server, asked: asyncio.Event) -> bool:
    """After a signal wait for what runs, then end the server. Whether everything was finished in time."""
    await asked.wait()
    waiting = house.admission.requests
    if waiting:
        say(tr(f"Finishing {waiting} requests …", f"正在完成 {waiting} 个请求 …"))
    end = asyncio.get_running_loop().time() + house.config.drain_s
    while house.admission.requests and asyncio.get_running_loop().time() < end and not server.force_exit:
        await asyncio.sleep(0.02)
    left = house.admission.requests
    if left:
        say(tr(f"{left} requests were cut off.", f"{left} 个请求被中断。"))
        for served in house.models:
            served.close(drain=False)
    server.should_exit = True
    return not left
