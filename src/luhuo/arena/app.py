"""The arena's server: battles of two unnamed models, votes, and the leaderboard.

The page learns who wrote what only from the answer to its vote. What a person calls themselves keeps their votes
together; it is a name, not a secret.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from luhuo.arena.battle import turn
from luhuo.arena.board import board
from luhuo.arena.matching import draw
from luhuo.arena.players import Player
from luhuo.arena.store import Store, Turn
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.votes import Winner
from luhuo.rank.app import NAME
from luhuo.rank.local_app import Desk, local_app

PAGE = Path(__file__).parent / "page"
TURNS = 16
"""Most turns of a battle."""
AT_ONCE = 16
"""Answers written at the same time."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BattleBody(_Body):
    """POST /api/battles."""

    judge: Annotated[str, Field(min_length=1, max_length=NAME, pattern=r"\S")]


class TurnBody(_Body):
    """POST /api/battles/{name}/turns."""

    prompt: Annotated[str, Field(min_length=1, max_length=16_000, pattern=r"\S")]


class VoteBody(_Body):
    """POST /api/battles/{name}/vote."""

    winner: Winner
    seconds: Annotated[float, Field(ge=0, le=1e6)] = 0.0


def create_app(
    path: str | Path, players: Sequence[Player], hosts: tuple[str, ...] = (), seed: int | None = None, title: str = ""
) -> FastAPI:
    """The application over the votes in `path`; `seed` makes the pairing repeatable (for tests and demonstrations)."""
    app = local_app(PAGE, hosts, "arena.css")
    desk, by_name = Desk(Store(path)), {player.name: player for player in players}
    chance, pool = random.Random(seed), ThreadPoolExecutor(AT_ONCE, thread_name_prefix="arena")
    busy: set[str] = set()

    @app.get("/api/arena")
    async def arena() -> dict[str, Any]:
        return {"title": title, "models": len(by_name), "turns": TURNS}

    @app.post("/api/battles", status_code=201)
    async def begin(body: BattleBody) -> dict[str, Any]:
        def work(store: Store) -> dict[str, Any]:
            a, b = draw(sorted(by_name), store.counts(), chance)
            return {"battle": store.begin(body.judge.strip(), a, b)}

        return await desk.run(work)

    @app.post("/api/battles/{name}/turns")
    async def say(name: str, body: TurnBody) -> Response:
        battle = await desk.run(lambda store: store.battle(name))
        if battle.turns and battle.turns[-1].failed:  # asked again, as if it had not been
            battle = replace(battle, turns=battle.turns[:-1])
        if battle.winner is not None or len(battle.turns) >= TURNS or name in busy:
            raise LuhuoError(tr("This battle takes no more turns.", "这场对战不再接受新的提问。"))
        lost = [model for model in (battle.model_a, battle.model_b) if model not in by_name]
        if lost:
            raise LuhuoError(tr("A model of this battle is not here any more.", "这场对战的模型已不在此处。"))
        busy.add(name)

        async def keep(made: Turn) -> None:
            await desk.run(lambda store: store.add_turn(name, made))

        async def events() -> AsyncIterator[bytes]:
            try:
                async for event in turn(battle, body.prompt, by_name, pool, keep):
                    yield b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
            finally:
                busy.discard(name)

        return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @app.post("/api/battles/{name}/vote", status_code=201)
    async def vote(name: str, body: VoteBody) -> dict[str, Any]:
        if name in busy:
            raise LuhuoError(tr("The answers are still being written.", "回答尚未写完。"))
        battle = await desk.run(lambda store: store.vote(name, body.winner, body.seconds))
        return {"models": {"a": battle.model_a, "b": battle.model_b}, "winner": battle.winner}

    @app.get("/api/leaderboard")
    async def leaderboard(style: bool = False) -> dict[str, Any]:
        votes = await desk.run(lambda store: list(store.votes()))
        return await run_in_threadpool(lambda: board(votes, style=style, names=sorted(by_name)))

    return app
