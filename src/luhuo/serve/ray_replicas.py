"""`luhuo serve --engine ray`: copies of the server behind one address, on one machine or a cluster (Ray Serve).

Each replica is a whole server in a process of its own, with its models, its cache and its queue; Ray's proxy sends a
request to the one that has less to do. What one replica alone would know is not offered: loading over HTTP. Limits of
keys count for each replica.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from luhuo.core.errors import EXIT_OK, LuhuoError, RunFailed, missing_extra
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.serve.adapters import load_named
from luhuo.serve.app import create_app
from luhuo.serve.config import ServeConfig
from luhuo.serve.house import House
from luhuo.serve.keys import Keys
from luhuo.serve.served import Served

NAME = "luhuo"
"""Of the application in Ray."""
Load = Callable[[str, str, ServeConfig], Served]
"""Makes a model out of its name and reference."""


class Replica:
    """One copy of the server."""

    def __init__(self, pairs: Sequence[tuple[str, str]], settings: dict[str, Any], load: Load) -> None:
        from ray import serve  # pyright: ignore[reportMissingImports]

        config = ServeConfig.parse(settings, "luhuo serve")
        keys = Keys.read(config.keys)
        for caller in keys.callers:  # what an administrator loads would be there in one replica only
            caller.config = caller.config.model_copy(update={"admin": False})
        self.house = House(config, [load(name, reference, config) for name, reference in pairs], keys)
        load_named(self.house.models, config.adapters)
        self.house.log.always = {"replica": serve.get_replica_context().replica_id.unique_id}
        Forward.app = create_app(self.house)

    def __del__(self) -> None:
        if house := self.__dict__.get("house"):
            house.close()


class Forward:
    """The application that Ray sees: hands each request to the replica that lives in this process."""

    app: ClassVar[ASGIApp | None] = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the beginning and the end of the replica's life (ASGI)."""
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        assert Forward.app is not None
        await Forward.app(scope, receive, send)


def serve_with_ray(pairs: Sequence[tuple[str, str]], config: ServeConfig, load: Load) -> int:
    """Serve until a signal comes, and return the exit code.

    Ray is started on this machine, or found by RAY_ADDRESS. Raises `LuhuoError` where it has not as many cores or GPUs
    as the replicas need.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody outside
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray import serve  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise missing_extra("ray", "ray") from None
    needs = {"num_cpus": config.threads} | ({"num_gpus": 1} if config.device == "cuda" else {})
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, namespace=NAME)
    except Exception as error:  # Ray has no class of its own for what keeps it from starting
        raise RunFailed(
            tr("Ray did not start.", "Ray 未能启动。"),
            found=str(error).partition("\n")[0],
            fix=tr("Look into its logs, /tmp/ray/session_latest/logs.", "请查看其日志 /tmp/ray/session_latest/logs。"),
        ) from error
    try:
        _check_room(ray.cluster_resources(), config.replicas, needs)
        serve.start(http_options={"host": config.host, "port": config.port})
        deployment = serve.deployment(
            num_replicas=config.replicas,
            max_ongoing_requests=config.max_queue,
            ray_actor_options=needs,
            graceful_shutdown_timeout_s=config.drain_s,
        )(serve.ingress(Forward())(Replica))
        say(tr(f"Loading {config.replicas} replicas …", f"正在加载 {config.replicas} 个副本 …"))
        serve.run(deployment.bind(list(pairs), config.model_dump(mode="json"), load), name=NAME, route_prefix="/")
        say(tr(f"Serving at http://{config.host}:{config.port}", f"服务地址：http://{config.host}:{config.port}"))
        _wait_for_signal()
        serve.shutdown()
    finally:
        ray.shutdown()
    return EXIT_OK


def _check_room(has: dict[str, float], replicas: int, needs: dict[str, int]) -> None:
    """Raise `LuhuoError` where replicas would wait for room that will never be there."""
    for kind, key in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        wanted, there = replicas * needs.get(key, 0), has.get(kind, 0)
        if wanted > there:
            raise LuhuoError(
                tr("There is not enough room for so many replicas.", "资源不足以容纳这么多副本。"),
                expected=f"{kind} ≥ {wanted}",
                found=f"{there:g}",
                fix=tr("Use fewer --replicas or --threads.", "请减少 --replicas 或 --threads。"),
            )


def _wait_for_signal() -> None:
    asked = threading.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: asked.set())
    while not asked.wait(0.2):  # a wait without end would not let the handler run
        pass
